"""The formula other federated-learning simulators use."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.radio.rate import RateModel
from cosim.units import Floats


class ConstantBandwidth(RateModel):
    """A rate that does not look at the air: a transfer takes bits / constant.

    Here so that what the assumption costs can be measured. ``rate_bit_per_s`` is
    each client's whole rate, however many subchannels it owns;
    ``spectral_efficiency_bit_per_s_per_hz`` grows with the width it owns. A client
    without a subchannel sends nothing in either form.

    Source
    ------
    F. Lai et al., "FedScale: benchmarking model and system performance of federated
    learning at scale", ICML 2022, whose clients take size / bandwidth; with sizes in
    bytes and bandwidth in Mbit/s that is bytes * 8 / (bandwidth * 1e6).

    Examples
    --------
    >>> ConstantBandwidth(rate_bit_per_s=8e6).rates(np.array([0.1, 50.0]), np.array([1e5, 1e5]))
    np.float64(8000000.0)
    """

    kind: Literal["constant_bandwidth"] = "constant_bandwidth"
    rate_bit_per_s: float | None = Field(default=None, gt=0.0)
    spectral_efficiency_bit_per_s_per_hz: float | None = Field(default=None, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"rate_bit_per_s": 10e6},
        {"spectral_efficiency_bit_per_s_per_hz": 2.0},
    )

    @model_validator(mode="after")
    def _one_constant(self) -> Self:
        if (self.rate_bit_per_s is None) == (self.spectral_efficiency_bit_per_s_per_hz is None):
            both = "both were" if self.rate_bit_per_s is not None else "neither was"
            raise ValueError(
                f"{both} given; give either rate_bit_per_s or spectral_efficiency_bit_per_s_per_hz"
            )
        return self

    @property
    def rung(self) -> str:
        """A constant."""
        return "constant, whatever the channel"

    def per_subchannel(self, snr: Floats, bandwidth_hz: Floats) -> Floats:
        """Return the rate of each subchannel of a grant, bit/s, shape (..., num_owned).

        A rate for the whole grant is split over it in proportion to width.
        """
        if self.spectral_efficiency_bit_per_s_per_hz is not None:
            share = self.spectral_efficiency_bit_per_s_per_hz * bandwidth_hz
        else:
            assert self.rate_bit_per_s is not None
            share = self.rate_bit_per_s * (bandwidth_hz / bandwidth_hz.sum())
        return np.broadcast_to(share, snr.shape)

    def rates(self, snr: Floats, bandwidth_hz: Floats) -> Floats:
        if self.rate_bit_per_s is None or bandwidth_hz.size == 0:
            return super().rates(snr, bandwidth_hz)
        return np.full(snr.shape[:-1], self.rate_bit_per_s)[()]  # summed shares would carry rounding
