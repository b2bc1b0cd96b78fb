"""Running text: texts one behind the other, cut into sequences of one length."""

from collections.abc import Iterator, Mapping, Sequence

from cosim.errors import ScenarioError
from cosim.learning.data import Corpus, Example
from cosim.learning.data.tokenizer import Tokenizer


def packed(corpus: Corpus, tokenizer: Tokenizer, begin: int | None, end: int | None, length: int) -> Corpus:
    """Return the texts of a corpus as examples of exactly ``length`` tokens; what is left at the end goes.

    An example has the fields that all texts in it agree on.

    Parameters
    ----------
    begin, end
        Tokens at the begin and the end of each text, where the model has them.

    Raises
    ------
    ScenarioError
        If all texts together are too short for one example.
    """
    sides = []
    for name, examples in (("training", corpus.train), ("held-out", corpus.test)):
        found = tuple(_cut(examples, tokenizer, begin, end, length))
        if not found:
            raise ScenarioError(
                f"data.source: all {name} texts together have fewer tokens than "
                f"data.sequence_length = {length}; take a shorter one, or more text."
            )
        sides.append(found)
    return Corpus(train=sides[0], test=sides[1])


def _cut(
    examples: Sequence[Example], tokenizer: Tokenizer, begin: int | None, end: int | None, length: int
) -> Iterator[Example]:
    around = [[] if one is None else [one] for one in (begin, end)]
    waiting: list[int] = []
    shared: Mapping[str, str] | None = None
    for example, ids in zip(examples, tokenizer.encode([one.target for one in examples]), strict=True):
        waiting += around[0] + ids + around[1]
        known = example.fields if shared is None else shared
        shared = {name: value for name, value in known.items() if example.fields.get(name) == value}
        while len(waiting) >= length:
            now, waiting = waiting[:length], waiting[length:]
            yield Example("", tokenizer.decode(now) or " ", fields=shared, ids=tuple(now))
            shared = example.fields
        shared = shared if waiting else None
