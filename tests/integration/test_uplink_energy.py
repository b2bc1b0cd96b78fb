"""What sending costs beyond what is radiated."""

import pytest

from cosim.errors import ScenarioError
from cosim.scenario.build import prepare
from cosim.units import NS_PER_S

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 3, "local_steps": 1}}
LINEAR = {"baseline_w": 3.2, "j_per_bit": 32.2e-9, "tail_s": 0.01}


def uploads(world):
    """Return (start, end, bits, energy) of each client's uploads, in their order."""
    log, found = world.log.spans, {}
    log.settle()
    for row in range(len(log)):
        if log.name[row] == "adapter_upload":
            one = (log.start_ns[row], log.end_ns[row], log.bits[row], log.energy_j[row])
            found.setdefault(log.actor[row], []).append(one)
    return found


@pytest.mark.parametrize("counts_radiated", [True, False])
def test_a_transmission_costs_baseline_slope_and_the_tail_before_it(counts_radiated, tiny_scenario, play):
    costs = LINEAR | {"counts_radiated": counts_radiated}
    plain = uploads(play(tiny_scenario(FEDERATED)))
    costly = uploads(play(tiny_scenario({**FEDERATED, "radio.uplink_energy": costs})))
    for client, found in costly.items():
        until_ns = None
        for (start_ns, end_ns, bits, radiated_j), (*times, energy_j) in zip(
            plain[client], found, strict=True
        ):
            assert times == [start_ns, end_ns, bits]
            gap_s = 0.0 if until_ns is None else (start_ns - until_ns) / NS_PER_S
            awake_s = (end_ns - start_ns) / NS_PER_S + min(gap_s, 0.01)
            own_j = 3.2 * awake_s + 32.2e-9 * bits
            assert energy_j == pytest.approx(own_j + counts_radiated * radiated_j)
            until_ns = end_ns


def test_with_a_sum_over_the_air_it_is_refused(tiny_scenario):
    air = {"radio.medium": {"kind": "over_the_air"}, "radio.uplink_energy": LINEAR}
    with pytest.raises(ScenarioError, match=r"radio\.uplink_energy: it is of transfers that carry bits"):
        prepare(tiny_scenario({**FEDERATED, **air}))
