"""Who holds which subchannel of a link at which power, as it is on record."""

import numpy as np

from cosim.radio.grant import Grant
from cosim.units import Bools, Ints

NOBODY = -1


class Holders:
    """Of each subchannel the client that holds it, its power, and its width where the band is split."""

    def __init__(self) -> None:
        self._client, self._power_w, self._width_hz = np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)

    def changes(self, numbers: Ints, client: int, grant: Grant) -> Bools:
        """Return which of a grant's subchannels, of these numbers, change hands, power or width."""
        self._reach(int(numbers.max(initial=-1)) + 1)
        changes = (self._client[numbers] != client) | (self._power_w[numbers] != grant.tx_power_w)
        widths = self._width_hz[numbers]
        if grant.bandwidths_hz is None:
            return np.asarray(changes | ~np.isnan(widths))
        return np.asarray(changes | (widths != grant.bandwidths_hz))

    def take(self, numbers: Ints, client: int, grant: Grant) -> list[int]:
        """Let a client hold a grant's subchannels; returns who held any of them before."""
        before = set(self._client[numbers].tolist())  # np.unique imports masked arrays
        self._client[numbers], self._power_w[numbers] = client, grant.tx_power_w
        self._width_hz[numbers] = np.nan if grant.bandwidths_hz is None else grant.bandwidths_hz
        return sorted(before - {NOBODY})

    def free(self, numbers: Ints) -> None:
        """Let nobody hold these subchannels."""
        self._client[numbers] = NOBODY

    def held_by(self, clients: "list[int] | tuple[int, ...]") -> Ints:
        """Return the subchannels that these clients hold, ascending."""
        return np.flatnonzero(np.isin(self._client, clients))

    def clients(self) -> list[int]:
        """Return who holds anything, ascending."""
        return sorted(set(self._client.tolist()) - {NOBODY})

    def _reach(self, count: int) -> None:
        """Know of so many subchannels at least."""
        more = count - len(self._client)
        if more > 0:
            self._client = np.concatenate([self._client, np.full(more, NOBODY)])
            self._power_w, self._width_hz = (
                np.concatenate([one, np.full(more, np.nan)]) for one in (self._power_w, self._width_hz)
            )
