"""How good a model is on some samples: the number that a task gives for it, and the number at chance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """A number for some samples together.

    Attributes:
        name: what it is, for example "accuracy".
        value: the number.
        best: the number of a perfect model.
        chance: the number of a model that ignores its input; None if there is no such number.
        noise: the standard deviation of the number at chance over the choice of samples.
    """

    name: str
    value: float
    best: float
    chance: float | None = None
    noise: float = 0.0

    @property
    def knowledge(self) -> float | None:
        """The advantage over chance: 0 at chance, 1 for a perfect model; None if chance is unknown."""
        return None if self.chance is None else (self.value - self.chance) / (self.best - self.chance)

    @property
    def near_chance(self) -> bool:
        """Whether the number is within two standard deviations of chance, or worse; False for too few samples to tell."""
        return self.knowledge is not None and self.knowledge < 2 * self._relative_noise < 0.5

    def far_from(self, other: Quality) -> bool:
        """Whether the advantage over chance is less than half of that on ``other`` samples, beyond noise."""
        if self.knowledge is None or other.knowledge is None:
            return False
        lost = other.knowledge - self.knowledge
        return lost > 0.5 * other.knowledge and lost > 3 * max(self._relative_noise, other._relative_noise)

    @property
    def _relative_noise(self) -> float:
        return 0.0 if self.chance is None else self.noise / abs(self.best - self.chance)


def accuracy(correct: int, count: int, classes: int) -> Quality:
    """The share of samples whose most likely class is the true one."""
    chance = 1 / classes
    return Quality("accuracy", correct / count, 1.0, chance, (chance * (1 - chance) / count) ** 0.5)
