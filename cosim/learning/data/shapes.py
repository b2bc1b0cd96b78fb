"""Small images that come with cosim: figures drawn by a seed, told apart by their form."""

from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.learning.data import Corpus, DataSource, Example, Image
from cosim.rng import Stream, stream
from cosim.units import Floats

FORMS = ("circle", "cross", "ring", "square", "stripes", "triangle")


class Shapes(DataSource):
    """Figures of six forms, of any colour, size and place, on a noisy ground.

    The label is the form; the field ``ground`` says whether the ground is dark or light. Needs no file
    and no network. Made up, and easier than photographs: what is learned says little of those.
    """

    kind: Literal["shapes"] = "shapes"
    side: int = Field(32, ge=8, le=224, description="Pixels of a side.")
    num_train: int = Field(600, ge=1, le=20_000, description="Images to train on.")
    num_test: int = Field(120, ge=1, le=20_000, description="Images to test on.")
    noise: float = Field(0.1, ge=0.0, le=1.0, description="Deviation of the noise, of the range of levels.")
    seed: int = Field(0, ge=0, description="Decides which images are made.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"side": 8, "num_train": 12, "num_test": 6},)

    def load(self) -> Corpus:
        """Return the images, the same for the same settings."""
        return _load(self)

    def content_key(self) -> str:
        """Return a hash, hex, of the images themselves."""
        return self.load().digest()


@lru_cache(maxsize=4)
def _load(source: Shapes) -> Corpus:
    train, test = (
        tuple(_drawn(source, row, stream(source.seed, "shapes", name, row)) for row in range(count))
        for name, count in (("train", source.num_train), ("test", source.num_test))
    )
    return Corpus(train=train, test=test, labels=FORMS)


def _drawn(source: Shapes, row: int, chance: Stream) -> Example:
    """Return one image."""
    rng, form = chance.generator(), FORMS[row % len(FORMS)]
    radius = rng.uniform(0.25, 0.45)
    x, y = rng.uniform(radius, 1 - radius, size=2)
    grid = (np.arange(source.side) + 0.5) / source.side
    inside = _inside(form, (grid[None, :] - x) / radius, (grid[:, None] - y) / radius)
    is_dark = bool(rng.random() < 0.5)
    ground = rng.uniform(0.0, 0.3, size=3) + (0.0 if is_dark else 0.6)
    colour = rng.uniform(0.0, 1.0, size=3)
    colour[rng.integers(3)] = 0.9 if is_dark else 0.1
    levels = np.where(inside[..., None], colour, ground) + source.noise * rng.normal(size=(*inside.shape, 3))
    image = Image(source.side, source.side, (255 * levels.clip(0.0, 1.0)).round().astype(np.uint8).tobytes())
    return Example("", f"a {form}", form, {"ground": "dark" if is_dark else "light"}, image=image)


def _inside(form: str, x: Floats, y: Floats) -> np.ndarray:
    """Return which points of a square from -1 to 1 are of a form."""
    distance, box = np.hypot(x, y), np.maximum(abs(x), abs(y))
    return {
        "circle": distance < 1,
        "cross": (box < 1) & (np.minimum(abs(x), abs(y)) < 0.3),
        "ring": (distance < 1) & (distance > 0.55),
        "square": box < 0.85,
        "stripes": (box < 1) & (np.floor(2.5 * (y + 1)) % 2 < 1),
        "triangle": (y < 0.8) & (y > 2 * abs(x) - 0.9),
    }[form]
