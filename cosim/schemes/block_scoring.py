"""Clients that score the blocks of a model by their own examples, so that a server knows which to share."""

from typing import TYPE_CHECKING

from cosim.graph.node import Node, Params
from cosim.kernel.clock import Steps
from cosim.learning.federated_state import FederatedState
from cosim.learning.flop import hessian_flop, score_flop
from cosim.learning.operations.block_scores import block_scores
from cosim.learning.operations.hessian_scores import hessian_scores
from cosim.learning.training import Training
from cosim.rng import stream
from cosim.transmissions import Sent

if TYPE_CHECKING:
    from cosim.schemes.federated_rounds import FederatedRounds
    from cosim.world import Moment


def score_blocks(rounds: "FederatedRounds", moment: "Moment") -> Steps:
    """Let every client score all blocks and send its scores, 32 bits each; returns the uploads' spans."""
    steps = [_score(rounds, moment, client) for client in range(rounds.world.num_clients)]
    return (yield from rounds.world.together(steps, "scores of client"))


def _score(rounds: "FederatedRounds", moment: "Moment", client: int) -> Steps:
    world, scheme, task = rounds.world, rounds.scheme, rounds.training.task
    rows = [int(row) for row in task.shares[client][: scheme.scored_examples]]
    batch = Params({"data": task.tokens.key, "rows": rows})
    figures = {f"block_score_{one}": f"score_{one}" for one in range(1, task.shape.num_layers + 1)}
    if scheme.scored_by == "hessian":
        node, flop = _by_hessian(rounds.training, rounds.federation, client, moment.round, batch)
        figures["shared_ratio"] = "shared_ratio"
    else:
        node = rounds.training.graph.add(block_scores, [rounds.federation.adapter], batch=batch)
        flop = score_flop(task.shape, len(rows), task.data.sequence_length)
    name = world.client_names[client]
    span = yield from world.compute(name, "score_blocks", moment, flop, node, rounds.ready)
    for figure, field in figures.items():
        world.measure(moment, name, figure, node.ref(field))
    bits = 32 * len(figures)
    sent: Sent = yield from world.send("federated_uplink", client, "block_scores", moment, bits, node, [span])
    return sent.span


def _by_hessian(
    training: Training, federation: FederatedState, client: int, round_: int, batch: Params
) -> tuple[Node, int]:
    """Return the node of a client's scores by the Hessian where its round begins, and its FLOP."""
    task, begin = training.task, federation.states[client]
    known = [begin.adapter] if begin.residual is None else [begin.adapter, begin.residual]
    probe = stream(task.seed, "hessian_probe", client, round_).torch_seed()
    node = training.graph.add(hessian_scores, known, batch=batch, probe=probe)
    trainable, length = task.trainable.of_rank(training.lora_rank), task.data.sequence_length
    return node, hessian_flop(task.shape, trainable, len(batch["rows"]), length)
