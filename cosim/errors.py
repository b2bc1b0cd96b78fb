"""What can go wrong, as one tree.

::

    CosimError
    ├── ScenarioError     the file, a setting or a path the user gave is at fault
    ├── AllocationError   an allocator was asked for, or decided, what the cell cannot do
    ├── RecordError       a folder is no run, or a run that cannot be read
    ├── StoreError        a folder is no store of values, or one that cannot be used
    ├── DivergedError     a training no longer has finite numbers
    └── StalledError      nothing can happen any more and the scheme has not ended

A message is one finished sentence that names the place, the value and the way
out, and it is the only argument: SimPy rebuilds exceptions from ``args``. A
wrong argument to a function is a plain :class:`ValueError`.
"""

from collections.abc import Callable

_writer: Callable[[object], str] = repr


def quoted(value: object) -> str:
    """Return a value as a message repeats it.

    How it is shortened is decided outside of this module (:func:`quote_with`):
    this one is in the key of stored values, and a message decides none.
    """
    return _writer(value)


def quote_with(writer: Callable[[object], str]) -> None:
    """Let messages repeat values as ``writer`` writes them; Python's ``repr`` does without it."""
    global _writer
    _writer = writer


class CosimError(Exception):
    """Any fault cosim explains in one line; ``exit_status`` is what the command line answers with."""

    exit_status = 2


class ScenarioError(CosimError):
    """The scenario, or a file it names, is at fault; one line per fault."""


class AllocationError(CosimError):
    """An allocation breaks a limit of the cell, or no allocation can keep it."""


class RecordError(CosimError):
    """A run folder cannot be written or read."""


class StoreError(CosimError):
    """A store of values cannot be used."""


class DivergedError(CosimError):
    """A loss or an adapter is not finite any more, and the run ends there."""

    exit_status = 1


class StalledError(CosimError):
    """Nothing can happen any more, but the scheme has not ended."""

    exit_status = 1
