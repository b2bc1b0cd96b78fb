"""The tables of an audit file.

::

    description = "Does the joint allocation win, and with which assumptions?"
    base = "../fedsllm.toml"             # a scenario, counted from the audit file
    proposed = "joint"                   # whose advantage is audited; the best one without it
    timing_only = true                   # compute no tensor: delay and energy
    replications = 10                    # seeds, which all cases share
    measures = ["total_s", "energy_j"]

    [[alternatives]]                     # what is compared: changes of the base, or another scenario
    name = "joint"

    [[alternatives]]
    name = "equal"
    set = { "allocator.kind" = "equal" }

    [[turns]]                            # an assumption of your own, or another value of one that there is
    name = "noise"
    set = { "radio.noise_figure_db" = 12 }

    [quick]                              # what --quick changes: fewer seeds, and training
    replications = 2
    measures = ["total_s", { kind = "time_to_loss", level = 4.5 }]

What else a study has at its head (``set``, ``seed``, ``until``, ``interval``, ...) an audit has too.
"""

from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from cosim.audits import PUBLISHED, TOGETHER
from cosim.parts import Table
from cosim.scenario.faults import did_you_mean
from cosim.studies.settings import Asked, Changes, Study, Vary
from cosim.words import short


class Alternative(Table):
    """One of what is compared: the base, or another ``scenario``, with what it sets."""

    name: str = Field(min_length=1)
    scenario: Path | None = None
    set: Changes = Field(default={})


class Turn(Table):
    """An assumption, and the settings that turn it.

    Attributes
    ----------
    name, title
        What it is called in results; what the settings do, in a line.
    assumption
        What a scenario assumes unless it says otherwise, in a few words.
    set
        New values by path.
    source
        Who attacks the assumption, and where the values are from.
    together
        Whether it is one of those that are turned together; not where another one says more.
    """

    name: str = Field(min_length=1)
    title: str = ""
    assumption: str = ""
    set: Annotated[Changes, Field(min_length=1)]
    source: str = ""
    together: bool = True


class Turns(Table):
    """A file of turns."""

    turns: tuple[Turn, ...]


class Quick(Table):
    """What a quick audit has in place of the whole one's; it trains, unless ``timing_only``."""

    replications: int = Field(default=2, ge=2, le=100_000)
    timing_only: bool = False
    measures: Annotated[tuple[Asked, ...] | None, Field(min_length=1)] = None
    set: Changes = Field(default={})


_Named = TypeVar("_Named", tuple[Alternative, ...], tuple[Turn, ...])


class Audit(Study):
    """An audit in full: a study whose factors are what is compared and which assumption is turned.

    Attributes
    ----------
    alternatives
        What is compared, two at least.
    proposed
        The alternative that is claimed to be ahead; without it, the best as published by the first measure.
    assumptions
        Names of the turns to make, of those that come with cosim and of ``turns``; all without it.
    turns
        Further turns; one with a known name takes its place.
    quick
        What ``--quick`` changes.
    """

    replications: int = Field(default=10, ge=2, le=100_000)
    alternatives: tuple[Alternative, ...] = Field(min_length=2)
    proposed: str | None = None
    assumptions: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    turns: tuple[Turn, ...] = ()
    quick: Quick = Quick()

    @field_validator("alternatives", "turns")
    @classmethod
    def _differently_named(cls, given: _Named) -> _Named:
        names = [one.name for one in given]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"two are named {short(name)}; give each a name of its own")
            if name in (PUBLISHED, TOGETHER):
                raise ValueError(f"{short(name)} is what the audit itself calls a case; take another name")
        return given

    @model_validator(mode="after")
    def _is_no_other_study(self) -> Self:
        names = [one.name for one in self.alternatives]
        if self.proposed is not None and self.proposed not in names:
            almost = did_you_mean(self.proposed, names)
            raise ValueError(
                f"proposed: no alternative is named {short(self.proposed)}{almost}; "
                f"there are {', '.join(names)}"
            )
        if self.vary != Vary() or self.baseline is not None:
            what = "baseline" if self.vary == Vary() else "vary"
            raise ValueError(
                f"{what}: an audit varies its alternatives and assumptions, each compared with itself as "
                f"published; leave {what} out, or run a study"
            )
        return self

    def quickly(self) -> "Audit":
        """Return the quick audit; it is another one, with a folder of its own."""
        quick = self.quick
        return self.model_validate(
            {
                **dict(self),
                "name": f"{self.name}-quick",
                "replications": quick.replications,
                "until": None,
                "timing_only": quick.timing_only,
                "measures": quick.measures or self.measures,
                "set": {**self.set, **quick.set},
            }
        )
