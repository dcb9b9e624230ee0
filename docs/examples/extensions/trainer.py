"""A trainer with an optimizer of your own, here Lion with a smooth sign.

Put this file beside your YAML, and write into the YAML:

    trainer: {_target_: trainer.SmoothLion, epochs: 20, batch_size: 16, lr: 0.01, schedule: cosine, clip_grad: 1.0}

`trak train` and `trak retrain` make its steps, and `trak unroll` differentiates them. So `update` must be a pure function: it
changes none of its arguments, and every operation has a derivative (sign has none, so tanh takes its place).
"""

from torch import tanh, zeros_like

from trak_cli.plugins import StepTrainer


class SmoothLion(StepTrainer):
    """Steps along tanh(sharpness · (β₁ m + (1 − β₁) g)), where m is a mean of the gradients g."""

    def __init__(self, epochs, batch_size, lr, sharpness=100.0, betas=(0.9, 0.99), **common):
        super().__init__(epochs, batch_size, lr, **common)  # common: schedule, warmup_steps, clip_grad, cache_mb
        self.sharpness, self.betas = sharpness, betas

    def initial_state(self, params):
        return {"mean": [zeros_like(param) for param in params]}

    def update(self, params, grads, state, step):
        first, second = self.betas
        new, means = [], []
        for param, grad, mean in zip(params, grads, state["mean"], strict=True):
            direction = tanh(self.sharpness * (first * mean + (1 - first) * grad))
            new.append(param - step.lr * direction)  # step.lr follows the schedule; grads are clipped already
            means.append(second * mean + (1 - second) * grad)
        return new, {"mean": means}
