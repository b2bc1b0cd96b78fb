"""What every placement keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.parts import make
from cosim.radio.placement import Placement
from cosim.rng import stream
from cosim.testing.selection import examples_of

EXAMPLES = examples_of(Placement)


def count_for(placement: Placement, wanted: int) -> int:
    """Return how many clients this placement can be asked for: as many as wanted, unless they are listed."""
    return wanted if placement.num_places is None else placement.num_places


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_client_gets_a_place_off_the_base_station(example):
    placement = make(Placement, example)
    num_clients = count_for(placement, 40)
    positions = placement.place(stream(1, "placement"), num_clients)
    assert positions.shape == (num_clients, 2)
    assert np.isfinite(positions).all()
    assert (np.hypot(*positions.T) > 0.0).all()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_same_stream_gives_the_same_places(example):
    placement = make(Placement, example)
    num_clients = count_for(placement, 12)
    np.testing.assert_array_equal(
        placement.place(stream(1, "placement"), num_clients),
        make(Placement, example).place(stream(1, "placement"), num_clients),
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_adding_a_client_moves_nobody(example):
    placement = make(Placement, example)
    if placement.num_places is not None:
        pytest.skip("it is for one number of clients")
    many = placement.place(stream(7, "placement"), 30)
    for num_clients in (1, 2, 29):
        np.testing.assert_array_equal(
            placement.place(stream(7, "placement"), num_clients), many[:num_clients]
        )
