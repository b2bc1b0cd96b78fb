"""Gains that are known by one step after another."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import WithJsonSchema, model_validator

from cosim.parts import OneOf
from cosim.radio.csi import Complexes, Csi, Sight
from cosim.units import Floats

_STEPS = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}}},
}
"""Said once: a schema of parts of the family within the family would have no end."""


class Chain(Csi):
    """Several ways to know less, one after the other: delayed, estimated, then quantised.

    Delays add up, and so do pilots and reports.
    """

    kind: Literal["chain"] = "chain"
    steps: Annotated[tuple[Csi, ...], OneOf(Csi), WithJsonSchema(_STEPS)]
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"steps": [{"kind": "delayed"}, {"kind": "estimated"}, {"kind": "quantised"}]},
    )

    @model_validator(mode="after")
    def _nothing_is_measured_behind_a_report(self) -> Self:
        if not self.steps:
            raise ValueError("steps is empty; give one at least, or kind = 'perfect'")
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            if before.is_report and after.pilots_ns:
                raise ValueError(
                    f"{after.kind!r} comes behind {before.kind!r}, and a report is of what was measured; "
                    "put it first"
                )
        return self

    def on(self, link: str) -> Csi | None:
        """Return the steps that one link has."""
        steps = tuple(step for one in self.steps if (step := one.on(link)) is not None)
        return super().on(link) and self.model_copy(update={"steps": steps}) if steps else None

    @property
    def delay_ns(self) -> int:
        """All delays together."""
        return sum(step.delay_ns for step in self.steps)

    @property
    def pilots_ns(self) -> int:
        """All pilots together."""
        return sum(step.pilots_ns for step in self.steps)

    @property
    def bits_of_subchannel(self) -> int:
        """All reports together."""
        return sum(step.bits_of_subchannel for step in self.steps)

    def report_ns(self, num_subchannels: int) -> int:
        """Return how long all reports of a client last, ns."""
        return sum(step.report_ns(num_subchannels) for step in self.steps)

    def known(self, gains: Floats, sight: Sight) -> Floats:
        """Return what the last step makes of it."""
        for step in self.steps:
            gains = step.known(gains, sight)
        return gains

    def estimate(self, amplitudes: Complexes, sight: Sight) -> Complexes:
        """Return what the last step makes of them."""
        for step in self.steps:
            amplitudes = step.estimate(amplitudes, sight)
        return amplitudes

    @property
    def description(self) -> str:
        """All steps."""
        return ", ".join(step.description for step in self.steps)
