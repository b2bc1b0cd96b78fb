"""Who holds each subchannel of links whose transfers drain, written down as it changes."""

from collections.abc import Collection, Mapping

import numpy as np

from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.medium.open_link import OpenLink
from cosim.record.grants import GrantLog
from cosim.units import Ints


class Recording:
    """The grants of a run as they go on record.

    Attributes
    ----------
    round_
        Of the decision that holds.
    """

    def __init__(self, log: GrantLog) -> None:
        self._log = log
        self.round_ = 0

    def take(self, state: OpenLink, in_use: Mapping[int, Grant], channel: Channel, now_ns: int) -> None:
        """Write down every subchannel that changes hands or power now."""
        for holder, grant in in_use.items():
            if holder in state.groups and not state.overlaps and not state.active[holder].num_cuts:
                continue  # each of its subchannels is on record as one receiver's, at that power
            client = state.members(holder)[0]
            if state.recorded.get(client) is grant:
                continue
            numbers, is_split = state.numbers(client, grant), grant.bandwidths_hz is not None
            changes = state.holders.changes(numbers, client, grant)
            if changes.any():
                changed = grant
                if not changes.all():
                    changed, numbers = grant.some(changes), numbers[changes]
                for before in state.holders.take(numbers, client, changed):
                    state.recorded.pop(before, None)
                block, own = channel.block_at(now_ns), grant.subchannels
                gains = channel.channel_gains(state.name, client, own, block, 1, is_split)[0]
                at = now_ns, self.round_, state.name, f"client-{client}"
                powers, widths = changed.tx_power_w, changed.bandwidths_hz
                self._log.add(*at, numbers, powers, gains[changes], widths)
            state.recorded[client] = grant

    def release(self, state: OpenLink, in_use: Mapping[int, Grant], now_ns: int) -> None:
        """Write down the subchannels that their last owner has lost to nobody by a new decision."""
        for client in state.holders.clients():
            held = state.holders.held_by((client,))
            if client not in state.paused:
                held = np.setdiff1d(held, state.numbers(client, in_use[client]), assume_unique=True)
            self._free(state, held, (client,), now_ns)

    def let_go(self, state: OpenLink, client: int, now_ns: int) -> None:
        """Write down that nobody has the subchannels of a transfer that was cut."""
        members = state.members(client)
        self._free(state, state.holders.held_by(members), members, now_ns)

    def _free(self, state: OpenLink, numbers: Ints, clients: Collection[int], now_ns: int) -> None:
        """Write down that nobody has some subchannels any more that these clients had."""
        if len(numbers):
            state.holders.free(numbers)
            for client in clients:
                state.recorded.pop(client, None)
            self._log.free(now_ns, self.round_, state.name, numbers)
