"""Codecs of rank pairs: which ones travel, what that costs, and what becomes of the others."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from cosim.learning.codec import Codec, Layout, Sending
from cosim.learning.codec.none import Plain
from cosim.learning.codec.pairs import FactorCodec, mask_bits, pairs_of, read_mask, write_mask
from cosim.learning.codec.random_ranks import RandomRanks
from cosim.learning.codec.soft import Soft
from cosim.learning.codec.svd import Svd, thin_svd
from cosim.learning.pair_energy import delta_energies, product_gains
from cosim.rng import stream

ALIKE = {
    "h.0.attn.lora_A.weight": (6, 10),
    "h.0.attn.lora_B.weight": (14, 6),
    "h.1.attn.lora_A.weight": (6, 10),
    "h.1.attn.lora_B.weight": (14, 6),
    "score.weight": (3, 10),
}
UNLIKE = {**ALIKE, "h.1.proj.lora_A.weight": (6, 20), "h.1.proj.lora_B.weight": (10, 6)}

seeds = st.integers(min_value=0, max_value=2**31)
ratios = st.floats(min_value=0.01, max_value=1.0)


def drawn(shapes: dict[str, tuple[int, ...]], seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    rng = stream(seed, "pair codecs").generator()
    return {name: torch.from_numpy(rng.normal(size=s) * scale).float() for name, s in shapes.items()}


def sending(
    shapes: dict[str, tuple[int, ...]],
    seed: int = 0,
    sparsification_ratio: float | None = None,
    memory: float = 0.0,
) -> Sending:
    reference = drawn(shapes, seed)
    step = drawn(shapes, seed + 1, 0.1)
    return Sending(
        {name: tensor + step[name] for name, tensor in reference.items()},
        reference,
        drawn(shapes, seed + 2, memory) if memory else None,
        sparsification_ratio,
        seed,
    )


def permuted(adapter: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return the same products from pairs in another order, matrix by matrix."""
    found = dict(adapter)
    for number, module in enumerate(pairs_of(adapter).modules):
        order = stream(seed, "order", number).generator().permutation(module.rank).tolist()
        found[module.a_name] = adapter[module.a_name][order]
        found[module.b_name] = adapter[module.b_name][:, order]
    return found


def is_sent(codec: Codec, given: Sending) -> np.ndarray:
    payload = np.frombuffer(codec.transmit(given).payload, dtype=np.uint8)
    return read_mask(np.unpackbits(payload), pairs_of(given.tensors).count)[0]


# Which pairs: the mask


@given(
    chosen=st.lists(st.booleans(), max_size=200).map(lambda found: np.array(found, dtype=np.bool_)),
    rest=st.binary(max_size=3),
)
@settings(deadline=None)
def test_a_mask_is_read_as_it_was_written(chosen, rest):
    written = write_mask(chosen)
    assert len(written) == mask_bits(len(chosen), int(chosen.sum()))
    padded = np.concatenate([written, np.unpackbits(np.frombuffer(rest, dtype=np.uint8))])
    found, used = read_mask(padded, len(chosen))
    assert used == len(written)
    assert np.array_equal(found, chosen)


def test_few_pairs_are_listed_and_many_are_marked():
    costs = [mask_bits(96, count) for count in range(97)]
    assert costs[:4] == [8, 15, 22, 29]
    assert costs[13] == costs[96] == 97
    assert all(after >= before for before, after in pairwise(costs))


# What travels


@pytest.mark.parametrize("codec", [Soft(), RandomRanks(), Svd(), Soft(scope="module")])
@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.25, 0.5, 0.77, 1.0])
def test_pairs_of_one_size_cost_what_a_ratio_says(codec, ratio):
    """Acceptance test 6: whole pairs of 24 numbers, 12 of them, a mask, and the classifier."""
    bits = codec.transmit(sending(ALIKE, sparsification_ratio=ratio)).bits
    count = 2 * int(np.ceil(6 * ratio)) if codec.scope == "module" else int(12 * ratio + 1e-9)
    assert bits == codec.bits(Layout(ALIKE), ratio)
    assert bits == mask_bits(12, count) + 32 * (24 * count + 30)


def test_pairs_of_several_sizes_cost_what_the_values_choose():
    layout = Layout(UNLIKE)
    assert Soft().bits(layout, 0.5) is None
    assert Soft(scope="module").bits(layout, 0.5) == mask_bits(18, 9) + 32 * (3 * 24 + 3 * 24 + 3 * 30 + 30)
    found = {Soft().transmit(sending(UNLIKE, seed, 0.4)).bits for seed in range(30)}
    assert len(found) > 1
    assert max(found) <= Soft().max_bits(layout, 0.4)


@given(seed=seeds, ratio=ratios)
@settings(deadline=None, max_examples=25)
def test_pairs_and_what_comes_on_top_bound_the_payload(seed, ratio):
    layout, given = Layout(UNLIKE), sending(UNLIKE, seed, ratio)
    size, on_top = Soft().pair_bits(layout), Soft().overhead_bits(layout)
    assert size.tolist() == [32 * 24] * 12 + [32 * 30] * 6
    pairs = int(size[is_sent(Soft(), given)].sum())
    assert pairs <= ratio * size.sum() * (1 + 1e-9)
    assert pairs < Soft().transmit(given).bits <= pairs + on_top


def test_an_allocator_overrules_the_setting():
    assert is_sent(Soft(sparsification_ratio=0.25), sending(ALIKE)).sum() == 3
    assert is_sent(Soft(sparsification_ratio=0.25), sending(ALIKE, sparsification_ratio=0.75)).sum() == 9


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_at_a_ratio_of_one_without_memory_all_arrives_to_the_bit(seed):
    """Acceptance test 4, of the codec."""
    given = sending(UNLIKE, seed, 1.0)
    for importance in ("delta", "norm"):
        for unsent in ("update", "masked", "zerofill"):
            codec = Soft(importance=importance, unsent=unsent, error_feedback=False)
            received = codec.transmit(given)
            assert all(torch.equal(one, given.tensors[name]) for name, one in received.tensors.items())
            assert received.figures == {"dropped_energy": 0.0}
            assert received.bits == mask_bits(18, 18) + Plain().transmit(given).bits


@given(seed=seeds, ratio=ratios)
@settings(deadline=None, max_examples=20)
def test_what_is_sent_and_what_is_held_back_are_the_whole_update(seed, ratio):
    """Acceptance test 5: exactly, pair by pair, either the one or the other."""
    for codec in (Soft(), Soft(importance="norm", unsent="masked"), RandomRanks()):
        given = sending(UNLIKE, seed, ratio, memory=0.05)
        received = codec.transmit(given)
        chosen = is_sent(codec, given)
        assert received.memory is not None
        pairs = pairs_of(given.tensors)
        for module, place in zip(pairs.modules, pairs.slices, strict=True):
            for name in (module.a_name, module.b_name):
                wanted, got, held, before = (
                    tensor[name] if name == module.a_name else tensor[name].T
                    for tensor in (given.tensors, received.tensors, received.memory, given.reference)
                )
                backlog = given.memory[name] if name == module.a_name else given.memory[name].T
                for j, sent in enumerate(chosen[place]):
                    assert torch.equal(got[j], wanted[j] + backlog[j] if sent else before[j])
                    assert torch.equal(held[j], 0 * held[j] if sent else wanted[j] + backlog[j] - before[j])


# What becomes of the others


def test_a_pair_that_is_not_sent_is_as_it_was_or_zero_or_out_of_the_mean():
    given = sending(ALIKE, sparsification_ratio=0.5)
    chosen = torch.from_numpy(is_sent(Soft(), given)[:6])
    a, b = "h.0.attn.lora_A.weight", "h.0.attn.lora_B.weight"
    assert 0 < int(chosen.sum()) < 6
    for unsent in ("update", "masked", "zerofill"):
        received = Soft(unsent=unsent, error_feedback=False).transmit(given)
        others = (received.tensors[a][~chosen], received.tensors[b][:, ~chosen])
        if unsent == "zerofill":
            assert not any(other.any() for other in others)
        else:
            assert torch.equal(others[0], given.reference[a][~chosen])
            assert torch.equal(others[1], given.reference[b][:, ~chosen])
        assert torch.equal(received.tensors["score.weight"], given.tensors["score.weight"])
        assert (received.mask is None) is (unsent != "masked")
    mask = Soft(unsent="masked").transmit(given).mask
    assert mask is not None
    assert torch.equal(mask[a], chosen[:, None].float().expand(6, 10))
    assert torch.equal(mask[b], chosen[None].float().expand(14, 6))
    assert mask["score.weight"].all()


def test_a_memory_is_of_no_use_for_pairs_set_to_zero():
    with pytest.raises(ValidationError, match=r"zerofill.*error_feedback = false"):
        Soft(unsent="zerofill")


@pytest.mark.parametrize("ratio", [0.0, 1.5])
def test_a_ratio_outside_the_shares_is_refused(ratio):
    with pytest.raises(ValidationError):
        Soft(sparsification_ratio=ratio)


def test_half_a_pair_cannot_be_sent():
    only_b = {name: tensor for name, tensor in drawn(ALIKE, 1).items() if ".lora_A." not in name}
    with pytest.raises(ValueError, match="without its lora_A"):
        Soft().transmit(Sending(only_b, only_b))


# Which pairs: the choice


def test_delta_sends_what_has_changed_and_norm_what_is_long():
    reference = drawn(ALIKE, 1)
    tensors = {name: tensor.clone() for name, tensor in reference.items()}
    tensors["h.0.attn.lora_B.weight"][:, 2] *= 0.1  # short now, and so changed most
    tensors["h.1.attn.lora_A.weight"][4] *= 1.001
    reference["h.1.attn.lora_A.weight"][4] *= 100.0
    tensors["h.1.attn.lora_A.weight"][4] *= 100.0
    given = Sending(tensors, reference, sparsification_ratio=1 / 12)
    assert np.flatnonzero(is_sent(Soft(importance="norm"), given)).tolist() == [10]
    tensors["h.1.attn.lora_A.weight"][4] = reference["h.1.attn.lora_A.weight"][4]
    assert np.flatnonzero(is_sent(Soft(), given)).tolist() == [2]


def test_with_a_memory_every_pair_gets_its_turn():
    """Rank starvation, section 6 of the card: without a memory the same pairs win every round."""
    step = {
        name: (1.0 + stream(1, name).generator().random()) * t for name, t in drawn(ALIKE, 3, 0.01).items()
    }
    ever = {}
    for feedback in (False, True):
        reference, memory, sent = drawn(ALIKE, 0), None, np.zeros(12, dtype=bool)
        codec = Soft(sparsification_ratio=0.25, error_feedback=feedback)
        for _ in range(20):
            given = Sending({name: t + step[name] for name, t in reference.items()}, reference, memory)
            sent |= is_sent(codec, given)
            received = codec.transmit(given)
            reference, memory = received.tensors, received.memory
        ever[feedback] = int(sent.sum())
    assert ever[True] == 12
    assert ever[False] < 12


@given(seed=seeds, ratio=ratios)
@settings(deadline=None, max_examples=25)
def test_the_order_of_pairs_is_of_no_account_if_all_agree_on_it(seed, ratio):
    """Acceptance test 11, of the codec: permuted at both ends, the receiver has the permuted adapter."""
    given = sending(UNLIKE, seed, ratio, memory=0.05)
    turned = Sending(
        permuted(given.tensors, seed),
        permuted(given.reference or {}, seed),
        permuted(given.memory or {}, seed),
        ratio,
    )
    for codec in (Soft(), Soft(importance="norm", unsent="masked"), Soft(scope="module")):
        straight, other = codec.transmit(given), codec.transmit(turned)
        assert straight.bits == other.bits
        expected = permuted(straight.tensors, seed)
        assert all(torch.equal(one, expected[name]) for name, one in other.tensors.items())


def test_what_is_dropped_is_what_the_receiver_lacks():
    given = sending(UNLIKE, 4, 0.4)
    for codec in (
        Soft(error_feedback=False),
        RandomRanks(error_feedback=False),
        Soft(unsent="zerofill", error_feedback=False),
    ):
        received = codec.transmit(given)
        lacking = 0.0
        for module in pairs_of(given.tensors).modules:
            for j in range(module.rank):
                wanted, got = (
                    torch.outer(one[module.b_name][:, j].double(), one[module.a_name][j].double())
                    for one in (given.tensors, received.tensors)
                )
                lacking += float((wanted - got).square().sum())
        assert received.figures["dropped_energy"] == pytest.approx(lacking, rel=1e-6)


def test_chance_favours_no_pair():
    counts = np.zeros(18)
    for seed in range(400):
        given = sending(UNLIKE)
        counts += is_sent(
            RandomRanks(sparsification_ratio=0.5), Sending(given.tensors, given.reference, seed=seed)
        )
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()


# Energies for an allocator


@pytest.mark.parametrize("codec", [Soft(), Soft(importance="norm"), RandomRanks(), Svd()], ids=repr)
def test_energies_are_there_for_every_pair(codec):
    given = sending(UNLIKE, 2, memory=0.05)
    found = codec.energies(given)
    assert found.shape == (18,)
    assert (found >= 0.0).all()
    assert np.isfinite(found).all()
    if isinstance(codec, FactorCodec) and not codec.needs_chance:
        chosen = pairs_of(given.tensors).select(found, 0.5)
        assert np.array_equal(
            chosen, is_sent(codec, Sending(given.tensors, given.reference, sparsification_ratio=0.5))
        )


# The best there is


@given(seed=seeds, ratio=ratios)
@settings(deadline=None, max_examples=25)
def test_an_svd_loses_what_eckart_and_young_say(seed, ratio):
    given = sending(ALIKE, seed, ratio)
    received = Svd().transmit(given)
    singular, lost = [], 0.0
    for module in pairs_of(given.tensors).modules:
        whole, got = (
            one[module.b_name].double() @ one[module.a_name].double()
            for one in (given.tensors, received.tensors)
        )
        lost += float((whole - got).square().sum())
        singular.append(torch.linalg.svdvals(whole)[:6])
    count = int(12 * ratio + 1e-9)
    expected = float(torch.cat(singular).square().sort(descending=True).values[count:].sum())
    scale = float(torch.cat(singular).square().sum())
    assert lost == pytest.approx(expected, abs=1e-6 * scale)
    assert received.figures["dropped_energy"] == pytest.approx(expected, abs=1e-6 * scale)


@given(seed=seeds, ratio=ratios)
@settings(deadline=None, max_examples=25)
def test_no_choice_of_pairs_loses_less_than_an_svd(seed, ratio):
    given = sending(ALIKE, seed, ratio)
    best = Svd().transmit(given).figures["dropped_energy"]
    zeroed = Soft(importance="norm", unsent="zerofill", error_feedback=False).transmit(given)
    lost = sum(
        float(
            (
                given.tensors[m.b_name] @ given.tensors[m.a_name]
                - zeroed.tensors[m.b_name] @ zeroed.tensors[m.a_name]
            )
            .square()
            .sum()
        )
        for m in pairs_of(given.tensors).modules
    )
    assert lost >= best * (1 - 1e-5)


@pytest.mark.parametrize("shape", [(3, 5, 4), (5, 3, 4), (2, 2, 6), (7, 8, 2)])
def test_a_thin_svd_is_the_svd_of_the_product(shape):
    num_outputs, num_inputs, rank = shape
    generator = torch.Generator().manual_seed(1)
    b = torch.randn(2, num_outputs, rank, generator=generator, dtype=torch.float64)
    a = torch.randn(2, rank, num_inputs, generator=generator, dtype=torch.float64)
    left, singular, right = thin_svd(b, a)
    assert (left.shape, singular.shape, right.shape) == (b.shape, (2, rank), a.shape)
    assert torch.allclose(left * singular[:, None] @ right, b @ a)
    short = min(shape)
    assert torch.allclose(singular[:, :short], torch.linalg.svdvals(b @ a)[:, :short])


# What the change of the product says


@given(seed=seeds)
@settings(deadline=None, max_examples=10)
def test_pairs_are_taken_in_the_order_in_which_they_help_the_product_most(seed):
    """By products in full: the next pair leaves the least of the change lacking; what does harm has 0."""
    adapter, reference = drawn(UNLIKE, seed), drawn(UNLIKE, seed + 1)
    pairs = pairs_of(adapter)
    gains = product_gains(pairs, adapter, reference)
    for module, place in zip(pairs.modules, pairs.slices, strict=True):
        (a, b), (a0, b0) = (
            (one[module.a_name].double(), one[module.b_name].double().T) for one in (adapter, reference)
        )
        changes = b[:, :, None] * a[:, None, :] - b0[:, :, None] * a0[:, None, :]
        lacking, left = changes.sum(dim=0), list(range(module.rank))
        for index in np.argsort(-gains[place], kind="stable").tolist():
            helps = {j: float(lacking.square().sum() - (lacking - changes[j]).square().sum()) for j in left}
            if max(helps.values()) <= 0.0:
                assert not gains[place][left].any()
                break
            assert helps[index] == pytest.approx(max(helps.values()))
            lacking, left = lacking - changes[index], [j for j in left if j != index]


def test_where_changes_are_orthogonal_gains_are_energies():
    generator = torch.Generator().manual_seed(1)
    b = torch.linalg.qr(torch.randn(9, 4, generator=generator, dtype=torch.float64)).Q
    a = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    adapter = {"q.lora_A.weight": a, "q.lora_B.weight": b * torch.tensor([3.0, 0.1, 1.0, 7.0])}
    reference = {"q.lora_A.weight": a, "q.lora_B.weight": torch.zeros_like(b)}
    pairs = pairs_of(adapter)
    assert product_gains(pairs, adapter, reference) == pytest.approx(
        delta_energies(pairs, adapter, reference)
    )


def test_effective_pairs_are_all_where_energies_are_equal_and_one_where_one_has_all():
    shapes = {"q.lora_A.weight": (4, 5), "q.lora_B.weight": (7, 4)}
    reference = {name: torch.ones(shape) for name, shape in shapes.items()}
    moved = reference["q.lora_B.weight"].clone()
    moved[:, 2] = 5.0
    for tensor, share in ((reference["q.lora_B.weight"] + 1.0, 1.0), (moved, 0.25)):
        figures = (
            Soft(measures_spread=True)
            .transmit(Sending({**reference, "q.lora_B.weight": tensor}, reference))
            .figures
        )
        assert figures["effective_pairs"] == pytest.approx(share)
        assert figures["pair_energy"] >= figures["dropped_energy"]
