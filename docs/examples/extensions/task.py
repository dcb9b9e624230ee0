"""A task: the output function f of your own model, here the squared norm of its prediction error.

Put this file beside your YAML, and write into the YAML:

    task: {_target_: task.SquaredError}

A task needs no entry in ``extensions``, because ``_target_`` imports it. Every engine calls the same methods, vmap and the
loop with a batch of one sample: do not branch on values of tensors, and return one number per sample.
"""

import torch
from torch import Tensor, nn

from trak_cli.tasks import Task


class SquaredError(Task):
    """f = −‖model(x) − onehot(y)‖²: the higher, the better the prediction."""

    def output(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        prediction = model(x)
        classes = torch.arange(prediction.shape[1], device=x.device)
        return -(prediction - (classes == y[:, None]).to(prediction)).square().sum(1)

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return -self.output(model, batch)  # only for training: `trak train`, `trak retrain`, `trak unroll`

    def out_to_loss_grad(self, model: nn.Module, batch: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        return torch.ones_like(output)  # the loss is −f, so q = −∂loss/∂f = 1
