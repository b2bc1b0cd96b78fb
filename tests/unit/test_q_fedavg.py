"""q-FFL's step, against Flower's own and against what it must come to."""

import pytest
import torch

from cosim.learning.aggregator import Server
from cosim.learning.aggregator.fedavg import FedAvg
from cosim.learning.aggregator.q_fedavg import QFedAvg

WEIGHTS, LOSSES = [0.5, 0.3, 0.2], [1.0, 2.0, 3.0]


@pytest.fixture
def round_():
    generator = torch.Generator().manual_seed(1)

    def drawn():
        return {name: torch.randn(3, 4, generator=generator, dtype=torch.float64) for name in ("a", "b")}

    return drawn(), [drawn() for _ in WEIGHTS]


def furthest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def stepped(round_, losses=LOSSES, **settings):
    start, uploads = round_
    server = Server(adapter=start, residual={}, scaling=1.0, losses=losses)
    return QFedAvg(**settings).aggregate(uploads, WEIGHTS, server).adapter


def test_with_q_zero_it_is_the_mean(round_):
    start, uploads = round_
    mean = FedAvg().aggregate(uploads, WEIGHTS, Server(adapter=start, residual={}, scaling=1.0)).adapter
    assert furthest(stepped(round_, q=0.0, lipschitz=7.0), mean) < 1e-14


def test_the_larger_q_the_more_it_goes_along_with_the_largest_loss(round_):
    start, uploads = round_

    def cosine(q):
        after, worst = stepped(round_, q=q), uploads[-1]
        one, other = (
            torch.cat([(at[name] - start[name]).ravel() for name in start]) for at in (after, worst)
        )
        return float(torch.cosine_similarity(one, other, dim=0))

    cosines = [cosine(q) for q in (0.0, 1.0, 3.0, 30.0)]
    assert cosines == sorted(cosines)
    assert cosines[-1] > 0.999


def test_nobody_who_went_nowhere_moves_it(round_):
    start, _ = round_
    assert furthest(stepped((start, [start] * 3), q=2.0), start) < 1e-14


@pytest.mark.filterwarnings("ignore")  # other people's
def test_it_is_the_step_of_flower(round_):
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'cosim-fl[flower]'")
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server.strategy import QFedAvg as FlowersQFedAvg

    start, uploads = round_
    q, rate = 1.5, 0.25

    def parameters(tensors):
        return ndarrays_to_parameters([one.numpy() for one in tensors.values()])

    server = Server(adapter=start, residual={}, scaling=1.0, losses=[2.0] * 3)  # it has one loss for all
    ours = QFedAvg(q=q, lipschitz=1.0 / rate).aggregate(uploads, [1 / 3] * 3, server).adapter
    theirs = FlowersQFedAvg(q_param=q, qffl_learning_rate=rate)
    theirs.pre_weights = [one.numpy() for one in start.values()]
    theirs.evaluate = lambda *_: (2.0, {})
    results = [(None, FitRes(Status(Code.OK, ""), parameters(one), 1, {})) for one in uploads]
    found, _ = theirs.aggregate_fit(1, results, [])
    expected = dict(zip(start, map(torch.from_numpy, parameters_to_ndarrays(found)), strict=True))
    assert furthest(ours, expected) < 1e-8
