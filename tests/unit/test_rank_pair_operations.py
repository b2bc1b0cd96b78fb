"""What is measured of rank pairs, and what an allocator is told of them, as works."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cosim.graph.node import Graph, Params
from cosim.learning.codec import Sending
from cosim.learning.codec.none import Plain
from cosim.learning.codec.pairs import pairs_of
from cosim.learning.codec.soft import Soft
from cosim.learning.operations import rank_pairs
from cosim.learning.operations.start import start
from cosim.learning.pair_energy import coherence, covariance_error

SHAPES = {
    "h.0.attn.lora_A.weight": (4, 7),
    "h.0.attn.lora_B.weight": (9, 4),
    "score.weight": (2, 7),
}


def drawn(seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = SHAPES.items()
    return {n: scale * torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes}


def moved(seed: int) -> dict[str, Tensor]:
    step = drawn(seed, 0.1)
    return {name: tensor + step[name] for name, tensor in drawn(0).items()}


def only(adapter: dict[str, Tensor], factor: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in adapter.items() if f".lora_{factor}." in name}


class Made:
    """In the place of a learner: the codec is made already."""

    def __init__(self, codec):
        self._codec = codec

    def made(self, base, params):
        return self._codec


def outputs(count: int):
    graph = Graph()
    return graph, [graph.add(start, part=str(one)).ref("adapter") for one in range(count)]


def test_each_figure_has_a_work_of_its_own():
    graph, (reference, one, two) = outputs(3)
    found = [
        rank_pairs.coherence(graph, one),
        rank_pairs.coherence(graph, two),
        rank_pairs.covariance_error(graph, reference, [one, two], [0.5, 0.5]),
        rank_pairs.covariance_error(graph, reference, [one, two], [0.4, 0.6]),
        rank_pairs.covariance_error(graph, one, [one, two], [0.4, 0.6]),
        rank_pairs.pair_energies(graph, Params.of(Soft()), one, reference, None),
        rank_pairs.pair_energies(graph, Params.of(Soft()), one, reference, two),
        rank_pairs.pair_energies(graph, Params.of(Soft(importance="norm")), one, reference, two),
        rank_pairs.weighted_mean(graph, [one, two], [0.4, 0.6]),
    ]
    assert len({output.node.key for output in found}) == len(found)


def test_coherence_and_covariance_are_those_of_the_adapters():
    clients = [moved(seed) for seed in (1, 2)]
    pairs = pairs_of(clients[0])
    assert rank_pairs._coherence.body(None, {}, clients[0]) == {"coherence": coherence(pairs, clients[0])}
    found = rank_pairs._covariance.body(None, {"weights": [0.3, 0.7]}, drawn(0), *clients)
    assert found == {"covariance_error": covariance_error(pairs, clients, [0.3, 0.7], drawn(0))}
    assert found["covariance_error"] > 0.0


@pytest.mark.parametrize("factor", ["A", "B"])
def test_a_factor_that_does_not_travel_is_the_one_all_began_from(factor):
    """Acceptance test 12: with one factor frozen the covariance is zero."""
    received = [only(moved(seed), factor) for seed in (1, 2, 3)]
    found = rank_pairs._covariance.body(None, {"weights": [0.2, 0.3, 0.5]}, drawn(0), *received)
    assert found["covariance_error"] < 1e-12


def test_pairs_a_client_of_lower_rank_does_not_have_are_zero():
    low = {name: t[:2] if "lora_A" in name else t for name, t in moved(1).items()}
    low |= {name: t[:, :2] for name, t in low.items() if "lora_B" in name}
    zeroed = moved(1)
    zeroed["h.0.attn.lora_A.weight"][2:] = 0.0
    zeroed["h.0.attn.lora_B.weight"][:, 2:] = 0.0
    told = {"weights": [0.5, 0.5]}
    short = rank_pairs._covariance.body(None, told, drawn(0), low, moved(2))
    assert short == rank_pairs._covariance.body(None, told, drawn(0), zeroed, moved(2))


def test_figures_of_clients_are_averaged_by_their_weights():
    assert rank_pairs._weighted_mean.body(None, {"weights": [0.25, 0.75]}, 4.0, 8.0) == {"mean": 7.0}


def test_energies_count_what_is_held_back():
    memory = drawn(5, 0.2)
    whole = {name: tensor + memory[name] for name, tensor in moved(1).items()}
    for codec, wanted in ((Soft(), whole), (Soft(error_feedback=False), moved(1))):
        found = rank_pairs._pair_energies.body(Made(codec), {"codec": None}, moved(1), drawn(0), memory)
        expected = codec.energies(Sending(wanted, drawn(0)))
        assert np.array_equal(found["pairs"]["energies"].numpy(), expected)


def test_a_codec_without_pairs_has_no_energies():
    with pytest.raises(ValueError, match="'none' sends no rank pairs"):
        rank_pairs._pair_energies.body(Made(Plain()), {"codec": None}, moved(1), drawn(0))
