"""Steps on an update against closed forms: norms, variances, means, and the sums of error feedback."""

from math import inf, sqrt

import pytest
import torch

from cosim.learning.chain import Chain, why_unfit
from cosim.learning.codec import Codec, Layout, Sending
from cosim.learning.codec.none import Plain
from cosim.learning.update import Release, UpdateStep, release_of
from cosim.learning.update.clip import Clip
from cosim.learning.update.noise import Noise
from cosim.learning.update.project import Project
from cosim.learning.update.quantise import Quantise
from cosim.learning.update.residual import Residual
from cosim.learning.update.sparsify import Sparsify
from cosim.parts import make
from cosim.rng import stream

SIZE = 400
LAYOUT = Layout({"a": (SIZE,)}, 64)


def row(seed=0, size=SIZE):
    return {"a": torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)}


def received(step, given, seed):
    applied = step.apply(given, stream(seed))
    return step.restore(applied.numbers, applied.packed, Layout.of(given), stream(seed))["a"]


def squared_error(step, given, draws):
    """Return mean and standard error of the squared error relative to the squared norm."""
    errors = torch.tensor(
        [float((received(step, given, seed) - given["a"]).square().sum()) for seed in range(draws)],
        dtype=torch.float64,
    )
    errors /= given["a"].square().sum()
    return float(errors.mean()), float(errors.std()) / sqrt(draws)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_clipped_update_has_the_norm_or_is_as_it_was(dtype):
    given = {name: tensor.to(dtype) for name, tensor in row().items()}
    norm = float(given["a"].double().norm())
    clipped = Clip(max_norm=norm / 3).apply(given, None).numbers["a"]
    assert float(clipped.double().norm()) == pytest.approx(norm / 3, rel=4 * torch.finfo(dtype).eps)
    assert torch.equal(Clip(max_norm=1.01 * norm).apply(given, None).numbers["a"], given["a"])


def test_noise_has_its_variance_and_is_every_clients_own():
    step, given, count = Noise(std=0.3), {"a": torch.zeros(20_000, dtype=torch.float64)}, 20_000
    one, two = (step.apply(given, stream(seed)).numbers["a"] for seed in (1, 2))
    for drawn in (one, two):
        assert float(drawn.square().mean()) == pytest.approx(0.09, abs=4 * 0.09 * sqrt(2 / count))
    assert abs(float((one * two).mean())) < 4 * 0.09 / sqrt(count)


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_random_numbers_scaled_are_right_in_the_mean(ratio):
    """Each number is kept with the share as its probability: the error is 1/share - 1."""
    mean, error = squared_error(Sparsify(ratio=ratio, choice="random_unbiased"), row(), 400)
    assert abs(mean - (1 / ratio - 1)) <= 5 * error + 1e-9
    kept, error = squared_error(Sparsify(ratio=ratio, choice="random"), row(), 400)
    assert abs(kept - (1 - ratio)) < 5 * error


def test_the_largest_numbers_are_kept_with_their_places():
    step, given = Sparsify(ratio=0.05), row()
    found = received(step, given, 0)
    places = given["a"].abs().argsort(descending=True)[:20]
    assert set(found.nonzero().flatten().tolist()) == set(places.tolist())
    assert torch.equal(found[places], given["a"][places])
    assert Chain(steps=(step,), codec=Plain()).bits(LAYOUT) == 20 * (64 + 9)  # 400 places


@pytest.mark.parametrize("unbiased", [True, False])
def test_a_projection_has_the_error_of_its_directions(unbiased):
    """``(d + 1) / K`` where it is right in the mean, and ``1 - K / (K + d + 1)`` at the least."""
    count = 100
    step = Project(num_directions=count, unbiased=unbiased)
    mean, error = squared_error(step, row(), 150)
    expected = (SIZE + 1) / count if unbiased else 1 - count / (count + SIZE + 1)
    assert abs(mean - expected) < 5 * error
    assert error < 0.05 * expected


def test_a_projection_is_right_in_the_mean():
    step, given, draws = Project(num_directions=100), row(), 200
    found = torch.stack([received(step, given, seed) for seed in range(draws)])
    left = (found.mean(dim=0) - given["a"]) / (found.std(dim=0) / sqrt(draws))
    assert float(left.square().mean()) == pytest.approx(1.0, abs=5 * sqrt(2 / SIZE))


def test_directions_come_block_by_block_as_at_once(monkeypatch):
    step, given = Project(num_directions=7), row()
    whole = received(step, given, 1)
    monkeypatch.setattr("cosim.learning.update.project._BLOCK_NUMBERS", 70)
    for begin, block in step._blocks(SIZE, stream(1)):
        assert block.shape == (7, 10), begin
    assert whole.shape == received(step, given, 1).shape


@pytest.mark.parametrize("rounding", ["stochastic", "dithered"])
def test_levels_are_right_in_the_mean_and_have_their_variance(rounding):
    """A share ``f`` of a step above a level: ``f (1 - f)`` steps squared, or a twelfth with dither."""
    step, given, draws = Quantise(bits=4, bucket_size=None, rounding=rounding), row(), 800
    found = torch.stack([received(step, given, seed) for seed in range(draws)])
    width = float(given["a"].abs().max()) / 7
    share = (given["a"].abs() / width) % 1.0
    variance = width**2 * (
        share * (1 - share) if rounding == "stochastic" else torch.full_like(share, 1 / 12)
    )
    inside = variance > 1e-3 * width**2
    off = (found.mean(dim=0) - given["a"])[inside] / (variance[inside] / draws).sqrt()
    assert float(off.square().mean()) == pytest.approx(1.0, abs=5 * sqrt(2 / int(inside.sum())))
    seen = float(((found - given["a"]) ** 2).mean())
    assert seen == pytest.approx(float(variance.mean()), rel=0.02)


@pytest.mark.parametrize(
    "behind",
    [
        [{"kind": "sparsify"}],
        [{"kind": "sparsify", "choice": "random"}],
        [{"kind": "project", "num_directions": 60, "unbiased": False}],
        [{"kind": "clip", "max_norm": 0.5}, {"kind": "quantise", "bits": 5}],
    ],
    ids=lambda steps: steps[-1]["kind"],
)
@pytest.mark.parametrize("codec", ["none", "float16"])
def test_what_was_sent_and_what_is_held_back_are_all_updates(behind, codec):
    steps = (Residual(), *(make(UpdateStep, one) for one in behind))
    if why_unfit(steps, make(Codec, {"kind": codec})):
        assert (steps[-1].is_last, codec) == (True, "float16")
        return
    chain, memory = Chain(steps=steps, codec=make(Codec, {"kind": codec})), None
    updates, sent = torch.zeros(SIZE, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)
    for number in range(8):
        given = row(number)
        got = chain.transmit(Sending(given, None, memory, None, number, 100 + number))
        updates, sent, memory = updates + given["a"], sent + got.tensors["a"], got.memory
    torch.testing.assert_close(sent + memory["a"], updates, rtol=0.0, atol=2e-13)
    assert float(memory["a"].abs().max()) > 1e-3


def test_what_was_cut_off_ahead_of_error_feedback_does_not_come_back():
    chain = Chain(steps=(Clip(max_norm=0.1), Residual(), Sparsify()), codec=Plain())
    got = chain.transmit(Sending(row(), None, None, None, 1))
    assert float((got.tensors["a"] + got.memory["a"]).norm()) == pytest.approx(0.1)


def test_a_chain_says_what_it_gives_away():
    clip, noise = Clip(max_norm=0.5), Noise(std=0.1)
    assert release_of((clip, noise)) == Release(0.5, 0.1)
    assert release_of((clip, noise, Project(), Clip(max_norm=9.0), Noise(std=4.0))) == Release(0.5, 0.1)
    assert release_of((clip, Sparsify(), noise)) == Release(0.5, 0.1)
    assert release_of((clip, Project(), noise)) == Release(inf, 0.1)
    assert release_of((clip, Residual(), noise)) == Release(inf, 0.1)
    assert release_of((noise,)) == Release(inf, 0.1)
    assert release_of((clip,)) is None


def test_coding_is_charged_and_a_client_that_holds_back_decodes_its_own_upload():
    project, flop = Project(num_directions=5), 12 * 5 * SIZE
    assert Chain(steps=(project,), codec=Plain()).encode_flop(LAYOUT) == flop
    held = Chain(steps=(Clip(), Residual(), Project(num_directions=5, unbiased=False)), codec=Plain())
    assert held.encode_flop(LAYOUT) == (3 + 2) * SIZE + 2 * flop
    assert held.decode_flop(LAYOUT) == flop


@pytest.mark.parametrize(
    ("steps", "codec", "word"),
    [
        ([Quantise(), Clip()], "none", "'clip' behind it"),
        ([Quantise()], "float16", "adapter_codec 'float16' behind it"),
        ([Residual(), Clip(), Residual()], "none", "twice"),
        ([Residual(), Noise()], "none", "would be taken back"),
        ([Residual(), Project()], "none", "grow from round to round"),
        ([Residual(), Sparsify(choice="random_unbiased")], "none", "grow from round to round"),
        ([Residual(), Quantise(bits=2)], "none", "grow from round to round"),
        ([Clip()], "top_k", "error_feedback to false"),
        ([Sparsify()], "random_ranks", "error_feedback to false"),
        ([Project()], "svd", "numbers of another layout"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_way_out(steps, codec, word):
    assert word in why_unfit(steps, make(Codec, {"kind": codec}))


def test_pairs_may_be_chosen_behind_steps_that_keep_the_layout():
    codec = make(Codec, {"kind": "soft", "error_feedback": False, "sparsification_ratio": 0.5})
    assert why_unfit((Clip(), Noise()), codec) is None
