"""Executors: who computes a work's value, and when."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from cosim.learning.finite import NotFiniteError, is_finite, not_finite
from cosim.learning.work import KEPT, Output, Work

if TYPE_CHECKING:
    from cosim.learning.store import Shelf


class Executor(Protocol):
    """Computes values when they are needed and holds them no longer than that."""

    computes: bool
    """Whether there are values at all."""

    @property
    def num_computed(self) -> int:
        """Works computed so far."""

    @property
    def num_recalled(self) -> int:
        """Works that needed no computing, because the store had what was asked of them."""

    @property
    def fallback_reason(self) -> str | None:
        """Why works that were to be computed together were not; None if they were, or were not to be."""

    def settle(self, keep: Sequence[Output], read: Sequence[Output]) -> tuple[list[Output], list[Any]]:
        """Compute what is asked for, all in one go.

        Parameters
        ----------
        keep
            Outputs others will build on. They come back as outputs of works
            without inputs: the value is held as long as that work is
            referenced, and how it came to be is forgotten.
        read
            Outputs whose values are returned.

        Raises
        ------
        NotFiniteError
            If a training cannot go on with what was computed, or is not to.
        """


class Computes(Protocol):
    """Knows how each operation is computed."""

    def __call__(self, work: Work, inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a work's value by name, from the values of its inputs in their order."""


Key = tuple[str, str]
"""Under what a value is known: key of the work, and field."""

Fetch = Callable[[Output], Any]
"""Returns a value kept elsewhere, for a work without inputs whose value is not held here."""


class Computing(ABC):
    """Computes works group by group, and drops a value when the last work that reads it has.

    Works of one key are one work, however often it was described: it is computed
    once in a settlement, and not again in a later one that keeps its value. What
    is in a group, and how one is computed, is for those derived to say.

    Parameters
    ----------
    fetch
        Where values come from that neither are held nor can be computed.
    goes_on
        Whether to go on where values are not finite.

    Attributes
    ----------
    not_finite
        What the latest settlement found not to be finite, in the order in which it was computed.
    """

    computes = True
    num_recalled = 0
    fallback_reason: str | None = None

    def __init__(self, fetch: Fetch | None = None, *, goes_on: bool = False) -> None:
        self._fetch = fetch
        self._goes_on = goes_on
        self.not_finite: list[Output] = []
        self._kept: WeakKeyDictionary[Work, dict[str, Any]] = WeakKeyDictionary()
        self._anchors: WeakValueDictionary[str, Work] = WeakValueDictionary()
        self.num_computed = 0

    @abstractmethod
    def _groups(self, works: Sequence[Work]) -> Iterable[Sequence[Work]]:
        """Return all works, which come inputs first, in the order in which to compute them.

        None in a group may read another of it.
        """

    @abstractmethod
    def _compute(self, works: Sequence[Work], inputs: Sequence[list[Any]]) -> Sequence[dict[str, Any]]:
        """Return the fields of each work of a group, from the values of its inputs."""

    def _plain(self, value: Any) -> Any:
        """Return a value as it leaves the executor."""
        return value

    def settle(self, keep: Sequence[Output], read: Sequence[Output]) -> tuple[list[Output], list[Any]]:
        """Compute everything below ``keep`` and ``read``.

        A settlement is computed to its end also where a value is not finite, so
        that what came before it in time is known, whoever was computed first.
        """
        wanted = (*keep, *read)
        works = self.uncomputed(wanted)
        reads_left = Counter(_key(one) for work in works for one in work.inputs)
        reads_left.update(map(_key, wanted))
        values: dict[Key, Any] = {}
        self.not_finite = []
        for group in self._groups(works):
            self._settle_group(group, values, reads_left, read)
        for key in set(map(_key, wanted)) & values.keys():
            values[key] = self._plain(values[key])
        if self.not_finite and not self._goes_on:
            raise NotFiniteError(tuple(self.not_finite), self._known(read, values))
        kept: list[Output] = []
        for one in keep:
            value = self._value(one, values)
            anchor = self._anchors.get(one.work.key) or _anchor(one.work)
            self._anchors[anchor.key] = anchor
            self._kept.setdefault(anchor, {})[one.field] = value
            kept.append(anchor.out(one.field))
        return kept, [self._value(one, values) for one in read]

    def _settle_group(
        self,
        group: Sequence[Work],
        values: dict[Key, Any],
        reads_left: Counter[Key],
        read: Sequence[Output],
    ) -> None:
        """Compute a group into ``values``, and drop from there what nobody will read again."""
        inputs = [[self._value(one, values) for one in work.inputs] for work in group]
        try:
            computed = self._compute(group, inputs)
        except Exception as fault:  # any that an operation may raise on what is not finite
            bad = [
                one
                for work, given in zip(group, inputs, strict=True)
                for one, value in zip(work.inputs, given, strict=True)
                if not is_finite(value)
            ]
            if not bad:
                raise
            reason = f"{group[0].operation}: {' '.join(str(fault).split())}"
            found = tuple(self.not_finite or bad)
            raise NotFiniteError(found, self._known(read, values), reason) from fault
        self.num_computed += len(group)
        for work, fields in zip(group, computed, strict=True):
            self.not_finite += not_finite(work, fields)
            for name, value in fields.items():
                if reads_left[work.key, name]:
                    values[work.key, name] = value
            for key in map(_key, work.inputs):
                reads_left[key] -= 1
                if not reads_left[key]:
                    values.pop(key, None)

    def _known(self, read: Sequence[Output], values: dict[Key, Any]) -> dict[Key, Any]:
        """Return what of ``read`` is known, though not all could be computed."""
        found = {_key(one): values[_key(one)] for one in read if _key(one) in values}
        held = {_key(one): self._held(one.work) for one in read}
        return found | {key: fields[key[1]] for key, fields in held.items() if key[1] in fields}

    def _value(self, output: Output, values: dict[Key, Any]) -> Any:
        held = self._held(output.work)
        if output.field in held:
            return held[output.field]
        key = _key(output)
        if key not in values and self._fetch is not None:
            values[key] = self._fetch(output)
        return values[key]

    def _held(self, work: Work) -> dict[str, Any]:
        """Return what is kept of a work's value, whoever described it."""
        anchor = self._anchors.get(work.key)
        return {} if anchor is None else self._kept.get(anchor, {})

    def uncomputed(self, wanted: Iterable[Output]) -> list[Work]:
        """Return the works that would have to be computed, each once, inputs first."""
        found: dict[str, Work] = {}
        open_ = list(wanted)
        while open_:
            output = open_.pop()
            work = output.work
            first = found.get(work.key)
            if first is not None and first.order <= work.order:
                continue
            if output.field in self._held(work) or self._is_elsewhere(work):
                continue
            found[work.key] = work  # of several, the one described first: it comes after its inputs, too
            open_.extend(work.inputs)
        return sorted(found.values(), key=lambda work: work.order)

    def _is_elsewhere(self, work: Work) -> bool:
        """Return whether a work is only named here, and its value is to be fetched."""
        return self._fetch is not None and work.operation == KEPT


class Sequential(Computing):
    """Computes one work after the other, in the order in which they were described.

    That order is chosen by the schemes so that few values live at one time.

    Parameters
    ----------
    make_trainer
        Returns who knows how each operation is computed; called when there is
        something to compute, since it loads the model.
    fetch, goes_on
        As for :class:`Computing`.
    """

    def __init__(
        self, make_trainer: Callable[[], Computes], fetch: Fetch | None = None, *, goes_on: bool = False
    ) -> None:
        super().__init__(fetch, goes_on=goes_on)
        self._make_trainer = make_trainer
        self._trainer: Computes | None = None

    def _groups(self, works: Sequence[Work]) -> Iterable[Sequence[Work]]:
        return ((work,) for work in works)

    def _compute(self, works: Sequence[Work], inputs: Sequence[list[Any]]) -> Sequence[dict[str, Any]]:
        if self._trainer is None:
            self._trainer = self._make_trainer()
        return [self._trainer(work, given) for work, given in zip(works, inputs, strict=True)]


class Recalling:
    """Looks in the store first; what is not there is computed, and kept.

    What was computed together with a value that is not finite is not kept: a run
    that meets the same keys later finds out again, in the same place.

    Parameters
    ----------
    shelf
        The store's values of this training.
    make_computing
        Returns who computes what is missing, told how to fetch what is not.
    device
        Where torch computes.
    """

    computes = True

    def __init__(self, shelf: "Shelf", make_computing: Callable[[Fetch], Computing], device: str) -> None:
        self._shelf = shelf
        self._computing = make_computing(lambda output: shelf.get(_key(output), device))
        self.num_recalled = 0

    @property
    def fallback_reason(self) -> str | None:
        """Why works that were to be computed together were not."""
        return self._computing.fallback_reason

    @property
    def num_computed(self) -> int:
        """Works computed so far."""
        return self._computing.num_computed

    def settle(self, keep: Sequence[Output], read: Sequence[Output]) -> tuple[list[Output], list[Any]]:
        """Recall or compute everything below ``keep`` and ``read``."""
        wanted = (*keep, *read)
        if self._are_here(wanted):
            return self._settle(keep, read)
        self._shelf.refresh()  # another process may have computed it by now
        missing = [_key(one) for one in wanted if _key(one) not in self._shelf]
        if not missing:
            return self._settle(keep, read)
        with self._shelf.alone(missing):
            self._shelf.refresh()
            return self._settle(keep, read)

    def _are_here(self, wanted: Iterable[Output]) -> bool:
        return all(_key(one) in self._shelf for one in wanted)

    def _settle(self, keep: Sequence[Output], read: Sequence[Output]) -> tuple[list[Output], list[Any]]:
        wanted = (*keep, *read)
        missing_keep = [one for one in keep if _key(one) not in self._shelf]
        missing_read = [one for one in read if _key(one) not in self._shelf]
        num_works = len(self._computing.uncomputed(wanted))
        before = self.num_computed
        computed: dict[Output, Output] = {}
        values: dict[Output, Any] = {}
        if missing_keep or missing_read:
            missing = [*missing_keep, *missing_read]
            try:
                anchors, new = self._computing.settle(missing_keep, missing)
            except NotFiniteError as found:
                recalled = {key: self._shelf.get(key) for key in map(_key, read) if key in self._shelf}
                raise NotFiniteError(found.outputs, recalled | found.known, found.fault) from found
            computed.update(zip(missing_keep, anchors, strict=True))
            values.update(zip(missing, new, strict=True))
            if not self._computing.not_finite:
                self._shelf.put({_key(one): value for one, value in values.items()})
        self.num_recalled += num_works - (self.num_computed - before)
        kept = [computed[one] if one in computed else _anchor(one.work).out(one.field) for one in keep]
        return kept, [values[one] if one in values else self._shelf.get(_key(one)) for one in read]


class TimingOnly:
    """Computes nothing; a run with it is the time plane alone."""

    computes = False
    num_computed = 0
    num_recalled = 0
    fallback_reason: str | None = None

    def settle(self, keep: Sequence[Output], read: Sequence[Output]) -> tuple[list[Output], list[Any]]:
        """Forget how the kept works came to be; there are no values to read."""
        return [_anchor(one.work).out(one.field) for one in keep], []


def _anchor(work: Work) -> Work:
    """Return a work that stands for the value of another, and has forgotten how that came to be."""
    return Work(KEPT, (), {}, work.key, work.order)


def _key(output: Output) -> Key:
    """Return the key a value has here and in the store."""
    return output.work.key, output.field
