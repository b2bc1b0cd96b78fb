"""What a sending makes of tensors."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.node import Node, Params
from cosim.graph.operation import Fields, operation
from cosim.learning.chain import Chain
from cosim.learning.codec import Codec, Encoding, Sending

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter

_SINGLE = "activations"  # activations and their gradient travel alone, under one name


def encoding_of(learner: "Learner", params: Params) -> Encoding:
    """Return the codec that these parameters describe, or the chain of steps with a codec behind them."""
    if params["kind"] == "chain":
        return Chain.model_validate(params.entries)
    codec: Codec = learner.made(Codec, params)
    return codec


def _all_alike(node: Node) -> Hashable:
    """Group sendings so that the nodes around them stay together; codecs pack bits on the CPU one by one."""
    return True


@operation("transmit", group=_all_alike, state=("tensors", "memory"))
def transmit(
    learner: "Learner", params: Mapping[str, Any], tensors: "Adapter | Tensor", *given: "Adapter"
) -> Fields:
    """Return what is received, and with it what the sender holds back or measures."""
    codec = encoding_of(learner, params["codec"])
    is_named = isinstance(tensors, dict)
    received = codec.transmit(
        Sending(
            tensors if isinstance(tensors, dict) else {_SINGLE: tensors},
            sparsification_ratio=params["sparsification_ratio"],
            seed=params["seed"],
            common_seed=params.get("common_seed"),
            **dict(zip(params["given"], given, strict=True)),
        )
    )
    fields: Fields = {**received.figures, "bits": received.bits}
    fields["tensors"] = received.tensors if is_named else received.tensors[_SINGLE]
    for name in ("memory", "mask", "numbers"):
        kept = getattr(received, name)
        if kept is not None:
            fields[name] = learner.keep(kept)
    return fields


@operation("encode", state=("numbers",))
def encode(learner: "Learner", params: Mapping[str, Any], tensors: "Adapter", *given: "Adapter") -> Fields:
    """Return the numbers alone that steps made of an update, where the server adds them up."""
    seeds = params["seed"], params.get("common_seed")
    reference = dict(zip(params["given"], given, strict=True)).get("reference")
    sending = Sending(tensors, reference, None, params["sparsification_ratio"], *seeds)
    return {"numbers": learner.keep(encoding_of(learner, params["codec"]).numbers(sending))}


@operation("rebuild", state=("adapter",))
def rebuild(
    learner: "Learner", params: Mapping[str, Any], reference: "Adapter", *numbers: "Adapter"
) -> Fields:
    """Return what all have of the weighted sum of such numbers, beside what all began from."""
    from cosim.learning.aggregator.sums import weighted_sum

    encoding = encoding_of(learner, params["encoding"])
    total = weighted_sum(numbers, params["weights"])
    return {"adapter": encoding.of_sum(total, reference, params.get("common_seed"))}
