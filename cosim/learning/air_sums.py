"""What a server has of updates that were sent at once, over a medium that adds; nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

from cosim.graph.node import Ref
from cosim.learning.codec import Encoding
from cosim.learning.codecs import NO_CODECS
from cosim.learning.operations import superpose as operations
from cosim.learning.training import Training
from cosim.rng import stream


def superpose(
    training: Training,
    reference: Ref,
    senders: Sequence[Ref],
    weights: Sequence[float],
    noise_std: float,
    max_rms: float,
    chance: Sequence[str | int],
    codec: Encoding = NO_CODECS.adapter,
    step: int = 0,
    uneven: Mapping[str, Any] | None = None,
    mean: float | None = None,
) -> Ref:
    """Return what a server has after updates were sent at once over a medium that adds.

    Parameters
    ----------
    reference
        What all senders began from.
    senders, weights
        What each of them has now, and its share in the sum.
    noise_std, max_rms
        Noise on each number of the sum; largest root mean square an update is sent with.
    chance
        Names of the stream of the noise.
    codec, step
        What they are encoded by and at which step; behind a chain ``senders`` are its numbers.
    uneven
        What differs between the numbers, as the medium says it.
    mean
        What is taken off all numbers and put back, where values are standardised.
    """
    chances = stream(training.task.seed, *chance)
    also = training.common_chance(codec, "federated_uplink", step)
    if not codec.is_transparent:
        also |= {"encoding": training.params_of(codec)}
    if uneven is not None:
        also |= {"uneven": uneven, "order_seed": chances.child("order").torch_seed()}
    if mean is not None:
        also |= {"mean": mean}
    node = training.graph.add(
        operations.superpose if codec.is_transparent else operations.superpose_numbers,
        [reference, *senders],
        weights=list(weights),
        noise_std=noise_std,
        max_rms=max_rms,
        seed=chances.torch_seed() if noise_std > 0.0 else None,
        **also,
    )
    return node.ref("adapter")


def sent_power(
    training: Training,
    reference: Ref,
    sender: Ref,
    max_rms: float,
    codec: Encoding = NO_CODECS.adapter,
    mean: float | None = None,
) -> Ref:
    """Return the power of an update as it is sent over such a medium, as a share of the most."""
    sides = [sender, reference] if codec.is_transparent else [sender]
    also = {} if mean is None else {"mean": mean}
    return training.graph.add(operations.sent_power, sides, max_rms=max_rms, **also).ref("share")


def moments(
    training: Training, reference: Ref, sender: Ref, codec: Encoding = NO_CODECS.adapter
) -> tuple[Ref, Ref]:
    """Return mean and variance of the numbers of an update as it is sent over such a medium."""
    node = training.graph.add(operations.moments, [sender, reference] if codec.is_transparent else [sender])
    return node.ref("mean"), node.ref("variance")
