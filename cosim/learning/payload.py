"""What travels between two ends: layouts known from the shape alone, and the node of sending."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

from cosim.errors import ScenarioError
from cosim.graph.node import Node, Ref
from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.sums import factor_of
from cosim.learning.chain import codec_of
from cosim.learning.codec import Codec, Encoding, Layout
from cosim.learning.operations.average import LOSS
from cosim.learning.operations.control_variates import VARIATE
from cosim.learning.shape import BOTH_FACTORS, Factor
from cosim.learning.task import Task
from cosim.parts import kinds_that
from cosim.units import rounded_up

_NOTHING: Mapping[str, Ref] = MappingProxyType({})
_NO_FIGURES = ("bits", "memory", "mask", "numbers")


class Transmission(NamedTuple):
    """One sending.

    Attributes
    ----------
    node
        Whose value travels; that of the sender where nothing is encoded.
    tensors
        What the receiver has.
    others
        By name what else comes of it: ``bits``, and where the codec has them
        ``memory``, ``mask``, ``numbers`` and its figures; nothing where nothing is encoded.
    """

    node: Node
    tensors: Ref
    others: Mapping[str, Ref] = _NOTHING

    @property
    def memory(self) -> Ref | None:
        """What the sender holds back; None without error feedback."""
        return self.others.get("memory")

    @property
    def mask(self) -> Ref | None:
        """Where it was sent and where not; None for a codec without one."""
        return self.others.get("mask")

    @property
    def numbers(self) -> Ref:
        """What goes over a medium that adds: the numbers that steps made of it, or it itself."""
        return self.others.get("numbers", self.tensors)

    @property
    def figures(self) -> dict[str, Ref]:
        """What the sender measured."""
        return {name: one for name, one in self.others.items() if name not in _NO_FIGURES}


def activation_layout(task: Task) -> Layout:
    """Return the layout of one mini-batch of activations; their gradient has the same."""
    shape = (task.training.batch_size, task.data.sequence_length, task.shape.hidden_size)
    return Layout({"activations": shape}, task.model.bits_per_number)


def adapter_layout(
    task: Task, num_blocks: int, lora_rank: int, factors: Collection[Factor] = BOTH_FACTORS
) -> Layout:
    """Return the layout of what is trained by the holder of the first blocks.

    Names, shapes and their order are those of the tensors. What is trained behind the
    blocks is part of it where all blocks are.

    Parameters
    ----------
    num_blocks, lora_rank
        How many blocks; the rank of their adapters.
    factors
        The factors that are meant.
    """
    held = task.trainable.of_rank(lora_rank).held(task.shape, num_blocks, factors)
    return Layout({one.name: one.shape for one in held}, task.model.bits_per_trained_number)


def upload_layout(task: Task, num_blocks: int, client_rank: int, round_: int) -> Layout:
    """Return the layout of what a client of a rank sends after a round, not encoded."""
    task = task.in_round(round_)
    layout = adapter_layout(task, num_blocks, client_rank, task.aggregator.sent(round_))
    if task.aggregator.wants_losses:
        layout = Layout({**layout.shapes, LOSS: (1,)}, layout.bits_per_number)
    if task.private:
        shared = {name: shape for name, shape in layout.shapes.items() if name not in task.private}
        layout = Layout(shared, layout.bits_per_number)
    if not task.rule.has_variates:
        return layout
    variates = {VARIATE + name: shape for name, shape in layout.shapes.items()}
    return Layout({**layout.shapes, **variates}, layout.bits_per_number)


def held_bytes(task: Task, num_blocks: int, lora_rank: int) -> int:
    """Return what a client holds for its local rule, and steps on its updates hold back, bytes.

    What steps work on meanwhile fits where the activations were.
    """
    adapter, trained = task.codecs.adapter, task.model.bits_per_trained_number // 8
    layouts = [upload_layout(task, num_blocks, lora_rank, round_) for round_ in task.kinds]
    trained_numbers = max(adapter_layout(one, num_blocks, lora_rank).num_numbers for one in task.by_stage)
    ruled = task.rule.num_held * trained_numbers
    return trained * (ruled + max(adapter.held_numbers(one) for one in layouts))


def payloads(task: Task, num_blocks: int, round_: int = 1) -> dict[str, tuple[Encoding, Layout]]:
    """Return what goes through which codec, by the name of the setting.

    Parameters
    ----------
    num_blocks
        How many blocks a client has.
    round_
        In which round: what is sent of an adapter may change from one to the next.
    """
    codecs, activations = task.codecs, activation_layout(task)
    return {
        "activation_codec": (codecs.activation, activations),
        "gradient_codec": (codecs.gradient, activations),
        "adapter_codec": (
            codecs.adapter,
            upload_layout(task, num_blocks, task.trainable.lora_rank, round_),
        ),
    }


def bits_are_known(task: Task, num_blocks: int) -> bool:
    """Return whether the bits of everything sent are known before any value is."""
    return all(
        codec.bits(layout) is not None
        for round_ in task.kinds
        for codec, layout in payloads(task, num_blocks, round_).values()
    )


def refuse_payloads(task: Task, num_blocks: int, *, is_told: bool = False) -> None:
    """Refuse codecs that leave nothing to send, or that do not go with the aggregator.

    Parameters
    ----------
    num_blocks
        How many blocks a client has.
    is_told
        Whether an allocator says how much of its adapter each client sends, so that the
        codec's own ratio has no say.

    Raises
    ------
    ScenarioError
        Naming the setting and the way out.
    """
    codecs, aggregator = task.codecs, task.aggregator
    for number, stage in enumerate(task.by_stage[: len(task.stages)]):
        try:
            _ = stage.private
        except ScenarioError as fault:
            raise ScenarioError(f"scheme.stages.{number}: {fault}") from None
    if (why := _why_nothing_personal(task, num_blocks)) is not None:
        raise ScenarioError(f"scheme.aggregator: {why}.")
    for round_ in task.kinds:
        for name, (encoding, layout) in payloads(task, num_blocks, round_).items():
            codec = codec_of(encoding)
            if layout.shapes and (why := encoding.why_unsendable(layout)) is not None:
                raise ScenarioError(f"scheme.update: {why}.")
            try:
                least = encoding.least_ratio(layout) if layout.shapes else 0.0
            except ValueError:
                left = {factor for one in layout.shapes if (factor := factor_of(one)) is not None}
                alone = left.pop() if len(left) == 1 else "one factor of some pairs"
                raise ScenarioError(
                    f"scheme.{name}: {codec.kind!r} cannot send what the aggregator {aggregator.kind!r} "
                    f"averages: {alone} alone travels in round {round_}, and a rank pair has a part in both "
                    "factors; take a codec that knows no pairs, such as 'top_k', or the aggregator 'fedavg'."
                ) from None
            ratio = getattr(codec, "sparsification_ratio", 1.0)
            if ratio < least and not (is_told and name == "adapter_codec"):
                raise ScenarioError(
                    f"scheme.{name}: {codec.kind!r} sends nothing with sparsification_ratio {ratio:g}: that "
                    f"is less than the smallest thing it can send; give it {rounded_up(least):g} or more."
                )
    codec = codec_of(codecs.adapter)
    if (why := _why_no_rule(task, codec)) is not None:
        raise ScenarioError(f"scheme.local_rule: {why}.")
    if codecs.adapter.is_relayed and not aggregator.is_plain:
        raise ScenarioError(
            f"scheme.update: clients rebuild the average from what the server hands on, and the aggregator "
            f"{aggregator.kind!r} makes another of it; set relayed = false, or take the aggregator 'fedavg'."
        )
    if codec.has_mask and not aggregator.takes_masks:
        raise ScenarioError(
            f"scheme.adapter_codec: {codec.kind!r} says what it did not send, and the aggregator "
            f"{aggregator.kind!r} cannot leave that out of its average; set unsent to 'update', "
            "or take the aggregator 'fedavg'."
        )
    if codecs.adapter.keeps_memory and not aggregator.keeps_factors:
        who, way_out = f"adapter_codec: {codec.kind!r}", "set error_feedback to false"
        if not codec.keeps_memory:
            who, way_out = "update: 'residual'", "leave it out"
        raise ScenarioError(
            f"scheme.{who} holds back what it did not send of an update, "
            f"and under the aggregator {aggregator.kind!r} the next one is of other factors; {way_out}."
        )
    if codec.turns_factors and not aggregator.averages_products:
        able = kinds_that(Aggregator, lambda part: part.averages_products)
        raise ScenarioError(
            f"scheme.adapter_codec: {codec.kind!r} sends factors of a client's own making, and the "
            f"aggregator {aggregator.kind!r} would average those of one number; take one of {able}."
        )


def _why_no_rule(task: Task, codec: Codec) -> str | None:
    """Return why clients cannot go by the local rule, with a way out; None if they can."""
    rule, aggregator = task.rule, task.aggregator
    if rule.has_variates and not aggregator.is_plain:
        return (
            f"{rule.kind!r} sends control variates beside the update, and the aggregator {aggregator.kind!r} "
            "is about adapters alone; take the aggregator 'fedavg'"
        )
    if rule.has_variates and codec.needs_factors:
        return (
            f"{rule.kind!r} sends control variates beside the update, and the adapter_codec {codec.kind!r} "
            "sends pairs of factors; take a codec such as 'none' or 'float16'"
        )
    return rule.why_unfit(task.training.optimizer)


def _why_nothing_personal(task: Task, num_blocks: int) -> str | None:
    """Return why personal models would come to nothing behind a cut, None if they would not."""
    if not task.private or num_blocks == task.shape.num_layers:
        return None
    on_client = {one.name for one in task.trainable.parameters(task.shape) if one.block <= num_blocks}
    missing = "is private" if on_client.isdisjoint(task.private) else "is averaged"
    if on_client and (on_client <= task.private or on_client.isdisjoint(task.private)):
        return (
            f"nothing {missing} of what clients train, as {task.aggregator.kind!r} finds all of that behind "
            f"the cut after block {num_blocks}; name a part in blocks 1 to {num_blocks}, cut later, or take "
            "the aggregator 'fedavg'"
        )
    return None
