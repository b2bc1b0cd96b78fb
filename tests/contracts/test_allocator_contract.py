from dataclasses import replace

import numpy as np

from cosim.control.allocators import Allocator
from cosim.parts import family, make
from cosim.testing import contract
from cosim.testing.strategies import random_cell

globals().update(contract(Allocator))


def test_a_given_table_is_granted_as_it_stands_and_keeps_every_limit_of_its_cell():
    (example,) = family(Allocator)["given"].examples
    state = random_cell(0, 2, 3)
    ample = {
        name: replace(link, max_tx_power_w=np.full(2, 0.2), max_total_tx_power_w=np.inf)
        for name, link in state.links.items()
    }
    state = replace(state, links=ample)
    allocation = make(Allocator, example | {"kind": "given"}).allocate(state)
    allocation.check(state, shares_in_time=False)
    first, second = allocation.grants["main_uplink"]
    assert (first.subchannels.tolist(), first.tx_power_w.tolist()) == ([0, 2], [0.05, 0.05])
    assert (second.subchannels.tolist(), second.tx_power_w.tolist()) == ([1], [0.05])
    assert [grant.total_tx_power_w for grant in allocation.grants["federated_uplink"]] == [0.2, 0.2]
