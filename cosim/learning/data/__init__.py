"""Texts to train on: where they come from, their token ids, and the batches drawn from them.

A :class:`DataSource` knows texts and labels and nothing of models: what is a
prompt, what is to be learned, and which class a text belongs to. ``tokens.py``
turns a source into arrays for one model, ``draws.py`` says which rows make a
batch. Nothing here needs torch.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar

from cosim.parts import Part

if TYPE_CHECKING:
    from cosim.learning.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Image:
    """Pixels; ``levels`` are red, green and blue from 0 to 255, row by row."""

    height: int
    width: int
    levels: bytes = field(repr=False)


@dataclass(frozen=True)
class Example:
    """One text, or one image, to learn from.

    Attributes
    ----------
    prompt, target
        What is given, possibly nothing, and what is to be learned; a
        classifier reads both, the prompt first.
    label
        The class the text belongs to; None where the source has none.
    fields
        What else is known of it by name, such as its speaker: what a
        partition may sort by.
    is_written_out
        Whether prompt and target have all special tokens in them, as a chat template writes them.
    image
        What a model of images is given; the target then says what it is.
    ids
        Its tokens where the source knows them; all of them are learned.
    """

    prompt: str
    target: str
    label: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    is_written_out: bool = False
    ids: tuple[int, ...] | None = None
    image: Image | None = None


@dataclass(frozen=True)
class Corpus:
    """All examples of a source; ``labels`` fixes the order of the classes, empty where there are none."""

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return a hash of every word in it, hex."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = blake2b(digest_size=16)
        for part in (self.train, self.test):
            for one in part:
                words = [one.prompt, one.target, repr(one.label), *map(repr, sorted(one.fields.items()))]
                words += [repr((one.is_written_out, one.ids))] if one.is_written_out or one.ids else []
                words += [] if one.image is None else [repr((one.image, one.image.levels))]
                digest.update(repr(words).encode())
            digest.update(b"|")
        digest.update(repr(self.labels).encode())
        return digest.hexdigest()


class DataSource(Part):
    """Where texts come from.

    Attributes
    ----------
    is_fetched
        Whether the settings are a name that may come to mean other texts.
    """

    is_fetched: ClassVar[bool] = False
    if TYPE_CHECKING:
        kind: str

    @abstractmethod
    def load(self) -> Corpus:
        """Return the examples, the same ones in the same order at every call.

        Raises
        ------
        ScenarioError
            If they cannot be had, or are not what the settings say.
        """

    @property
    def needs_tokenizer(self) -> bool:
        """Whether :meth:`load_for` gives other examples than :meth:`load`."""
        return False

    def load_for(self, tokenizer: "Tokenizer", begin: int | None, end: int | None, length: int) -> Corpus:
        """Return the examples as they are for a model.

        Parameters
        ----------
        tokenizer, begin, end
            The model's, and the tokens at begin and end of its texts.
        length
            Tokens of a sequence.
        """
        return self.load()

    def key_beside(self, tokenizer: "Tokenizer") -> str:
        """Return a hash, hex, of what else of the model's files decides the examples; empty for nothing."""
        return ""

    @abstractmethod
    def content_key(self) -> str:
        """Return a hash, hex, of everything that decides what ``load`` returns."""

    @property
    def label_place(self) -> str:
        """Where the classes of the examples come from, for a message."""
        return f"{self.kind} data"


def label_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return each label once, sorted; as numbers where all of them are whole numbers.

    Examples
    --------
    >>> label_order(["10", "9", "9"]), label_order(["b", "a", "10"])
    (('9', '10'), ('10', 'a', 'b'))
    """
    distinct = set(labels)
    if all(label.isascii() and label.isdigit() for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))
