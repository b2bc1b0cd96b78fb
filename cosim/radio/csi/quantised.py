"""Gains that clients report in steps."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.parts import Decibels
from cosim.radio.csi import Csi, Sight
from cosim.units import Floats, drain_ns, linear_to_db


class Quantised(Csi):
    """A channel quality indicator of each subchannel: the SNR in even steps of dB, rounded down.

    The SNR is that of full power spread evenly over the link. What is below the lowest step is
    reported as the lowest. All clients report in turn, over the uplink to the server of the link, at
    ``feedback_bit_per_s`` and full power.

    Attributes
    ----------
    bits
        Of the indicator of one subchannel, which has ``2 ** bits`` steps.
    lowest_snr_db, highest_snr_db
        The first step and the last, dB.
    feedback_bit_per_s
        Rate of the control channel, bit/s.

    Source
    ------
    Four bits as in 3GPP TS 38.214, clause 5.2.2.1; its 15 entries are about 2 dB apart, which
    the default range makes of 16 steps.
    """

    kind: Literal["quantised"] = "quantised"
    bits: int = Field(default=4, ge=1, le=32)
    lowest_snr_db: Decibels = -7.0
    highest_snr_db: Decibels = 23.0
    feedback_bit_per_s: float = Field(default=1e6, gt=0.0)
    is_report: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"bits": 1, "lowest_snr_db": 0.0})

    @model_validator(mode="after")
    def _steps_go_up(self) -> Self:
        if not self.lowest_snr_db < self.highest_snr_db:
            raise ValueError(
                f"lowest_snr_db {self.lowest_snr_db:g} is not below highest_snr_db {self.highest_snr_db:g}; "
                "lower the one or raise the other"
            )
        return self

    @property
    def bits_of_subchannel(self) -> int:
        """As set."""
        return self.bits

    def report_ns(self, num_subchannels: int) -> int:
        """Return how long the indicators of all subchannels take, ns."""
        return drain_ns(self.bits * num_subchannels, self.feedback_bit_per_s)

    def known(self, gains: Floats, sight: Sight) -> Floats:
        """Return the gains of the steps."""
        step_db = (self.highest_snr_db - self.lowest_snr_db) / (2**self.bits - 1)
        above_db = linear_to_db(np.maximum(gains * sight.snr_of_gain, 1e-40)) - self.lowest_snr_db
        number = np.clip(np.floor(above_db / step_db), 0, 2**self.bits - 1)
        return np.asarray(10.0 ** ((self.lowest_snr_db + step_db * number) / 10.0) / sight.snr_of_gain)

    @property
    def description(self) -> str:
        """In how many bits."""
        return f"reported in {self.bits} bit(s) for each subchannel"
