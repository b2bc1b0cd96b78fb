"""What every shadowing keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.parts import make
from cosim.radio.shadowing import Shadowing
from cosim.rng import stream
from cosim.testing.selection import examples_of

EXAMPLES = examples_of(Shadowing)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_client_has_one_finite_loss_and_the_same_one_from_the_same_stream(example):
    loss_db = make(Shadowing, example).draw_db(stream(1, "shadowing"), 9)
    assert loss_db.shape == (9,)
    assert np.isfinite(loss_db).all()
    np.testing.assert_array_equal(loss_db, make(Shadowing, example).draw_db(stream(1, "shadowing"), 9))


@pytest.mark.parametrize("example", EXAMPLES)
def test_adding_a_client_changes_no_other_client(example):
    shadowing = make(Shadowing, example)
    many = shadowing.draw_db(stream(7, "shadowing"), 30)
    for num_clients in (1, 2, 29):
        np.testing.assert_array_equal(
            shadowing.draw_db(stream(7, "shadowing"), num_clients), many[:num_clients]
        )
