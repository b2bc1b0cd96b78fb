"""What a domain of the embedded text is made of: slots, the words for their values, and sentence frames.

A template is plain English with three marks:

- ``{}`` or ``{field}`` is filled in;
- ``[is|are]`` takes its first form for one thing, its second for several;
- ``a(n)`` becomes "a" or "an", whichever the next word asks for.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

Wordings = Mapping[str, tuple[str, ...]]


class Slot(NamedTuple):
    """One thing that can be said about a subject.

    Attributes
    ----------
    values
        Every value the slot can take, with the wordings that state it.
    verb
        Verb phrases around a wording, for "It ...".
    adjective, after
        Phrases before and after a noun.
    front
        Phrases that may open a sentence, before a comma.
    """

    values: Wordings
    verb: tuple[str, ...] = ()
    adjective: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    front: tuple[str, ...] = ()


class Domain(NamedTuple):
    """A kind of thing to write about.

    Attributes
    ----------
    name
        What the domain is called.
    label
        The slot that says what an example is about; every example has it.
    subject
        The slots every frame tells by name.
    nouns
        Common nouns for the subject; a noun may name a subject slot.
    slots
        By name, in the order of a meaning representation; adjectives keep this
        order, too. A slot outside ``subject`` has a verb phrase.
    frames
        First sentences. Besides the subject's slots a frame may hold a noun
        phrase (``{np}``; ``{short}``, without a relative clause; ``{bare}``,
        without an article, too), ``{front}``, ``{which}`` (one verb phrase)
        and ``{vps}`` (one or more).
    later
        Sentences for what the first left over.
    relative
        Relative clauses a noun phrase may end in.
    plurals
        Last words that make the subject's name a plural.
    num_optional
        How many slots besides subject and label an example may tell; a number
        that stands twice is drawn twice as often.
    """

    name: str
    label: str
    subject: tuple[str, ...]
    nouns: tuple[str, ...]
    slots: Mapping[str, Slot]
    frames: tuple[str, ...]
    later: tuple[str, ...] = ("[It|They] {vps}.",)
    relative: tuple[str, ...] = ("that {which}", "which {which}")
    plurals: tuple[str, ...] = ()
    num_optional: tuple[int, ...] = (1, 2, 2, 3)

    @property
    def optional(self) -> tuple[str, ...]:
        """The slots an example may leave out: neither subject nor label."""
        return tuple(slot for slot in self.slots if slot not in self.subject and slot != self.label)


def literal(*values: str) -> Wordings:
    """Return values that are their own and only wording.

    Examples
    --------
    >>> literal("Thai", "French")
    {'Thai': ('Thai',), 'French': ('French',)}
    """
    return {value: (value,) for value in values}


def numbers(first: int, last: int, step: int = 1) -> Wordings:
    """Return the whole numbers from first to last, both included, as literal values."""
    return literal(*(str(number) for number in range(first, last + 1, step)))


def names(*words: str) -> Wordings:
    """Return every name that takes one word of each blank-separated list, in order.

    Examples
    --------
    >>> list(names("The", "Blue Green", "Lion Swan"))
    ['The Blue Lion', 'The Blue Swan', 'The Green Lion', 'The Green Swan']
    """
    return literal(*(" ".join(name) for name in product(*(column.split() for column in words))))


NAMED = (
    "{name} [is|are] {np}.",
    "{name} {vps}.",
    "{name}, {short}, {vps}.",
    "There is {short} called {name}.",
    "If you want {np}, try {name}.",
    "{name}, which {which}, [is|are] {np}.",
)
"""First sentences for a subject with a name of its own."""

PLACED = (
    "{front}, {name} {vps}.",
    "{front}, there is {short} called {name}.",
    "{front} you will find {name}, {short}.",
)
"""First sentences for a subject that has a place."""

COLOURS = "Blue Green Golden Silver White"
CITIES = "Leeds York Bath Derby Truro"
AREAS: Wordings = {
    "riverside": ("by the river", "in the riverside area"),
    "centre": ("in the city centre", "in the centre of town"),
    "old town": ("in the old town",),
    "harbour": ("by the harbour", "near the harbour"),
    "station": ("near the station", "close to the station"),
}
PRICES: Wordings = {
    "low": ("cheap", "low-priced"),
    "medium": ("fairly priced", "mid-priced"),
    "high": ("expensive", "high-priced"),
}


def area() -> Slot:
    """Return the slot of a place in town."""
    return Slot(AREAS, verb=("[is|are] {}", "[stands|stand] {}"), after=("{}",), front=("{}",))


def price() -> Slot:
    """Return the slot of how dear a thing is."""
    return Slot(PRICES, verb=("[is|are] {}",), adjective=("{}",))
