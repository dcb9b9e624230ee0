"""Per-sample gradients of the model output, from (model, task, batch): engines, parameter selection, memory, checks."""
