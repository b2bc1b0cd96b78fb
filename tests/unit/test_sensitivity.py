import numpy as np
import pytest

from cosim.rng import stream
from cosim.statistics.factorial import crossing, factorial_indices, interaction, marginal, pairs
from cosim.statistics.sensitivity import expansion_indices, pick_freeze_indices

A, B = 7.0, 0.1


def ishigami(points):
    """The function of Ishigami and Homma (1990), each factor uniform on -pi to pi; points (..., 3)."""
    x1, x2, x3 = np.moveaxis(points, -1, 0)
    return np.sin(x1) + A * np.sin(x2) ** 2 + B * x3**4 * np.sin(x1)


V1 = 0.5 * (1 + B * np.pi**4 / 5) ** 2
V2 = A**2 / 8
V13 = B**2 * np.pi**8 * (1 / 18 - 1 / 50)
FIRST = np.array([V1, V2, 0.0]) / (V1 + V2 + V13)
TOTAL = np.array([V1 + V13, V2, V13]) / (V1 + V2 + V13)


def points(count, dimensions, seed=1):
    from scipy.stats import qmc

    return qmc.Sobol(dimensions, rng=stream(seed, "points").torch_seed()).random(count)


def test_pick_and_freeze_finds_the_indices_of_ishigami():
    both = points(4096, 6) * 2 * np.pi - np.pi
    a, b = both[:, :3], both[:, 3:]
    mixed = np.stack([np.where(np.arange(3) == one, b, a) for one in range(3)])
    found = pick_freeze_indices(ishigami(a), ishigami(b), ishigami(mixed))
    assert found.first == pytest.approx(FIRST, abs=0.02)
    assert found.total == pytest.approx(TOTAL, abs=0.02)
    assert (found.first_low <= FIRST).all()
    assert (found.first_high >= FIRST).all()
    assert (found.total_high - found.total_low).max() < 0.1
    assert pick_freeze_indices(np.ones(8), np.ones(8), np.ones((3, 8))) is None


def test_an_expansion_finds_the_indices_of_ishigami():
    drawn = points(1024, 3) * 2 * np.pi - np.pi
    found = expansion_indices(list(drawn.T), ishigami(drawn)[:, None])
    assert found.first == pytest.approx(FIRST, abs=0.02)
    assert found.total == pytest.approx(TOTAL, abs=0.02)
    assert found.explained > 0.98


def test_a_fine_grid_finds_the_indices_of_ishigami():
    axis = (np.arange(24) + 0.5) / 24 * 2 * np.pi - np.pi
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    found = factorial_indices(ishigami(grid)[..., None])
    assert found.first == pytest.approx(FIRST, abs=0.02)
    assert found.total == pytest.approx(TOTAL, abs=0.02)
    assert np.isnan(found.first_low).all()


def test_an_expansion_does_not_mind_the_scale_it_was_drawn_on():
    drawn = points(128, 2)
    values = (3.0 * drawn[:, 0] + drawn[:, 1])[:, None]
    found = expansion_indices(list(drawn.T), values)
    in_db = expansion_indices([10.0 ** (drawn[:, 0] * 3.0), drawn[:, 1]], values)
    assert found.first == pytest.approx([0.9, 0.1], abs=0.01)
    assert in_db.first == pytest.approx(found.first, abs=1e-9)


def test_an_expansion_takes_named_levels_beside_numbers():
    drawn = points(128, 2)
    levels = (drawn[:, 1] * 4).astype(np.int64)
    effect = np.array([0.0, 1.0, 0.5, 3.0])
    found = expansion_indices([drawn[:, 0], levels], (drawn[:, 0] + effect[levels])[:, None])
    both = np.array([1 / 12, effect.var()])
    assert found.first == pytest.approx(both / both.sum(), abs=0.01)
    assert found.total == pytest.approx(found.first, abs=0.01)


def test_factors_that_move_together_have_no_indices():
    along = np.linspace(0.0, 1.0, 40)
    assert expansion_indices([along, 2.0 * along], along[:, None]) is None
    assert expansion_indices([along[:3]], along[:3, None]) is None
    assert expansion_indices([along], np.ones((40, 1))) is None


def additive(sizes, noise, repetitions, seed):
    """Rows and columns add, each repetition shifts all cells alike, and each cell has noise of its own."""
    generator = stream(seed, "additive").generator()
    rows, columns = (np.arange(4.0) * sizes[0], np.arange(3.0) * sizes[1])
    shift = 10.0 * generator.normal(size=repetitions)
    own = noise * generator.normal(size=(4, 3, repetitions))
    return rows[:, None, None] + columns[None, :, None] + shift + own, rows.var(), columns.var()


def test_noise_of_the_repetitions_is_taken_off_the_indices_of_a_grid():
    found = [factorial_indices(additive((1.0, 1.0), 2.0, 6, seed)[0]) for seed in range(300)]
    _, rows, columns = additive((1.0, 1.0), 0.0, 2, 0)
    share = rows / (rows + columns)
    assert np.mean([one.first[0] for one in found]) == pytest.approx(share, abs=0.05)
    held = [(one.first_low <= [share, 1 - share]) & ([share, 1 - share] <= one.first_high) for one in found]
    assert np.mean(held) > 0.88


def test_shares_of_a_grid_are_of_one_whole_however_noisy_it_is():
    """What a factor makes with others is no less than what it makes alone, and these are no more than all."""
    for seed in range(100):
        found = factorial_indices(additive((2.0, 2.0), 2.0, 4, seed)[0])
        assert (found.total >= found.first).all()
        assert found.first.sum() <= 1.0 + 1e-12
        assert (found.total <= 1.0).all()


def test_a_shift_of_all_cells_is_no_noise():
    values, rows, columns = additive((1.0, 2.0), 0.0, 5, 1)
    found = factorial_indices(values)
    assert found.first == pytest.approx(np.array([rows, columns]) / (rows + columns))
    assert found.total == pytest.approx(found.first)


def test_a_product_is_all_interaction():
    signs = np.array([-1.0, 1.0])
    values = np.multiply.outer(signs, signs)[..., None]
    found = factorial_indices(values)
    assert found.first == pytest.approx([0.0, 0.0])
    assert found.total == pytest.approx([1.0, 1.0])
    assert interaction(values[..., 0]) == pytest.approx(values[..., 0])


def test_where_nothing_varies_there_are_no_indices():
    assert np.isnan(factorial_indices(np.full((2, 3, 4), 7.0)).first).all()


def test_the_mean_of_a_level_is_over_the_other_factors_and_its_interval_over_repetitions():
    values, *_ = additive((1.0, 2.0), 0.0, 5, 1)
    found = marginal(values, (1,))
    assert np.diff(found.mean) == pytest.approx([2.0, 2.0])
    assert found.half_width == pytest.approx(np.full(3, found.half_width[0]))
    assert marginal(values, (0, 1)).mean.shape == (4, 3)


def test_a_grid_is_known_by_having_every_crossing_once():
    levels = [np.array([0, 0, 1, 1, 2, 2]), np.array([1, 0, 0, 1, 0, 1])]
    cells = crossing(levels)
    assert [one[cells].tolist() for one in levels] == [[[0, 0], [1, 1], [2, 2]], [[0, 1]] * 3]
    assert crossing([one[:5] for one in levels]) is None
    assert crossing([np.append(one, one[0]) for one in levels]) is None
    assert crossing([]) is None
    assert crossing([np.arange(100_000)] * 5) is None  # drawn points: a grid of them would fill any memory
    assert pairs(2) == [(0, 1)]
