"""Texts that come with cosim: made-up things described in plain English."""

from dataclasses import replace
from functools import lru_cache
from pkgutil import get_data
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from cosim.graph.recall import recalled
from cosim.learning.data import Corpus, DataSource, Example, label_order
from cosim.learning.data.names import unknown
from cosim.learning.embedded import grammar

_CODE = [
    get_data("cosim", f"{name}.py")
    for name in (
        "rng",
        *(f"learning/embedded/{one}" for one in ("domain", "draws", "goods", "grammar", "notices", "places")),
    )
]
"""What makes the texts, as it was when this process loaded it."""

MOST_EXAMPLES = 50_000
"""Of one kind; a domain has about as many meanings, and making more takes long."""


class Embedded(DataSource):
    """Meaning representations and their texts, made by the project's own grammar.

    Prompt and target are a meaning representation and a text that says it, or
    the other way round; the label is the topic, and every slot is a field. No
    meaning is both trained and tested. With several ``domains`` an example has its
    domain as label and as field ``domain``, and domains take turns. Needs no file and
    no network.
    """

    kind: Literal["embedded"] = "embedded"
    domain: str = Field(
        grammar.HELD_OUT, description="What the texts are about; the embedded model has not seen the default."
    )
    domains: tuple[str, ...] = Field((), description="Several domains in place of one.")
    direction: Literal["write", "parse"] = Field(
        "write",
        description="write: from a meaning representation to a text; parse: back, which the embedded "
        "model has not learned for any domain.",
    )
    num_train: int = Field(1000, ge=1, description="Training examples of each domain.")
    num_test: int = Field(200, ge=1, description="Test examples of each domain.")
    seed: int = Field(0, ge=0, description="Decides which texts are made.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"num_train": 60, "num_test": 20},
        {"domain": "hotel", "num_train": 40, "num_test": 10, "seed": 3},
        {"domains": ("hotel", "film"), "direction": "parse", "num_train": 30, "num_test": 10},
    )

    @field_validator("domain")
    @classmethod
    def _known_domain(cls, domain: str) -> str:
        if domain not in grammar.DOMAINS:
            raise ValueError(unknown("domain", domain, grammar.DOMAINS))
        return domain

    @field_validator("domains")
    @classmethod
    def _known_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for number, domain in enumerate(domains):
            cls._known_domain(domain)
            if domain in domains[:number]:
                raise ValueError(f"names {domain!r} twice")
        return domains

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
    if source.domains:
        return _several(source)
    asked = source.domain, source.num_train, source.num_test, source.seed
    train, test = recalled((asked, _CODE), lambda: grammar.split(*asked))
    slot = grammar.lexicon(source.domain).label
    return Corpus(
        train=tuple(_example(grammar.Example(*one), source.direction) for one in train),
        test=tuple(_example(grammar.Example(*one), source.direction) for one in test),
        labels=label_order(grammar.lexicon(source.domain).slots[slot].values),
    )


def _several(source: Embedded) -> Corpus:
    """Return texts of several domains, one of each in turn."""
    corpora = [_load(source.model_copy(update={"domains": (), "domain": one})) for one in source.domains]
    train, test = (
        tuple(
            replace(example, label=domain, fields={**example.fields, "domain": domain})
            for examples in zip(*(getattr(corpus, side) for corpus in corpora), strict=True)
            for domain, example in zip(source.domains, examples, strict=True)
        )
        for side in ("train", "test")
    )
    return Corpus(train=train, test=test, labels=label_order(source.domains))


def _example(one: grammar.Example, direction: str) -> Example:
    prompt, target = (one.mr, one.text) if direction == "write" else (one.text, one.mr)
    return Example(prompt=prompt, target=target, label=one.label, fields={"mr": one.mr, **one.slots})
