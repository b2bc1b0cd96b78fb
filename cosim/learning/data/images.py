"""Images from a folder of the user's."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.data import Corpus, DataSource, Example, Image, label_order
from cosim.learning.data.names import unknown
from cosim.learning.data.splitting import split_off
from cosim.rng import stream

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


class Images(DataSource):
    """Images of a folder that has a folder for each class: ``cats/1.png``, ``dogs/2.jpg``.

    The name of the inner folder is the class. Images are scaled to the model's size, between pixels.
    """

    kind: Literal["images"] = "images"
    train_path: Path = Field(description="Folder to train on.")
    test_path: Path | None = Field(None, description="Folder to test on, with the same classes.")
    test_fraction: float = Field(
        0.2, gt=0.0, lt=1.0, description="Share split off for testing where no test_path is named."
    )
    seed: int = Field(0, ge=0, description="Decides which images are split off.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"train_path": "pictures", "test_fraction": 0.5},)

    def load(self) -> Corpus:
        """Return the images, by name.

        Raises
        ------
        ScenarioError
            If a folder holds none, a file is no image, or a class is tested that is never trained.
        """
        train = [_example(path) for path in _files(self.train_path)]
        if self.test_path is None:
            groups = [str(row) for row in range(len(train))]
            chance = stream(self.seed, "data", "images", "test")
            train, test = split_off(train, groups, self.test_fraction, chance)
        else:
            test = [_example(path) for path in _files(self.test_path)]
        labels = label_order(str(one.label) for one in train)
        for one in test:
            if one.label not in labels:
                raise ScenarioError(f"{self.train_path}: {unknown('class', str(one.label), labels)}")
        if not train:
            raise ScenarioError(f"{self.train_path}: holds one image, and one is tested on; give more")
        return Corpus(train=tuple(train), test=tuple(test), labels=labels)

    def content_key(self) -> str:
        """Return a hash, hex, of the files' bytes and classes, and the settings."""
        digest = blake2b(self.model_dump_json(exclude={"train_path", "test_path"}).encode(), digest_size=16)
        for folder in (self.train_path, self.test_path):
            for path in _files(folder) if folder is not None else ():
                digest.update(f"{path.parent.name}/{path.name}".encode())
                digest.update(blake2b(path.read_bytes()).digest())
            digest.update(b"|")
        return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    found = sorted(one for one in folder.glob("*/*") if one.suffix.lower() in _ENDINGS)
    if not found:
        raise ScenarioError(
            f"{folder}: holds no images; give one that has a folder of images for each class, "
            "such as cats/1.png"
        )
    yield from found


def _example(path: Path) -> Example:
    from PIL import Image as Pillow

    try:
        with Pillow.open(path) as opened:
            whole = opened.convert("RGB")
    except (OSError, ValueError) as fault:
        raise ScenarioError(f"{path}: is no image that can be read ({fault})") from None
    label = path.parent.name
    return Example("", path.name, label, {}, image=Image(whole.height, whole.width, whole.tobytes()))
