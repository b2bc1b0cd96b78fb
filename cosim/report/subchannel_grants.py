"""Who held which subchannel from when to when, read off the changes of hands."""

from dataclasses import dataclass

import numpy as np

from cosim.record.folder import Record
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class SubchannelGrants:
    """Stretches over which one client held one subchannel; arrays are of shape (num_holdings,).

    Attributes
    ----------
    links
        Names of links in the order in which they were first granted.
    num_subchannels
        Of each link, as far as any was granted.
    link, subchannel
        Index into ``links``; number of the subchannel.
    client
        Number of the client.
    start_ns, end_ns
        From when to when, ns; to the end of the run if nobody took it over.
    tx_power_w, gain
        Power on the subchannel, W, and the linear power gain at ``start_ns``.
    split_hz
        Width of a channel the band was split into, Hz; NaN for the link's own subchannel.
    """

    links: tuple[str, ...]
    num_subchannels: tuple[int, ...]
    link: Ints
    subchannel: Ints
    client: Ints
    start_ns: Ints
    end_ns: Ints
    tx_power_w: Floats
    gain: Floats
    split_hz: Floats

    @classmethod
    def of(cls, record: Record, end_ns: int) -> "SubchannelGrants":
        """Return the grants of a run that lasted until ``end_ns``.

        Raises
        ------
        RecordError
            If its grants cannot be read.
        """
        table = record.grants
        links, link = _numbered(table["link"])
        owners, owner = _numbered(table["client"])
        number = np.array([int(name.rpartition("-")[2]) if name else -1 for name in owners], dtype=np.int64)
        columns = {name: table[name].to_numpy() for name in ("time_ns", "subchannel", "tx_power_w", "gain")}
        # By subchannel, and in the order of the record within one: a later row of an instant counts.
        order = np.lexsort((np.arange(len(link)), columns["subchannel"], link))
        link, owner = link[order], owner[order]
        subchannel, start_ns = columns["subchannel"][order], columns["time_ns"][order]
        until_ns = np.full(len(order), max(end_ns, 0), dtype=np.int64)
        same = (link[1:] == link[:-1]) & (subchannel[1:] == subchannel[:-1])
        until_ns[:-1][same] = start_ns[1:][same]
        client = number[owner] if len(number) else np.empty(0, dtype=np.int64)
        kept = (client >= 0) & (until_ns > start_ns)
        return cls(
            links=links,
            num_subchannels=tuple(int(subchannel[link == index].max()) + 1 for index in range(len(links))),
            link=link[kept],
            subchannel=subchannel[kept],
            client=client[kept],
            start_ns=start_ns[kept],
            end_ns=until_ns[kept],
            tx_power_w=columns["tx_power_w"][order][kept],
            gain=columns["gain"][order][kept],
            split_hz=table["bandwidth_hz"].to_numpy()[order][kept],
        )

    def __len__(self) -> int:
        return len(self.link)


def _numbered(column: object) -> tuple[tuple[str, ...], Ints]:
    """Return the words of a column by first appearance, and which one each row has."""
    coded = column.combine_chunks().dictionary_encode()  # type: ignore[attr-defined]
    return tuple(coded.dictionary.to_pylist()), coded.indices.to_numpy().astype(np.int64)
