"""Texts from the Hugging Face hub by name, or from a folder in its layout."""

from functools import lru_cache
from importlib import metadata
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError, quoted
from cosim.learning.data import Corpus, DataSource, Example, label_order
from cosim.learning.data.names import unknown

OLDEST_WITHOUT_SCRIPTS = 4
"""First major version of ``datasets`` that runs no script of a data set."""


class Hub(DataSource):
    """Texts of a data set on the Hugging Face hub, fetched once and kept in the hub's own cache.

    Scripts of a data set never run: ``datasets`` from version 4 on has none, and an older one is
    refused. Without ``revision`` the newest state is taken, and a later run may meet other texts; its
    keys then differ too.
    """

    is_fetched: ClassVar[bool] = True
    kind: Literal["hub"] = "hub"
    name: str = Field(min_length=1, description="Data set, such as 'owner/name', or a local folder.")
    config: str | None = Field(None, description="Configuration of the data set, where it has several.")
    revision: str | None = Field(None, description="Commit or tag; pins the texts.")
    train_split: str = Field(
        "train", description="Split to train on; slices such as 'train[:1000]' are understood."
    )
    test_split: str = Field("test", description="Split to test on.")
    target_column: str = Field("text", description="Column to be learned, or to be classified.")
    prompt_column: str | None = Field(None, description="Column that is given before the target.")
    label_column: str | None = Field(None, description="Column with the class.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"name": "folder", "label_column": "topic"},
        {"name": "folder", "test_split": "train[:5]", "prompt_column": "topic"},
    )

    def load(self) -> Corpus:
        """Return the examples of both splits.

        Raises
        ------
        ScenarioError
            If ``datasets`` is not installed, the data set, a split or a
            column is not there, or a text is empty.
        """
        return _load(self)

    @property
    def label_place(self) -> str:
        """Where the classes are: the data set, and its column."""
        if self.label_column is None:
            return f"hub data {self.name}, where no label_column is named"
        return f"hub data {self.name}, column {quoted(self.label_column)}"

    def content_key(self) -> str:
        """Return a hash, hex, of the texts themselves, since a name on the hub does not fix them."""
        return self.load().digest()


@lru_cache(maxsize=4)
def _load(source: Hub) -> Corpus:
    train_rows, train_names = _split(source, source.train_split)
    test_rows, _ = _split(source, source.test_split)
    train = [_example(source, source.train_split, row, one) for row, one in enumerate(train_rows)]
    test = [_example(source, source.test_split, row, one) for row, one in enumerate(test_rows)]
    labels = train_names or label_order(example.label for example in train if example.label is not None)
    for example in test:
        if example.label is not None and example.label not in labels:
            raise ScenarioError(
                f"hub data {source.name}: {unknown('training label', example.label, labels)}; "
                f"a class of {source.test_split!r} must occur in {source.train_split!r}"
            )
    return Corpus(train=tuple(train), test=tuple(test), labels=labels)


def _split(source: Hub, split: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rows of one split with classes by name, and the names where the data set fixes them."""
    _refuse_scripts(source)
    from datasets import ClassLabel, load_dataset

    try:
        data = load_dataset(
            source.name, source.config, split=split, revision=source.revision, trust_remote_code=False
        )
    except Exception as fault:  # the hub's client has no error of its own for all that a name can lead to
        why = " ".join(str(fault).split())[:300].rstrip(".")
        raise ScenarioError(
            f"hub data {source.name}: split {quoted(split)} cannot be loaded "
            f"({type(fault).__name__}: {why}); "
            "check name, config, split and revision, and that the hub can be reached"
        ) from None
    for column in (source.target_column, source.prompt_column, source.label_column):
        if column is not None and column not in data.column_names:
            raise ScenarioError(f"hub data {source.name}: {unknown('column', column, data.column_names)}")
    rows: list[dict[str, Any]] = data.to_list()
    if source.label_column is None or not isinstance(data.features[source.label_column], ClassLabel):
        return rows, ()
    feature = data.features[source.label_column]
    for row in rows:
        number = row[source.label_column]
        # The hub writes -1, or nothing, for a class that is kept secret, as in the test splits of GLUE.
        row[source.label_column] = None if number in (None, -1) else feature.int2str(number)
    return rows, tuple(feature.names)


def _refuse_scripts(source: Hub) -> None:
    """Refuse a ``datasets`` that is not there, or so old that it runs the code of a data set."""
    try:
        version = metadata.version("datasets")
        from datasets import load_dataset  # noqa: F401 -- it may be installed and broken
    except (metadata.PackageNotFoundError, ImportError):
        raise ScenarioError(
            f"hub data {source.name}: needs the package datasets; run 'pip install cosim-fl[hub]'"
        ) from None
    if int(version.split(".")[0]) < OLDEST_WITHOUT_SCRIPTS:
        raise ScenarioError(
            f"hub data {source.name}: datasets {version} can run code of a data set; "
            f"run 'pip install \"datasets>={OLDEST_WITHOUT_SCRIPTS}\"'"
        )


def _example(source: Hub, split: str, row: int, one: dict[str, Any]) -> Example:
    for column in (source.target_column, source.prompt_column, source.label_column):
        if column is not None and one[column] is None:
            raise ScenarioError(
                f"hub data {source.name}: row {row} of {quoted(split)} has no {quoted(column)}; "
                "choose a split, or a slice of one, that is complete"
            )
    fields = {name: str(value) for name, value in one.items() if isinstance(value, str | int | float)}
    target = fields.pop(source.target_column, "")
    if not target.strip():
        raise ScenarioError(
            f"hub data {source.name}: row {row} of {quoted(split)} holds no text in "
            f"{quoted(source.target_column)}; choose a column of texts"
        )
    return Example(
        prompt="" if source.prompt_column is None else str(one[source.prompt_column]),
        target=target,
        label=None if source.label_column is None else str(one[source.label_column]),
        fields=fields,
    )
