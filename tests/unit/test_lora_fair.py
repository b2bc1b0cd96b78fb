"""LoRA-FAIR: its closed form against the dense objective, its cosine form against autograd, and the bias."""

import pytest
import torch
from torch.nn.functional import cosine_similarity
from torch.utils.flop_counter import FlopCounterMode

from cosim.learning.aggregator import Aggregator, Server
from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.codec.pairs import pairs_of
from cosim.learning.pair_energy import product_bias
from cosim.learning.shape import Linear
from cosim.parts import make

SHAPE = Linear("q", d_in=11, d_out=8, has_bias=False)
A, B = "q.lora_A.weight", "q.lora_B.weight"
WEIGHTS = [0.5, 0.3, 0.2]
PENALTIES = [0.0, 0.01, 1.0]


def clients(spread=1.0, rank=3):
    """Return the uploads of three clients about a common point."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    a, b = drawn(rank, SHAPE.d_in), drawn(SHAPE.d_out, rank)
    return [{A: a + spread * drawn(*a.shape), B: b + spread * drawn(*b.shape)} for _ in WEIGHTS]


UPLOADS = clients()
MEAN = weighted_sum(UPLOADS, WEIGHTS)
PRODUCT = sum(p * one[B] @ one[A] for p, one in zip(WEIGHTS, UPLOADS, strict=True))


def corrected(**settings):
    fair = make(Aggregator, {"kind": "lora_fair", **settings})
    return fair.aggregate(UPLOADS, WEIGHTS, Server(UPLOADS[0], {}, 8.0, seed=3)).adapter


def bias(adapter, merged=None, uploads=UPLOADS):
    return product_bias(pairs_of(adapter), uploads, WEIGHTS, adapter, merged)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("corrects", ["A", "B"])
def test_the_closed_form_minimises_its_objective(corrects, penalty):
    found = corrected(corrects=corrects, penalty=penalty)
    name, other = (A, B) if corrects == "A" else (B, A)
    assert torch.equal(found[other], MEAN[other])
    moved = found[name].clone().requires_grad_()
    left, right = (found[B], moved) if corrects == "A" else (moved, found[A])
    distance = (PRODUCT - left @ right).square().sum()
    (distance + penalty * (moved - MEAN[name]).square().sum()).backward()
    assert moved.grad.abs().max() < 1e-10


def test_without_a_penalty_what_is_left_is_outside_the_row_space_of_a():
    found = corrected(penalty=0.0)
    inside = torch.linalg.pinv(MEAN[A]) @ MEAN[A]
    assert torch.allclose(found[B] @ found[A], PRODUCT @ inside, rtol=0.0, atol=1e-12)
    outside = torch.linalg.norm(PRODUCT - PRODUCT @ inside) / torch.linalg.norm(PRODUCT)
    assert bias(found) == pytest.approx(float(outside), rel=1e-12)
    best = torch.linalg.svdvals(PRODUCT)[3:].norm() / torch.linalg.norm(PRODUCT)
    assert best < bias(corrected(corrects="both", penalty=0.0)) < bias(found) < bias(MEAN)


@pytest.mark.parametrize("settings", [{"corrects": "B"}, {"corrects": "A"}, {"start": "xavier"}])
def test_a_step_of_the_cosine_form_follows_its_gradient(settings):
    penalty, rate = 0.3, 0.1
    told = {"form": "cosine", "penalty": penalty, "learning_rate": rate, **settings}
    name = A if settings.get("corrects") == "A" else B
    one, two = (corrected(**told, num_steps=count)[name] for count in (1, 2))
    moved = one.clone().requires_grad_()
    product = MEAN[B] @ moved if name == A else moved @ MEAN[A]
    cosine = cosine_similarity(product.flatten(), PRODUCT.flatten(), dim=0)
    (1.0 - cosine + penalty * (moved - MEAN[name]).square().sum()).backward()
    assert torch.allclose(two, one - rate * moved.grad, rtol=0.0, atol=1e-13)


def test_the_cosine_form_turns_the_product_and_the_plain_norm_holds_it_back():
    def cosine(adapter):
        return float(cosine_similarity((adapter[B] @ adapter[A]).flatten(), PRODUCT.flatten(), dim=0))

    free, held, fixed = (
        cosine(corrected(form="cosine", penalty=penalty, penalty_norm="plain", learning_rate=0.5))
        for penalty in (0.0, 0.005, 100.0)
    )
    best = cosine(
        corrected(penalty=0.0)
    )  # of all products with this row space, the projection is the nearest
    assert fixed == cosine(MEAN) < held < free <= best + 1e-12
    assert free == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("form", ["closed", "cosine"])
@pytest.mark.parametrize("corrects", ["A", "B", "both"])
def test_the_flop_are_those_of_its_matrix_products(form, corrects):
    settings = {"form": form, "corrects": corrects, "num_steps": 7}
    with FlopCounterMode(display=False) as counter:
        corrected(**settings)
    fair = make(Aggregator, {"kind": "lora_fair", **settings})
    assert fair.flop([SHAPE], 3, len(UPLOADS)) == counter.get_total_flops()


def test_the_bias_is_that_of_the_products():
    size = torch.linalg.norm(PRODUCT)
    other = corrected(corrects="both")
    for adapter in (MEAN, other):
        dense = torch.linalg.norm(adapter[B] @ adapter[A] - PRODUCT) / size
        assert bias(adapter) == pytest.approx(float(dense), rel=1e-12)
    alike = [UPLOADS[0]] * 3
    assert bias(UPLOADS[0], uploads=alike) < 1e-15
    assert bias(other, {A: PRODUCT - other[B] @ other[A]}) < 1e-15
    nothing = [{**one, B: torch.zeros_like(one[B])} for one in UPLOADS]
    assert bias(nothing[0], uploads=nothing) == 0.0


def test_a_small_bias_is_not_lost_to_rounding():
    """Where clients nearly agree, products that are subtracted would leave nothing but rounding."""
    near = clients(spread=1e-9)
    mean = weighted_sum(near, WEIGHTS)
    moves = [(p, one[B] - mean[B], one[A] - mean[A]) for p, one in zip(WEIGHTS, near, strict=True)]
    covariance = torch.linalg.norm(sum(p * b @ a for p, b, a in moves))
    size = torch.linalg.norm(near[0][B] @ near[0][A])
    assert bias(mean, uploads=near) == pytest.approx(float(covariance / size), rel=1e-6)


@pytest.mark.parametrize("scheme", ["federated", "split_federated"])
def test_the_server_takes_the_time_of_the_correction(tiny_scenario, play, scheme):
    """As the closed form says, to the nanosecond."""
    fair = {"kind": "lora_fair", "form": "cosine"}
    slow = {"federated_server": {"clock_hz": 1e6, "flop_per_cycle": 1}}
    world = play(tiny_scenario({"scheme": {"kind": scheme, "aggregator": fair, "num_rounds": 1}, **slow}))
    task = world.task
    matrices = task.trainable.matrices(task.shape, world.decisions.current.cut_layer)
    spans = world.log.spans
    spans.settle()
    flop = [amount for name, amount in zip(spans.name, spans.flop, strict=True) if name == "aggregate"]
    assert flop == [make(Aggregator, fair).flop(matrices, 4, 3)]
    assert world.decisions.predicted_round_s() == pytest.approx(world.clock.now / 1e9, abs=1e-9)
