"""What a store knows about the outputs of the model: f, the probability of the label, the predicted class."""
