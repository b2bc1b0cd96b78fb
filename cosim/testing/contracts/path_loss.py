"""What every path loss keeps, run over each part's examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.parts import make
from cosim.radio.path_loss import PathLoss
from cosim.testing.selection import examples_of

EXAMPLES = examples_of(PathLoss)


@pytest.mark.parametrize("example", EXAMPLES)
@settings(deadline=None, max_examples=50)
@given(distances=st.lists(st.floats(0.0, 1e5), min_size=1, max_size=10))
def test_loss_never_falls_with_distance_and_is_never_negative(example, distances):
    distance_m = np.sort(np.array(distances))
    loss_db = make(PathLoss, example).loss_db(distance_m)
    assert loss_db.shape == distance_m.shape
    assert np.isfinite(loss_db).all()
    assert (loss_db >= 0.0).all()
    assert (np.diff(loss_db) >= 0.0).all()


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_client_nearer_than_the_least_distance_stands_at_it(example):
    path_loss = make(PathLoss, example)
    near, at_least = path_loss.loss_db(np.array([0.0, path_loss.min_distance_m]))
    assert near == at_least


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("distance_m", [-1.0, float("nan")])
def test_a_distance_that_is_none_is_refused(example, distance_m):
    with pytest.raises(ValueError, match="a distance must not be negative"):
        make(PathLoss, example).loss_db(np.array([100.0, distance_m]))
