"""Executors: who computes a work's value, and when."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from cosim.learning.work import Output, Work


class Executor(Protocol):
    """Computes values when they are needed and holds them no longer than that."""

    computes: bool
    """Whether there are values at all."""

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
        """

    def save_adapter(self, folder: Path, parts: Sequence[Output]) -> None:
        """Write the adapter that these outputs make up in PEFT's own format."""


class Computes(Protocol):
    """Knows how each operation is computed."""

    def __call__(self, work: Work, inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a work's value by name, from the values of its inputs in their order."""

    def save_adapter(self, folder: Path, parts: Sequence[Any]) -> None:
        """Write an adapter, given in parts, in PEFT's format."""


class Sequential:
    """Computes one work after the other, in the order in which they were described.

    That order is chosen by the schemes so that few values live at one time: an
    intermediate value is dropped as soon as the last work that reads it has.

    Parameters
    ----------
    trainer
        Knows how each operation is computed.
    """

    computes = True

    def __init__(self, trainer: Computes) -> None:
        self._trainer = trainer
        self._kept: WeakKeyDictionary[Work, dict[str, Any]] = WeakKeyDictionary()
        self.num_computed = 0

    def settle(self, keep: Sequence[Output], read: Sequence[Output]) -> tuple[list[Output], list[Any]]:
        """Compute everything below ``keep`` and ``read``."""
        wanted = (*keep, *read)
        works = self._uncomputed(wanted)
        reads_left = Counter(one for work in works for one in work.inputs)
        reads_left.update(wanted)
        values: dict[Output, Any] = {}
        for work in works:
            fields = self._trainer(work, [self._value(one, values) for one in work.inputs])
            self.num_computed += 1
            for name, value in fields.items():
                output = work.out(name)
                if reads_left[output]:
                    values[output] = value
            for one in work.inputs:
                reads_left[one] -= 1
                if not reads_left[one]:
                    values.pop(one, None)
        anchors: dict[Work, Work] = {}
        kept: list[Output] = []
        for one in keep:
            value = self._value(one, values)
            anchor = anchors.setdefault(one.work, _anchor(one.work))
            self._kept.setdefault(anchor, {})[one.field] = value
            kept.append(anchor.out(one.field))
        return kept, [self._value(one, values) for one in read]

    def save_adapter(self, folder: Path, parts: Sequence[Output]) -> None:
        """Compute the parts and write them."""
        self._trainer.save_adapter(folder, self.settle((), parts)[1])

    def _value(self, output: Output, values: dict[Output, Any]) -> Any:
        held = self._kept.get(output.work)
        return held[output.field] if held is not None and output.field in held else values[output]

    def _uncomputed(self, wanted: Iterable[Output]) -> list[Work]:
        """Return the works to compute, inputs first."""
        found: set[Work] = set()
        open_ = list(wanted)
        while open_:
            output = open_.pop()
            work = output.work
            if work in found or output.field in self._kept.get(work, ()):
                continue
            found.add(work)
            open_.extend(work.inputs)
        return sorted(found, key=lambda work: work.order)


class TimingOnly:
    """Computes nothing; a run with it is the time plane alone."""

    computes = False

    def settle(self, keep: Sequence[Output], read: Sequence[Output]) -> tuple[list[Output], list[Any]]:
        """Forget how the kept works came to be; there are no values to read."""
        return [_anchor(one.work).out(one.field) for one in keep], []

    def save_adapter(self, folder: Path, parts: Sequence[Output]) -> None:
        """Write nothing: there is no adapter."""


def _anchor(work: Work) -> Work:
    """Return the same work without its inputs."""
    return Work(work.operation, (), work.settings, work.key, work.order)
