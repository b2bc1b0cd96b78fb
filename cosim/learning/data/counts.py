"""What tokenising the texts of a source comes to, and what a user must know of it."""

from collections.abc import Iterator
from importlib.metadata import version
from pkgutil import get_data
from typing import NamedTuple

from cosim.graph.recall import recalled
from cosim.learning.data.tokens import TokenCorpus, TokenSet

_CODE = [get_data(__package__, f"{name}.py") for name in ("counts", "patches", "tokenizer", "tokens")]
"""What finds the counts, as it was when this process loaded it."""

_COUNTED: dict[str, tuple["Counts", "Counts"]] = {}
"""Counts by the key of a corpus, so that many runs of one process look once."""


class Counts(NamedTuple):
    """What tokenising a part of a source came to; the fields are those of a :class:`TokenSet`."""

    num_examples: int
    num_truncated: int
    num_prompts_cut: int
    num_doubled: int
    highest_id: int

    @classmethod
    def of(cls, tokens: TokenSet) -> "Counts":
        """Return the counts of a part that is not empty."""
        cut = tokens.num_truncated, tokens.num_prompts_cut, tokens.num_doubled
        return cls(len(tokens), *cut, int(tokens.input_ids.max()))


def counts_of(tokens: TokenCorpus) -> tuple[Counts, Counts]:
    """Return what tokenising came to, of the training and of the held-out examples.

    Texts that were counted before, by this process or an earlier one, are not tokenised for it.
    """
    found = _COUNTED.get(tokens.content_key)
    if found is None:
        words = tokens.content_key, tokens.corpus.digest(), version("tokenizers"), _CODE
        train, test = recalled(words, lambda: [Counts.of(tokens.train), Counts.of(tokens.test)])
        found = _COUNTED[tokens.content_key] = Counts(*train), Counts(*test)
    return found


def notes_of(tokens: TokenCorpus) -> tuple[str, ...]:
    """Return what a user must know of the texts as the model sees them, in sentences."""
    return (*_missing_ends(tokens), *_losses(tokens))


def _missing_ends(tokens: TokenCorpus) -> Iterator[str]:
    """Say where the model's config leaves a special token out that other files of it know."""
    if tokens.task == "classification":  # the tokenizer itself says what goes around a text
        return
    for name, value, what in (("bos", tokens.special.bos, "begins"), ("eos", tokens.special.eos, "ends")):
        known = None if value is not None else tokens.tokenizer.known_special(name)
        if known is not None:
            yield (
                f"No text {what} with a special token: the model's config names no {name}_token_id, "
                f"though {known}; write it into the config if texts should have it."
            )


def _losses(tokens: TokenCorpus) -> Iterator[str]:
    """Say how many texts lose something, or have a special token twice."""
    what = "texts" if tokens.task == "classification" else "targets"
    limit = f"data.sequence_length = {tokens.sequence_length}"
    for name, one in zip(("training", "held-out"), counts_of(tokens), strict=True):
        of = f"of {one.num_examples} {name}"
        if one.num_truncated:
            yield f"{one.num_truncated} {of} {what} are cut: they are longer than {limit}."
        if one.num_prompts_cut:
            yield f"{one.num_prompts_cut} {of} prompts lose their beginning to fit into {limit}."
        if one.num_doubled:
            yield (
                f"{one.num_doubled} {of} texts write out a special token that is added to every text, "
                "and have it twice; remove it from the texts."
            )
