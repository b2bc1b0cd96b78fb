"""Rate: what a set of modulations reaches."""

from typing import Literal

import numpy as np
from pydantic import Field

from cosim.radio.rate import RateModel
from cosim.units import Floats


class Truncated(RateModel):
    """A share of Shannon's capacity, up to what the highest modulation carries.

    Source
    ------
    3GPP TR 36.942, annex A.1.
    """

    kind: Literal["far_truncated"] = "far_truncated"
    share: float = Field(default=0.6, gt=0.0, le=1.0)
    most_bit_per_s_per_hz: float = Field(default=4.4, gt=0.0)

    def per_subchannel(self, snr: Floats, bandwidth_hz: Floats) -> Floats:
        """Return the rate of each subchannel."""
        return np.asarray(
            bandwidth_hz * np.minimum(self.share * np.log2(1.0 + snr), self.most_bit_per_s_per_hz)
        )
