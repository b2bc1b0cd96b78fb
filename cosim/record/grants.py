"""Who owns which subchannels: rows that grow while a run goes on."""

from typing import NamedTuple

import numpy as np

from cosim.units import Floats, Ints


class Granted(NamedTuple):
    """Subchannels of a link that change hands or power at one instant, all to one client.

    Attributes
    ----------
    client
        Who has them from now on; "" for nobody.
    subchannels, tx_power_w, gain
        Which; power on each, W, and the linear power gain at that instant.
    bandwidths_hz
        Width of each, Hz, where the band was split into channels; None for the link's own subchannels.
    """

    time_ns: int
    round: int
    link: str
    client: str
    subchannels: Ints
    tx_power_w: Floats
    gain: Floats
    bandwidths_hz: Floats | None


class GrantLog:
    """Who owns which subchannels from which instant on.

    A row is of one client and change; its columns have a value for each subchannel.
    """

    def __init__(self) -> None:
        self.rows: list[Granted] = []

    def __len__(self) -> int:
        return sum(len(one.subchannels) for one in self.rows)

    def add(
        self,
        time_ns: int,
        round_: int,
        link: str,
        client: str,
        subchannels: Ints,
        tx_power_w: Floats,
        gain: Floats,
        bandwidths_hz: Floats | None = None,
    ) -> None:
        """Add subchannels that change hands or power at one instant; the arrays are kept, not copied."""
        row = Granted(time_ns, round_, link, client, subchannels, tx_power_w, gain, bandwidths_hz)
        self.rows.append(row)

    def free(self, time_ns: int, round_: int, link: str, subchannels: Ints) -> None:
        """Add subchannels that nobody has from now on."""
        if len(subchannels):
            nothing = np.zeros(len(subchannels))
            self.add(time_ns, round_, link, "", subchannels, nothing, nothing)

    @property
    def time_ns(self) -> Ints:
        """Instants, ns, shape (num_changes,); so are the other columns, a value a subchannel."""
        return self._repeated([one.time_ns for one in self.rows])

    @property
    def round(self) -> Ints:
        """Rounds."""
        return self._repeated([one.round for one in self.rows])

    @property
    def link(self) -> list[str]:
        """Links."""
        return [one.link for one in self.rows for _ in one.subchannels]

    @property
    def client(self) -> list[str]:
        """Who has it from now on."""
        return [one.client for one in self.rows for _ in one.subchannels]

    @property
    def subchannel(self) -> Ints:
        """Subchannels."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(one.subchannels for one in self.rows)])

    @property
    def tx_power_w(self) -> Floats:
        """Powers, W."""
        return np.concatenate([np.empty(0), *(one.tx_power_w for one in self.rows)])

    @property
    def gain(self) -> Floats:
        """Linear power gains."""
        return np.concatenate([np.empty(0), *(one.gain for one in self.rows)])

    @property
    def bandwidth_hz(self) -> Floats:
        """Widths of channels the band was split into, Hz; NaN for the link's own subchannel."""
        widths = (
            np.full(len(one.subchannels), np.nan) if one.bandwidths_hz is None else one.bandwidths_hz
            for one in self.rows
        )
        return np.concatenate([np.empty(0), *widths])

    @property
    def sizes(self) -> Ints:
        """How many subchannels each row has, shape (num_rows,)."""
        return np.array([len(one.subchannels) for one in self.rows], dtype=np.int64)

    def _repeated(self, values: list[int]) -> Ints:
        return np.repeat(np.array(values, dtype=np.int64), self.sizes)
