"""Images of the user's: a folder for each class, or a table with the images in a column."""

from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.data import Corpus, DataSource, Example, Image, label_order
from cosim.learning.data.names import unknown
from cosim.learning.data.splitting import split_off
from cosim.learning.data.tables import SAVED, file_bytes, rows_of_saved, rows_with_classes
from cosim.rng import stream

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


class Images(DataSource):
    """Images of a folder that has a folder for each class, ``cats/1.png``, or of a table's column.

    The name of the inner folder is the class. A table is a ``.parquet`` file or a folder that
    ``datasets`` wrote with ``save_to_disk``. Images are scaled to the model's size, between pixels.
    """

    kind: Literal["images"] = "images"
    train_path: Path = Field(description="Folder, or table, to train on.")
    test_path: Path | None = Field(None, description="Folder, or table, to test on, with the same classes.")
    test_fraction: float = Field(
        0.2, gt=0.0, lt=1.0, description="Share split off for testing where no test_path is named."
    )
    image_column: str = Field("image", description="Column of a table with the images.")
    label_column: str = Field("label", description="Column of a table with the classes.")
    seed: int = Field(0, ge=0, description="Decides which images are split off.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"train_path": "pictures", "test_fraction": 0.5},
        {"train_path": "pictures.parquet", "image_column": "img"},
    )

    def load(self) -> Corpus:
        """Return the images, by name or in the order of the table.

        Raises
        ------
        ScenarioError
            If a folder or table holds none, one is no image, or a class is tested that is never trained.
        """
        train = self._read(self.train_path)
        if self.test_path is None:
            groups = [str(row) for row in range(len(train))]
            chance = stream(self.seed, "data", "images", "test")
            train, test = split_off(train, groups, self.test_fraction, chance)
        else:
            test = self._read(self.test_path)
        labels = label_order(str(one.label) for one in train)
        for one in test:
            if one.label not in labels:
                raise ScenarioError(f"{self.train_path}: {unknown('class', str(one.label), labels)}")
        if not train:
            raise ScenarioError(f"{self.train_path}: holds one image, and one is tested on; give more")
        return Corpus(train=tuple(train), test=tuple(test), labels=labels)

    def content_key(self) -> str:
        """Return a hash, hex, of the files' bytes and classes, and the settings."""
        columns = set() if _is_table(self.train_path) else {"image_column", "label_column"}
        beside = {"train_path", "test_path", *columns}
        digest = blake2b(self.model_dump_json(exclude=beside).encode(), digest_size=16)
        for folder in (self.train_path, self.test_path):
            if folder is not None and _is_table(folder):
                digest.update(blake2b(file_bytes(folder)).digest())
            for path in _files(folder) if folder is not None and not _is_table(folder) else ():
                digest.update(f"{path.parent.name}/{path.name}".encode())
                digest.update(blake2b(path.read_bytes()).digest())
            digest.update(b"|")
        return digest.hexdigest()

    def _read(self, path: Path) -> list[Example]:
        if not _is_table(path):
            return [_example(file, str(file), file.parent.name, file.name) for file in _files(path)]
        rows = rows_of_saved(path) if path.is_dir() else rows_with_classes(path, file_bytes(path))
        return [self._of_row(path, line, row) for line, row in rows]

    def _of_row(self, path: Path, line: int, row: dict[str, Any]) -> Example:
        for column in (self.image_column, self.label_column):
            if row.get(column) is None:
                missing = unknown("column", column, tuple(row)) if column not in row else f"has no {column!r}"
                raise ScenarioError(f"{path}: row {line}: {missing}; set image_column and label_column")
        found = row[self.image_column]
        stored = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(stored, bytes):
            raise ScenarioError(
                f"{path}: row {line}: {self.image_column!r} holds no image, as the bytes of a file; "
                "write the data set with its images in it"
            )
        return _example(BytesIO(stored), f"{path}: row {line}", str(row[self.label_column]), f"{line}")


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".parquet" or (path / SAVED).is_file()


def _files(folder: Path) -> Iterator[Path]:
    found = sorted(one for one in folder.glob("*/*") if one.suffix.lower() in _ENDINGS)
    if not found:
        raise ScenarioError(
            f"{folder}: holds no images; give one that has a folder of images for each class, "
            "such as cats/1.png"
        )
    yield from found


def _example(file: Path | BytesIO, place: str, label: str, name: str) -> Example:
    from PIL import Image as Pillow

    try:
        with Pillow.open(file) as opened:
            whole = opened.convert("RGB")
    except (OSError, ValueError) as fault:
        raise ScenarioError(f"{place}: is no image that can be read ({fault})") from None
    return Example("", name, label, {}, image=Image(whole.height, whole.width, whole.tobytes()))
