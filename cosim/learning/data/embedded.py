"""Texts that come with cosim: made-up things described in plain English."""

from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from cosim.learning.data import Corpus, DataSource, Example, label_order
from cosim.learning.data.names import unknown
from cosim.learning.embedded import grammar

MOST_EXAMPLES = 50_000
"""Of one kind; a domain has about as many meanings, and making more takes long."""


class Embedded(DataSource):
    """Meaning representations and their texts, made by the project's own grammar.

    Prompt and target are a meaning representation and a text that says it;
    the label is the topic, and every slot is a field. No meaning is both
    trained and tested. Needs no file and no network.
    """

    kind: Literal["embedded"] = "embedded"
    domain: str = Field(
        grammar.HELD_OUT, description="What the texts are about; the embedded model has not seen the default."
    )
    num_train: int = Field(1000, ge=1, description="Training examples.")
    num_test: int = Field(200, ge=1, description="Test examples.")
    seed: int = Field(0, ge=0, description="Decides which texts are made.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"num_train": 60, "num_test": 20},
        {"domain": "hotel", "num_train": 40, "num_test": 10, "seed": 3},
    )

    @field_validator("domain")
    @classmethod
    def _known_domain(cls, domain: str) -> str:
        if domain not in grammar.DOMAINS:
            raise ValueError(unknown("domain", domain, grammar.DOMAINS))
        return domain

    @field_validator("num_train", "num_test")
    @classmethod
    def _not_too_many(cls, number: int) -> int:
        if number > MOST_EXAMPLES:
            raise ValueError(f"makes {MOST_EXAMPLES} examples at most, got {number}; take a file for more")
        return number

    def load(self) -> Corpus:
        """Return the texts, the same for the same settings."""
        return _load(self)

    def content_key(self) -> str:
        """Return a hash, hex, of the texts themselves, so that a change of the grammar shows in it."""
        return self.load().digest()


@lru_cache(maxsize=4)
def _load(source: Embedded) -> Corpus:
    train, test = grammar.split(source.domain, source.num_train, source.num_test, source.seed)
    slot = grammar.lexicon(source.domain).label
    return Corpus(
        train=tuple(map(_example, train)),
        test=tuple(map(_example, test)),
        labels=label_order(grammar.lexicon(source.domain).slots[slot].values),
    )


def _example(one: grammar.Example) -> Example:
    return Example(prompt=one.mr, target=one.text, label=one.label, fields={"mr": one.mr, **one.slots})
