"""One sparsification ratio for all clients and rounds."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators.sparsifying import KeepRatios, Upload, curves_of
from cosim.control.decision import Allocation
from cosim.control.solvers.sparsity.rounding import WholePairs
from cosim.control.state import CellState
from cosim.errors import AllocationError
from cosim.units import Floats, rounded_up

_HALVINGS = 60


class FixedRatio(KeepRatios):
    """The same sparsification ratio always; bandwidths such that all are done as early as possible together.

    Attributes
    ----------
    sparsification_ratio
        Share of its adapter's bits each client sends; without it, the largest with
        which a round ends by ``latency_limit_s`` under the channel before fading.

    Source
    ------
    Method card 2 (soft_tsfa), section 9.
    """

    kind: Literal["fixed_ratio"] = "fixed_ratio"
    former_names: ClassVar[Mapping[str, str]] = {"keep_ratio": "sparsification_ratio"}
    sparsification_ratio: float | None = Field(default=None, gt=0.0, le=1.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"latency_limit_s": 100.0},
        {"latency_limit_s": 100.0, "sparsification_ratio": 0.3, "bandwidth": "subchannels"},
    )

    def decide(self, state: CellState, upload: Upload) -> Allocation:
        """Return this round's decision."""
        _, pairs = curves_of(upload, "generic")
        takes_part = upload.weights > 0.0
        ratio = self._largest(upload) if self.sparsification_ratio is None else self.sparsification_ratio
        bits = pairs.down(np.where(takes_part, ratio * upload.now.dense_bits, 0.0))
        pair_bits, dense_bits = upload.sparsity.pair_bits, upload.sparsity.dense_bits
        if len(pair_bits) and bits.max() < pair_bits.min():
            raise AllocationError(
                f"allocator.sparsification_ratio: {ratio:.4g} of {dense_bits} bits has no room for a pair "
                f"of {int(pair_bits.min())} bits; "
                + (
                    f"raise latency_limit_s ({self.latency_limit_s:g} s)."
                    if self.sparsification_ratio is None
                    else f"give it {rounded_up(pair_bits.min() / dense_bits):g} or more."
                )
            )
        sent = np.where(takes_part, upload.now.overhead_bits + bits, 0.0)
        end_s = float(upload.now.earliest_s(sent))
        return self.decision(state, upload, pairs, bits, end_s, bandwidth_hz=upload.now.fair_widths_hz(sent))

    def fitted(self, pairs: WholePairs, wanted_bits: Floats, carried_bits: Floats) -> Floats:
        """Return the same payloads: the ratio is fixed, whatever the subchannels carry."""
        return wanted_bits

    def _largest(self, upload: Upload) -> float:
        """Return the largest ratio that keeps the limit under the channel before fading."""
        average, limit_s = upload.average, self.latency_limit_s - upload.beside_s

        def needs_s(ratio: float) -> float:
            bits = np.where(upload.weights > 0.0, average.overhead_bits + ratio * average.dense_bits, 0.0)
            return float(average.earliest_s(bits))

        if needs_s(1.0) <= limit_s:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if needs_s(middle) <= limit_s else (low, middle)
        return low
