"""Interference by the scenario's own clients, served by other base stations on the same subchannels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from cosim.radio.grant import Grant
from cosim.radio.interference import Interference
from cosim.radio.path import Path
from cosim.units import Floats, Ints


class OwnTraffic(Interference):
    """Every base station has the whole band, and who sends in one cell is heard in all others.

    A subchannel has one sender in each cell at a time. It is heard for as long as it sends, with its
    power at its gain before fading: rates of all transfers of a link change whenever one of them
    begins or ends.
    Allocators share out the band once for all cells, and do not see this interference.

    Attributes
    ----------
    reuse
        ``every_cell``: what is granted to clients of other cells is dealt, one by one, to the clients of
        each cell too, at the total power they were granted. ``as_granted``: clients keep to what they
        are granted, and interfere where an allocator grants the same to several, such as ``time_shared``.
    """

    kind: Literal["own_traffic"] = "own_traffic"
    reuse: Literal["every_cell", "as_granted"] = "every_cell"
    reuses: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"reuse": "as_granted"})

    def psd_w_per_hz(self, path: Path, bandwidths_hz: Floats) -> Floats:
        """Return zero: what is heard depends on who sends."""
        return np.zeros((1, 1))

    def reused(self, granted: Mapping[int, Grant], cells: Ints) -> dict[int, Grant]:
        """Return what each client may use; a band that was split otherwise stays as it is."""
        if self.reuse == "as_granted" or any(one.bandwidths_hz is not None for one in granted.values()):
            return dict(granted)
        every = {int(number) for grant in granted.values() for number in grant.subchannels}
        found = dict(granted)
        for cell in np.unique(cells[list(granted)]):
            own = [
                client
                for client in sorted(granted)
                if cells[client] == cell and len(granted[client].subchannels)
            ]
            foreign = sorted(every - {int(n) for client in own for n in granted[client].subchannels})
            for turn, client in enumerate(own):
                more = np.array(foreign[turn :: len(own)], dtype=np.int64)
                if len(more):
                    wide = Grant.spread(
                        np.concatenate([granted[client].subchannels, more]), granted[client].total_tx_power_w
                    )
                    efficiency = granted[client].spectral_efficiency_bit_per_s_per_hz
                    found[client] = replace(wide, spectral_efficiency_bit_per_s_per_hz=efficiency)
        return found

    def heard(
        self,
        in_use: Mapping[int, Grant],
        cells: Ints,
        station_gains: Floats,
        bandwidths_hz: Floats,
        *,
        is_uplink: bool,
    ) -> dict[int, Floats]:
        """Return what is heard of the grants in use in other cells."""
        clients = np.array(list(in_use), dtype=np.int64)
        sent = np.zeros((len(clients), len(bandwidths_hz)))  # (num_active, num_subchannels), W/Hz
        for row, grant in zip(sent, in_use.values(), strict=True):
            if grant.bandwidths_hz is not None:  # spread over the whole band
                row += grant.total_tx_power_w / bandwidths_hz.sum()
            else:
                row[grant.subchannels] = grant.tx_power_w / bandwidths_hz[grant.subchannels]
        found = {}
        for client in clients.tolist():
            own = cells[client]
            gains = station_gains[clients, own] if is_uplink else station_gains[client, cells[clients]]
            gains = np.where(cells[clients] == own, 0.0, gains)  # (num_active,)
            found[client] = (gains[:, np.newaxis] * sent).sum(axis=0)
        return found
