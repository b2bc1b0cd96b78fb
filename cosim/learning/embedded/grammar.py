"""Sentences about made-up things: a meaning representation, and English that says exactly that.

An example is a pair as in the E2E data set: slots and values, then a text of
one to three sentences. Which slots stand in which sentence, in what order, as
an adjective, a phrase after the noun, a clause or a sentence of their own, and
in which words, is drawn; what is said is not. Needs neither torch nor a file.

Source
------
The form of a meaning representation follows J. Novikova, O. Dusek, V. Rieser,
"The E2E dataset: new challenges for end-to-end generation", SIGDIAL 2017. The
words, the frames and the generator are the project's own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Literal, NamedTuple

from cosim.learning.embedded.domain import Domain
from cosim.learning.embedded.draws import Draws
from cosim.learning.embedded.goods import FILM, LAPTOP, RECIPE
from cosim.learning.embedded.notices import JOB, TRAIN, WEATHER
from cosim.learning.embedded.places import HOTEL, MUSEUM, RESTAURANT
from cosim.rng import stream

_ALL = {d.name: d for d in (RESTAURANT, HOTEL, LAPTOP, FILM, RECIPE, TRAIN, WEATHER, JOB, MUSEUM)}

HELD_OUT = MUSEUM.name
"""The domain the embedded model has never seen: the one to fine-tune on."""

DOMAINS: tuple[str, ...] = tuple(_ALL)
"""Every domain, the held-out one last."""

SEPARATOR = "\n"
"""What stands between a meaning representation and its text in a training sequence."""

_TEST_SHARE = 0.2
_MOST_SENTENCES = 3
_NUMBERED = re.compile(r"\[([^|\]]*)\|([^\]]*)\]")  # [singular|plural]
_ARTICLE = re.compile(r"a\(n\) (?=(\S+))")
_JOINABLE = ("is", "are", "was", "be", "has", "have", "with")  # said once for two phrases in a row


class Example(NamedTuple):
    """One meaning and one way to say it.

    Attributes
    ----------
    domain
        Name of the domain, one of ``DOMAINS``.
    mr
        Meaning representation, "slot : value | slot : value".
    text
        One to three English sentences.
    slots
        The meaning by slot, in the order of ``mr``.
    label
        The value of the slot that says what the example is about.
    """

    domain: str
    mr: str
    text: str
    slots: Mapping[str, str]
    label: str


def examples(domain: str, count: int, seed: int) -> list[Example]:
    """Return the first ``count`` examples of a domain under this seed.

    A shorter list is the beginning of a longer one. A meaning may come again,
    usually in other words.

    Raises
    ------
    ValueError
        If there is no such domain, or ``count`` is negative.

    Examples
    --------
    >>> print(examples("restaurant", 1, seed=1)[0].text)
    The Silver Swan, which serves Asian food, is a place with poor reviews. It is for adults only.
    """
    if count < 0:
        raise ValueError(f"the number of examples must not be negative, got {count}")
    return list(islice(_endless(lexicon(domain), seed, "any"), count))


def split(domain: str, num_train: int, num_test: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Return training and test examples of a domain that share no meaning representation.

    The side a meaning is on depends on the meaning alone, so the test examples of
    one seed are never among the training examples of another, and neither list
    depends on the other's length.

    Raises
    ------
    ValueError
        If there is no such domain, or a count is negative.

    Examples
    --------
    >>> train, test = split("train", 100, 20, seed=1)
    >>> {example.mr for example in train} & {example.mr for example in test}
    set()
    """
    if min(num_train, num_test) < 0:
        raise ValueError(f"the numbers of examples must not be negative, got {num_train} and {num_test}")
    known = lexicon(domain)
    train = list(islice(_endless(known, seed, "train"), num_train))
    return train, list(islice(_endless(known, seed, "test"), num_test))


def lexicon(domain: str) -> Domain:
    """Return the slots, words and frames of a domain.

    Raises
    ------
    ValueError
        If there is no such domain.
    """
    if domain not in _ALL:
        raise ValueError(f"no domain {domain!r}; known: {', '.join(DOMAINS)}")
    return _ALL[domain]


def wordings(domain: str, slot: str, value: str) -> tuple[str, ...]:
    """Return the phrases one of which stands in any text that states this value.

    Examples
    --------
    >>> wordings("restaurant", "families", "yes")
    ('good for families', 'child-friendly')
    >>> wordings("hotel", "pets", "yes")
    ('welcomes pets', 'welcome pets', 'allows pets', 'allow pets')
    """
    found = []
    for wording in lexicon(domain).slots[slot].values[value]:
        for form in dict.fromkeys(_agreed(wording, plural) for plural in (False, True)):
            first, _, rest = form.partition(" ")
            found.append(rest if first in _JOINABLE else form)
    return tuple(dict.fromkeys(found))


def _endless(domain: Domain, seed: int, side: Literal["any", "train", "test"]) -> Iterator[Example]:
    draws = Draws(stream(seed, "text", domain.name, side))
    optional, values = domain.optional, {name: tuple(slot.values) for name, slot in domain.slots.items()}
    while True:
        told = draws.shuffled(optional)[: draws.pick(domain.num_optional)]
        names = {*domain.subject, domain.label, *told}
        slots = {name: draws.pick(of) for name, of in values.items() if name in names}
        mr = " | ".join(f"{name} : {value}" for name, value in slots.items())
        if side == "any" or (side == "test") == _is_for_test(mr):
            yield Example(domain.name, mr, _Telling(draws, domain, slots).text(), slots, slots[domain.label])


def _is_for_test(mr: str) -> bool:
    digest = blake2b(mr.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < _TEST_SHARE * 2**64


class _Telling:
    """One text in the making: ``left`` are the slots not told yet, in the order they will be."""

    def __init__(self, draws: Draws, domain: Domain, slots: Mapping[str, str]) -> None:
        self.draws = draws
        self.domain = domain
        self.slots = slots
        self.left = draws.shuffled([name for name in slots if name not in domain.subject])
        self.plural = any(slots[name].endswith(last) for name in domain.subject for last in domain.plurals)

    def text(self) -> str:
        sentences = [self._sentence(self._frame())]
        while self.left:
            at_least = -(-len(self.left) // (_MOST_SENTENCES - len(sentences)))
            sentences.append(self._sentence(self.draws.pick(self.domain.later), at_least))
        return " ".join(sentences)

    def _frame(self) -> str:
        """Return a first sentence for which enough is left to tell."""
        fronted = any(self.domain.slots[name].front for name in self.left)
        while True:
            frame = self.draws.pick(self.domain.frames)
            needed = sum(field in frame for field in ("{front}", "{which}", "{vps}"))
            if needed <= len(self.left) and (fronted or "{front}" not in frame):
                return frame

    def _sentence(self, frame: str, at_least: int = 1) -> str:
        """Return a frame filled in, finished, with what it tells taken from ``left``.

        Its ``{vps}`` takes ``at_least`` so many slots, or all that are left.
        """
        filled = {name: self._worded("{}", name) for name in self.domain.subject}
        filled["noun"] = self.draws.pick(self.domain.nouns)
        if "{front}" in frame:
            name = next(name for name in self.left if self.domain.slots[name].front)
            filled["front"] = self._told(name, "front")
        if "{which}" in frame:
            filled["which"] = _agreed(self._told(self.left[0], "verb"), self.plural)
        for form in ("np", "short", "bare"):
            if f"{{{form}}}" in frame:
                filled[form] = self._noun_phrase(form, keep=int("{vps}" in frame))
        if "{vps}" in frame:
            count = max(at_least, self.draws.pick((1, 2, 2, 3)))
            filled["vps"] = _joined(
                [_agreed(self._told(name, "verb"), self.plural) for name in self.left[:count]]
            )
        return _finished(_agreed(frame, self.plural).format(**filled))

    def _noun_phrase(self, form: str, keep: int) -> str:
        """Return a noun with what stands around it, telling so much that ``keep`` slots are left."""
        adjectives: dict[str, str] = {}
        afters: dict[str, str] = {}
        most_afters = {"np": 2, "short": 1, "bare": 0}[form]
        room = min(len(self.left) - keep, self.draws.pick((1, 2, 2, 3)))
        for name in tuple(self.left):
            slot = self.domain.slots[name]
            places = [(adjectives, "adjective")] if slot.adjective and len(adjectives) < 2 else []
            places += [(afters, "after")] if slot.after and len(afters) < most_afters else []
            if places and len(adjectives) + len(afters) < room:
                place, part = self.draws.pick(places)
                place[name] = self._told(name, part)
        noun = self.draws.pick(self.domain.nouns).format(**self.slots)
        words = [*self._in_order(adjectives), noun, _run_on(self._in_order(afters))]
        if (
            form == "np"
            and self.domain.relative
            and not afters
            and len(self.left) > keep
            and self.draws.random() < 0.4
        ):
            clause = self.draws.pick(self.domain.relative)
            words.append(clause.format(which=_agreed(self._told(self.left[0], "verb"), plural=False)))
        return " ".join(word for word in ("" if form == "bare" else "a(n)", *words) if word)

    def _in_order(self, phrases: Mapping[str, str]) -> list[str]:
        return [phrases[name] for name in self.domain.slots if name in phrases]

    def _told(self, name: str, part: str) -> str:
        """Return a phrase that tells a slot, which is then no longer left."""
        self.left.remove(name)
        return self._worded(self.draws.pick(getattr(self.domain.slots[name], part)), name)

    def _worded(self, template: str, name: str) -> str:
        return template.replace("{}", self.draws.pick(self.domain.slots[name].values[self.slots[name]]))


def _joined(phrases: Sequence[str]) -> str:
    """Join verb phrases: "is cheap", "is near" give "is cheap and near"."""
    firsts = {phrase.partition(" ")[0] for phrase in phrases}
    if len(phrases) > 1 and len(firsts) == 1 and firsts <= set(_JOINABLE):
        phrases = [phrases[0], *(phrase.partition(" ")[2] for phrase in phrases[1:])]
    *most, last = phrases
    return f"{', '.join(most)} and {last}" if most else last


def _run_on(phrases: Sequence[str]) -> str:
    """Put phrases after a noun one after the other: "with A", "with B" give "with A and B"."""
    firsts = [phrase.partition(" ")[0] for phrase in phrases]
    return _joined(phrases) if firsts == ["with", "with"] else " ".join(phrases)


@lru_cache(maxsize=4096)
def _agreed(template: str, plural: bool) -> str:
    return _NUMBERED.sub(r"\2" if plural else r"\1", template)


def _finished(sentence: str) -> str:
    """Return a sentence with its articles settled and its first letter a capital."""
    settled = _ARTICLE.sub(lambda found: f"{article(found[1])} ", sentence)
    return settled[0].upper() + settled[1:]


def article(word: str) -> str:
    """Return "a" or "an", as the sound of the next word asks for.

    Examples
    --------
    >>> [article(word) for word in ("Italian", "Thai", "hour", "university", "11-inch", "12-inch")]
    ['an', 'a', 'an', 'a', 'an', 'a']
    """
    start = word.lower()
    if start[0].isdigit():
        number = start[: len(start) - len(start.lstrip("0123456789"))]
        return "an" if number in ("11", "18") or number[0] == "8" else "a"
    if start.startswith(("hour", "honest", "heir")):
        return "an"
    return "an" if start[0] in "aeiou" and not start.startswith(("uni", "use", "eu", "one")) else "a"
