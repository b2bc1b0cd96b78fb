"""Data: sums of small numbers."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.data import Corpus, DataSource, Example
from cosim.rng import stream


class Sums(DataSource):
    """A sum of two numbers as the prompt, its value as the target; the label is odd or even."""

    kind: Literal["far_sums"] = "far_sums"
    num_train: int = Field(default=60, ge=1, le=100_000)
    num_test: int = Field(default=10, ge=1, le=100_000)
    largest: int = Field(default=20, ge=2)
    seed: int = 0
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"num_train": 30, "largest": 99, "seed": 4})

    def load(self) -> Corpus:
        """Return drawn sums."""
        chance = stream(self.seed, "far sums").generator()
        pairs = chance.integers(0, self.largest + 1, size=(self.num_train + self.num_test, 2)).tolist()
        found = tuple(_example(one, two) for one, two in pairs)
        return Corpus(found[: self.num_train], found[self.num_train :], ("even", "odd"))

    def content_key(self) -> str:
        """Return a hash of the sums."""
        return self.load().digest()


def _example(one: int, two: int) -> Example:
    label = "odd" if (one + two) % 2 else "even"
    return Example(f"{one} plus {two} is", str(one + two), label, {"first": str(one)})
