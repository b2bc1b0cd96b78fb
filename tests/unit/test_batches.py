import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.learning.data.draws import BatchDraws
from cosim.rng import stream

shares = st.integers(1, 30)
sizes = st.integers(1, 50)
seeds = st.integers(0, 2**32)


@settings(deadline=None)
@given(num_rows=shares, batch_size=sizes, seed=seeds)
def test_each_epoch_is_a_permutation_of_the_share(num_rows: int, batch_size: int, seed: int) -> None:
    draws = BatchDraws(num_rows, batch_size, stream(seed, "batches"))
    num_steps = -(-3 * num_rows // batch_size)
    drawn = np.concatenate([draws.rows(step) for step in range(num_steps)])
    for epoch in range(3):
        assert sorted(drawn[epoch * num_rows : (epoch + 1) * num_rows]) == list(range(num_rows))


@settings(deadline=None)
@given(num_rows=shares, batch_size=sizes, seed=seeds, steps=st.lists(st.integers(0, 60), max_size=8))
def test_a_step_is_the_same_asked_for_alone_or_in_order(
    num_rows: int, batch_size: int, seed: int, steps: list[int]
) -> None:
    in_order = BatchDraws(num_rows, batch_size, stream(seed, "batches"))
    expected = [in_order.rows(step) for step in range(61)]
    anywhere = BatchDraws(num_rows, batch_size, stream(seed, "batches"))
    for step in steps:
        assert (anywhere.rows(step) == expected[step]).all()
        assert anywhere.rows(step).shape == (batch_size,)


def test_epochs_and_clients_are_shuffled_differently() -> None:
    draws = [BatchDraws(50, 50, stream(1, "batches", client)) for client in range(2)]
    orders = {tuple(one.rows(step).tolist()) for one in draws for step in range(3)}
    assert len(orders) == 6


def test_a_batch_size_changes_how_the_row_of_epochs_is_cut_and_not_the_row() -> None:
    small, large = (BatchDraws(7, size, stream(1)) for size in (2, 6))
    assert np.concatenate([small.rows(step) for step in range(9)]).tolist() == (
        np.concatenate([large.rows(step) for step in range(3)]).tolist()
    )


def test_a_batch_written_to_leaves_later_batches_alone() -> None:
    draws = BatchDraws(4, 4, stream(1))
    first = draws.rows(0).tolist()
    draws.rows(0)[:] = 0
    assert draws.rows(0).tolist() == first


@pytest.mark.parametrize(("num_rows", "batch_size"), [(0, 1), (1, 0), (-1, 4)])
def test_an_empty_share_or_batch_is_refused(num_rows: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="both must be >= 1"):
        BatchDraws(num_rows, batch_size, stream(1))


def test_a_step_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="steps count from 0, got -1"):
        BatchDraws(3, 1, stream(1)).rows(-1)


def test_independent_batches_hold_each_row_once_at_most_and_every_row_as_often():
    draws = BatchDraws(20, 5, stream(1), "independent")
    drawn = np.array([draws.rows(step) for step in range(2000)])
    assert all(len(set(rows)) == 5 for rows in drawn.tolist())
    # each row is in a quarter of the batches, whatever was in the batch before
    times = np.bincount(drawn.ravel(), minlength=20)
    assert abs(times - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)
    after = [
        0 in now for before, now in zip(drawn[:-1].tolist(), drawn[1:].tolist(), strict=True) if 0 in before
    ]
    assert abs(np.mean(after) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / len(after))
    assert draws.rows(7).tolist() == drawn[7].tolist()
