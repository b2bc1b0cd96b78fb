"""Texts from a file of the user's: CSV, TSV, JSON, JSON Lines, Parquet or plain lines, gzipped or not."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cosim.errors import ScenarioError, quoted
from cosim.learning.data import Corpus, DataSource, Example, label_order
from cosim.learning.data.names import unknown
from cosim.learning.data.packing import packed
from cosim.learning.data.rows import Row, columns_of, format_of, read_rows, slots, without_column
from cosim.learning.data.splitting import at_most, split_off
from cosim.learning.data.tables import file_bytes
from cosim.learning.data.tokenizer import Tokenizer
from cosim.rng import stream


class File(DataSource):
    """Texts from one file, or from one to train and one to test on.

    The ending says the format: ``.csv``, ``.tsv``, ``.json`` (a list of objects), ``.jsonl``,
    ``.parquet`` or ``.txt``, each also with ``.gz`` behind it; the text is UTF-8. A folder that
    ``datasets`` wrote with ``save_to_disk`` is a file, too. A ``.txt`` file has one
    text per line in a column called ``text``, or with ``separator`` a
    ``prompt`` and a ``text``; with ``packed`` one between blank lines. Every column
    but the target is a field that a partition may sort by.
    """

    kind: Literal["file"] = "file"
    train_path: Path = Field(description="File to train on.")
    test_path: Path | None = Field(None, description="File to test on; leave out to split off test_fraction.")
    test_fraction: float | None = Field(
        None, gt=0.0, lt=1.0, description="Share of train_path kept for testing, by whole groups if grouped."
    )
    target_column: str = Field("text", description="Column to be learned, or to be classified.")
    prompt_column: str | None = Field(None, description="Column that is given before the target.")
    label_column: str | None = Field(None, description="Column with the class.")
    group_column: str | None = Field(
        None, description="Column whose equal rows stay together in test_fraction, max_train and max_test."
    )
    slots_column: str | None = Field(
        None, description="Column written as 'key[value], key[value]'; each key becomes a field."
    )
    separator: str | None = Field(
        None, min_length=1, description="What parts the prompt from the text in a line of a .txt file."
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="Between columns of a .csv or .tsv; by its ending if left out.",
    )
    packed: bool = Field(
        False,
        description="Running text for a causal model: texts follow each other, parted by the end token, and "
        "are cut into sequences without padding.",
    )
    max_train: int | None = Field(
        None, ge=1, description="At most this many training examples, drawn by seed."
    )
    max_test: int | None = Field(None, ge=1, description="At most this many test examples, drawn by seed.")
    seed: int = Field(0, ge=0, description="Decides which examples are split off or kept.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"train_path": "examples.csv", "test_fraction": 0.25, "label_column": "topic"},
        {
            "train_path": "examples.jsonl",
            "test_path": "examples.csv",
            "group_column": "topic",
            "max_train": 20,
        },
        {"train_path": "examples.txt.gz", "test_fraction": 0.5, "separator": "||"},
        {"train_path": "examples.csv", "test_fraction": 0.5, "packed": True},
    )

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if (self.test_path is None) == (self.test_fraction is None):
            raise ValueError("give either test_path or test_fraction")
        formats = {format_of(path) for path in (self.train_path, self.test_path) if path is not None}
        if self.separator is not None and ".txt" not in formats:
            raise ValueError("separator is for .txt files; name a prompt_column instead")
        if self.packed and (self.prompt_column or self.label_column or self.separator):
            raise ValueError("packed text has no prompts and no classes; leave the columns and separator out")
        if self.delimiter is not None and not formats & {".csv", ".tsv"}:
            raise ValueError("delimiter is for .csv and .tsv files; leave it out")
        return self

    def load(self) -> Corpus:
        """Return the examples of the file or files, in the file's order.

        Raises
        ------
        ScenarioError
            If a file is missing, empty, not UTF-8 or not what its ending says,
            a column is missing, a text is empty, a label is tested that is
            never trained, or nothing is left to train or test on.
        """
        chance = stream(self.seed, "data", "file")
        train = self._read(self.train_path)
        num_read = len(train)
        labels = label_order(example.label for example in train if example.label is not None)
        if self.test_path is None:
            assert self.test_fraction is not None
            train, test = split_off(train, self._groups(train), self.test_fraction, chance.child("test"))
        else:
            test = self._read(self.test_path)
            self._check_labels(test, labels)
        train = at_most(train, self._groups(train), self.max_train, chance.child("max_train"))
        test = at_most(test, self._groups(test), self.max_test, chance.child("max_test"))
        for name, part in (("train on", train), ("test on", test)):
            if not part:
                raise ScenarioError(f"{self.train_path}: {self._why_nothing(name, num_read)}")
        return Corpus(train=tuple(train), test=tuple(test), labels=labels)

    @property
    def needs_tokenizer(self) -> bool:
        """Where texts are packed."""
        return self.packed

    def load_for(self, tokenizer: Tokenizer, begin: int | None, end: int | None, length: int) -> Corpus:
        """Return the examples, packed where the settings say so."""
        found = self.load()
        return packed(found, tokenizer, begin, end, length) if self.packed else found

    def _why_nothing(self, name: str, num_read: int) -> str:
        """Return why nothing is left to train or test on."""
        if self.test_path is None and num_read == 1:
            lines = "; a .txt file has one text per line" if format_of(self.train_path) == ".txt" else ""
            return (
                f"the file holds one example{lines}; training and testing need at least one each: "
                "give at least two, or name a test_path"
            )
        return (
            f"these settings leave nothing to {name}; "
            "raise max_train or max_test, change test_fraction, or group by a finer column"
        )

    @property
    def label_place(self) -> str:
        """Where the classes are: the file, and its column."""
        if self.label_column is None:
            return f"{self.train_path}, where no label_column is named"
        return f"{self.train_path}, column {quoted(self.label_column)}"

    def content_key(self) -> str:
        """Return a hash, hex, of the files' bytes and the settings; where the files lie plays no part."""
        beside = {"train_path", "test_path"} if self.packed else {"train_path", "test_path", "packed"}
        digest = blake2b(self.model_dump_json(exclude=beside).encode(), digest_size=16)
        for path in (self.train_path, self.test_path):
            if path is not None:
                digest.update(format_of(path).encode())
                digest.update(blake2b(file_bytes(path)).digest())
        return digest.hexdigest()

    def _read(self, path: Path) -> list[Example]:
        rows = read_rows(path, self.delimiter, self.separator, paragraphs=self.packed)
        prompt_column = self.prompt_column
        if prompt_column is None and self.separator is not None and "prompt" in rows[0].columns:
            prompt_column = "prompt"
        wanted = (self.target_column, prompt_column, self.label_column, self.group_column, self.slots_column)
        needed = [column for column in wanted if column is not None]
        known = columns_of(rows)
        for column in needed:
            if column not in known:
                raise ScenarioError(f"{path}: {without_column(rows, column, self.delimiter)}")
        return [self._example(path, row, prompt_column, needed) for row in rows]

    def _example(self, path: Path, row: Row, prompt_column: str | None, needed: Sequence[str]) -> Example:
        for column in needed:
            if column not in row.columns:
                raise ScenarioError(
                    f"{path}: line {row.line} has no value for {quoted(column)}; "
                    "complete it or delete the line"
                )
            if column in (self.target_column, self.label_column) and not row.columns[column].strip():
                raise ScenarioError(
                    f"{path}: line {row.line} has an empty {quoted(column)}; fill it in or delete the line"
                )
        fields = {name: value for name, value in row.columns.items() if name != self.target_column}
        if self.slots_column is not None:
            fields = slots(row.columns[self.slots_column]) | fields
        return Example(
            prompt="" if prompt_column is None else row.columns[prompt_column],
            target=row.columns[self.target_column],
            label=None if self.label_column is None else row.columns[self.label_column],
            fields=fields,
        )

    def _check_labels(self, test: Sequence[Example], labels: tuple[str, ...]) -> None:
        trained = set(labels)
        for example in test:
            if example.label is not None and example.label not in trained:
                raise ScenarioError(
                    f"{self.test_path}: {unknown('training label', example.label, labels)}; "
                    f"a class that is tested must occur in {self.train_path}"
                )

    def _groups(self, examples: Sequence[Example]) -> list[str]:
        return [self._group(row, example) for row, example in enumerate(examples)]

    def _group(self, row: int, example: Example) -> str:
        if self.group_column is None:
            return str(row)
        return (
            example.target if self.group_column == self.target_column else example.fields[self.group_column]
        )
