"""Greedy subchannels: the next one always goes to the client that would be done last.

Source
------
FedsLLM, arXiv 2504.14667, subchannel assignment; the two phases and the even
reference power are method card 1, section 7.1.
"""

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.solvers.assignment import check_enough
from cosim.units import Floats, Ints

_LN2 = float(np.log(2.0))


def greedy_assignment(phase: Phase) -> Ints:
    """Return the client that owns each subchannel, shape (num_subchannels,).

    First every client gets one subchannel, the slowest choosing first; then the
    client that is done last gets its best free one, until none is left. A
    client's finish is judged at a reference power, its limit or its equal share
    of the limit on the sum, spread evenly over the width it owns; with the
    powers of power control all clients tie, and the last one would mean nothing.
    Best is the highest rate at that spread, which where a client's gains are
    equal is the widest. With equal gains and widths the result is optimal for
    the reference powers.

    Raises
    ------
    AllocationError
        If there are fewer subchannels than clients.
    """
    num_clients, num_subchannels = phase.num_clients, phase.num_subchannels
    check_enough(phase.link, num_clients, num_subchannels)
    powers = np.minimum(phase.max_tx_power_w, phase.max_total_tx_power_w / num_clients)
    widths = phase.bandwidths_hz
    assignment = np.full(num_subchannels, -1)
    owned: list[list[int]] = [[] for _ in range(num_clients)]
    free = np.ones(num_subchannels, dtype=bool)
    finish = np.full(num_clients, np.inf)
    width_owned = np.zeros(num_clients)

    def give(client: int, subchannel: int) -> None:
        assignment[subchannel] = client
        free[subchannel] = False
        owned[client].append(subchannel)
        width_owned[client] += widths[subchannel]
        mine = owned[client]
        psd = powers[client] / width_owned[client]
        rate = float((widths[mine] * phase.nats(psd * phase.gains[client, mine])).sum()) / _LN2
        if rate > 0.0:
            finish[client] = phase.compute_s[client] + phase.bits[client] / rate
        elif phase.bits[client] == 0.0:
            finish[client] = phase.compute_s[client]

    def best_free(client: int) -> int:
        psd = powers[client] / (width_owned[client] + widths)
        scores = np.where(free, widths * phase.nats(psd * phase.gains[client]), -1.0)
        return int(scores.argmax())

    for client in np.argsort(-_solo_finish_s(phase, powers), kind="stable").tolist():
        give(client, best_free(client))
    for _ in range(num_subchannels - num_clients):
        last = int(finish.argmax())
        give(last, best_free(last))
    return assignment


def _solo_finish_s(phase: Phase, powers_w: Floats) -> Floats:
    """Return when each client would be done with the one subchannel best for it, s, shape (num_clients,)."""
    psd = powers_w[:, None] / phase.bandwidths_hz
    rates = (phase.bandwidths_hz * phase.nats(psd * phase.gains)).max(axis=1) / _LN2
    return phase.finish_s(rates)
