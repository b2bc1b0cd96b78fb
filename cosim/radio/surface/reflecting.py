"""A surface of many small elements that each turn the phase of what they reflect."""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.parts import LONGEST_S, Decibels
from cosim.radio.path import Path
from cosim.radio.surface import Complexes, Surface
from cosim.units import Floats, db_to_linear, seconds_to_ns

_LEAST_M = 1.0


class Reflecting(Surface):
    """Elements in a row, whose phases are one setting for all clients and links.

    What arrives is ``|h + sum_n g_n f_n exp(j phase_n)|^2``: the direct path, and one over
    each element, whose loss is the product of the losses of both hops. The hop between
    client and surface fades by Rician fading of its own; between surface and base station,
    both fixed and high up, there is a line of sight alone, the same for all, so that its
    phases are part of the setting. Both hops and the phase of the direct path against
    them are drawn afresh for each coherence time, and are the same on all subchannels.

    Phases are a knob of decisions (``surface_phases``). Until one sets them they are
    ``phases``, or all zero: a plain mirror.

    To know how to set them, in each coherence time every client sends one pilot symbol and one
    more for each element, all clients side by side, and the phases travel to the surface.
    Data gets what is left of the time; pilots are sent at the power of data.

    Attributes
    ----------
    num_elements, phase_bits
        How many elements, and how many bits say the phase of one.
    position_m
        Where it is, m.
    reference_loss_db, client_exponent, station_exponent
        Loss of each hop at one metre, and how it grows with the distance.
    gain_db
        Gains of the antennas at both ends and of an element on both its hops, together.
    k_factor
        Line of sight over scattered power between client and surface, linear.
    coherence_time_s
        How long gains hold, also of the direct path: its own fading must change in whole multiples.
    phases
        What the phases are before a decision: a level of each element, from 0.
    estimation
        Whether pilots and phases take time: ``modelled``, or ``free``.
    pilot_symbol_s, control_bit_per_s
        How long a pilot lasts; the rate at which phases travel to the surface.

    Source
    ------
    S. Gong et al., "Optimization-driven machine learning for intelligent reflecting
    surfaces assisted wireless networks", arXiv 2008.12938 (method card 10). The channel is
    the standard one, recalled; what estimation costs is derived.
    """

    kind: Literal["reflecting"] = "reflecting"
    num_elements: int = Field(default=64, gt=0, le=4096)
    phase_bits: int = Field(default=2, ge=1, le=8)
    position_m: tuple[float, float] = (50.0, 50.0)
    reference_loss_db: Decibels = 30.0
    client_exponent: float = Field(default=2.2, gt=0.0)
    station_exponent: float = Field(default=2.0, gt=0.0)
    gain_db: Decibels = 20.0
    k_factor: float = Field(default=3.0, ge=0.0)
    coherence_time_s: float = Field(default=0.1, ge=1e-9, le=LONGEST_S)
    phases: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    estimation: Literal["modelled", "free"] = "modelled"
    pilot_symbol_s: float = Field(default=71.35e-6, ge=0.0, le=LONGEST_S)
    control_bit_per_s: float = Field(default=1e6, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"num_elements": 8},
        {"num_elements": 4, "phase_bits": 1, "k_factor": 0.0, "phases": [0, 1, 1, 0]},
    )

    @model_validator(mode="after")
    def _phases_and_pilots_fit(self) -> Self:
        if self.phases is not None:
            if len(self.phases) != self.num_elements:
                raise ValueError(
                    f"{len(self.phases)} phases are given for num_elements {self.num_elements}; "
                    "give one for each"
                )
            if max(self.phases) >= self.levels:
                raise ValueError(
                    f"the phase {max(self.phases)} is given, and phase_bits {self.phase_bits} have "
                    f"0 to {self.levels - 1}"
                )
        if not self.data_share > 0.0:
            raise ValueError(
                f"pilots and phases of num_elements {self.num_elements} take {self.estimation_s:.4g} s of "
                f"each coherence_time_s {self.coherence_time_s:g}; take fewer elements, or a longer time"
            )
        return self

    @property
    def block_ns(self) -> int:
        """The coherence time."""
        return seconds_to_ns(self.coherence_time_s)

    @property
    def elements(self) -> int:
        """As set."""
        return self.num_elements

    @property
    def levels(self) -> int:
        """As many as the bits of a phase can say."""
        return int(2**self.phase_bits)

    @property
    def estimation_s(self) -> float:
        """What pilots and phases take of a coherence time, s."""
        pilots_s = (self.num_elements + 1) * self.pilot_symbol_s
        return pilots_s + self.num_elements * self.phase_bits / self.control_bit_per_s

    @property
    def data_share(self) -> float:
        """What they leave."""
        return 1.0 if self.estimation == "free" else 1.0 - self.estimation_s / self.coherence_time_s

    def under(self, phases: tuple[int, ...]) -> Self:
        """Return the surface with these phases."""
        return self.model_copy(update={"phases": phases})

    def gains(self, path: Path, direct: Floats) -> Floats:
        """Return the gains of direct and reflected paths together."""
        amplitude, each = self.amplitudes(path, direct)
        turned = each.sum(axis=1)
        if self.phases is not None:
            turned = each @ np.exp(2j * np.pi / self.levels * np.array(self.phases))
        return np.asarray(np.abs(amplitude + turned[:, np.newaxis]) ** 2)

    def amplitudes(self, path: Path, direct: Floats) -> tuple[Complexes, Complexes]:
        """Return the amplitudes of the direct path, and of each element's at phase zero."""
        numbers = path.time_ns // self.block_ns
        first, count = int(numbers[0]), int(numbers[-1] - numbers[0]) + 1
        row = numbers - first
        phase = 2.0 * np.pi * path.stream.child("direct").uniforms(first, count, 1)[row]
        drawn = path.stream.child("scatter").uniforms(first, count, 2 * self.num_elements)[row]
        scatter = np.sqrt(-np.log(drawn[:, ::2])) * np.exp(
            2j * np.pi * drawn[:, 1::2]
        )  # (count, num_elements)
        to_client = path.client_m - self.position_m  # (count, 2)
        to_station = path.station_m - self.position_m
        # elements half a wavelength apart: how much farther each is for the client
        farther = np.cos(np.arctan2(to_client[:, 1], to_client[:, 0]))[:, np.newaxis]
        sight = np.exp(1j * np.pi * farther * np.arange(self.num_elements))
        share = self.k_factor / (self.k_factor + 1.0)
        fading = np.sqrt(share) * sight + np.sqrt(1.0 - share) * scatter
        gain = _hop(to_client, self.reference_loss_db, self.client_exponent)
        gain *= _hop(to_station, self.reference_loss_db, self.station_exponent) * db_to_linear(self.gain_db)
        return np.sqrt(direct) * np.exp(1j * phase), np.sqrt(gain)[:, np.newaxis] * fading


def _hop(between_m: Floats, reference_loss_db: float, exponent: float) -> Floats:
    """Return the power gain of one hop, shape (count,)."""
    distances_m = np.maximum(np.hypot(between_m[:, 0], between_m[:, 1]), _LEAST_M)
    return np.asarray(db_to_linear(-reference_loss_db) * distances_m**-exponent)
