"""What clients compute and send, from shapes alone: FLOP per mini-batch, bits per round."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache, cached_property, lru_cache, partial
from typing import Any, NamedTuple

from cosim.learning.flop import split_flop, whole_flop
from cosim.learning.payload import activation_layout, upload_layout
from cosim.learning.task import Task


class SplitAmounts(NamedTuple):
    """What split training at one cut layer and rank computes and sends, per client.

    FLOP and activations are of one mini-batch, adapters of one round. What a
    client is sent depends on who sent something: here, everybody.
    """

    client_forward_flop: int
    client_backward_flop: int
    server_flop: int
    activation_bits: int
    gradient_bits: int
    adapter_bits: int
    adapter_download_bits: int
    encode_flop: int = 0
    decode_flop: int = 0
    rebuild_flop: int = 0
    is_summed: bool = False


def split_amounts(task: Task, cut_layer: int, lora_rank: int) -> SplitAmounts:
    """Return the most that any client computes and sends in any round.

    A number travels as its codec has it, without one in the precision it is
    computed in; bits that depend on values are the most there can be. No gradient
    comes back where the client has no adapter to train, and averaged adapters
    come back as they are. Steps on an update are charged what they declare; labels, codecs,
    the averaging of adapters and the optimiser's own arithmetic are neglected, as in FedsLLM.
    """
    each = [
        split_amounts_of(task, cut_layer, lora_rank, rank, round_)
        for rank, round_ in _ranks_and_rounds(task, lora_rank)
    ]
    return SplitAmounts(*map(max, zip(*each, strict=True)))


def split_amounts_of(
    task: Task, cut_layer: int, lora_rank: int, client_rank: int, round_: int
) -> SplitAmounts:
    """Return what a client of a rank computes and sends in a round; the model is of ``lora_rank``."""
    task = task.in_round(round_)
    shape, trainable = task.shape, task.trainable
    sizes = (cut_layer, task.training.batch_size, task.data.sequence_length)
    again = task.training.gradient_checkpointing
    trained = task.aggregator.trained(round_)
    client = split_flop(shape, trainable.of_rank(client_rank), *sizes, trained, recomputes=again)
    server = client
    if client_rank != lora_rank:
        server = split_flop(shape, trainable.of_rank(lora_rank), *sizes, recomputes=again)
    codecs, activations = task.codecs, activation_layout(task)
    return SplitAmounts(
        client_forward_flop=client.client_forward,
        client_backward_flop=client.client_backward,
        server_flop=server.server_forward + server.server_backward,
        activation_bits=codecs.activation.max_bits(activations),
        gradient_bits=codecs.gradient.max_bits(activations) if task.client_trains(cut_layer) else 0,
        adapter_bits=upload_bits(task, cut_layer, client_rank, round_),
        adapter_download_bits=download_bits(task, cut_layer, lora_rank, client_rank, round_),
        **coding_flop(task, cut_layer, client_rank, round_),
    )


class WholeAmounts(NamedTuple):
    """What training of the uncut model computes per mini-batch and sends per round."""

    forward_flop: int
    backward_flop: int
    adapter_bits: int
    adapter_download_bits: int
    encode_flop: int = 0
    decode_flop: int = 0
    rebuild_flop: int = 0
    is_summed: bool = False

    @property
    def flop(self) -> int:
        """FLOP of one mini-batch, there and back."""
        return self.forward_flop + self.backward_flop


def whole_amounts(task: Task, lora_rank: int) -> WholeAmounts:
    """Return the most that any client computes per mini-batch and sends per round.

    The adapter is that of all blocks, and a classifier's head with it.
    """
    each = [
        whole_amounts_of(task, lora_rank, rank, round_) for rank, round_ in _ranks_and_rounds(task, lora_rank)
    ]
    return WholeAmounts(*map(max, zip(*each, strict=True)))


def whole_amounts_of(task: Task, lora_rank: int, client_rank: int, round_: int) -> WholeAmounts:
    """Return what a client of a rank computes and sends in a round; the model is of ``lora_rank``."""
    task = task.in_round(round_)
    shape, num_blocks = task.shape, task.shape.num_layers
    flop = whole_flop(
        shape,
        task.trainable.of_rank(client_rank),
        task.training.batch_size,
        task.data.sequence_length,
        task.aggregator.trained(round_),
        recomputes=task.training.gradient_checkpointing,
    )
    return WholeAmounts(
        flop.forward,
        flop.backward,
        upload_bits(task, num_blocks, client_rank, round_),
        download_bits(task, num_blocks, lora_rank, client_rank, round_),
        **coding_flop(task, num_blocks, client_rank, round_),
    )


def upload_bits(task: Task, num_blocks: int, client_rank: int, round_: int) -> int:
    """Return the most bits a client of a rank that adapts the first blocks sends after a round."""
    layout = upload_layout(task, num_blocks, client_rank, round_)
    return task.codecs.adapter.max_bits(layout) if layout.shapes else 0


def coding_flop(task: Task, num_blocks: int, client_rank: int, round_: int) -> dict[str, Any]:
    """Return the FLOP of a client to encode, of the server to decode, and of a client to rebuild an average.

    With it, whether the server decodes the sum of all uploads once.
    """
    layout, adapter = upload_layout(task, num_blocks, client_rank, round_), task.codecs.adapter
    if not layout.shapes:
        return {}
    return {
        "encode_flop": adapter.encode_flop(layout),
        "decode_flop": adapter.decode_flop(layout),
        "rebuild_flop": adapter.rebuild_flop(layout, task.num_clients),
        "is_summed": adapter.is_summed,
    }


def aggregate_flop(task: Task, num_blocks: int, lora_rank: int, num_senders: int) -> int:
    """Return the FLOP of the server to average what so many clients that adapt the first blocks sent."""
    if not num_senders:
        return 0
    return task.aggregator.flop(task.trainable.matrices(task.shape, num_blocks), lora_rank, num_senders)


def hand_over_amounts(task: Task, number: int, lora_rank: int) -> tuple[int, int]:
    """Return the FLOP of the server to begin a stage, and the bits that each client is sent for it.

    Nothing for the first; else the factors it starts from. What the clients merge into the base they work
    out themselves.
    """
    if number == 0:
        return 0, 0
    now, shape = task.by_stage[number], task.shape
    trained = now.trainable.of_rank(lora_rank)
    flop = task.stages[number - 1].handover.flop(trained.matrices(shape, shape.num_layers))
    factors = sum(one.numbers for one in trained.parameters(shape) if one.factor is not None)
    return flop, task.model.bits_per_trained_number * factors


def download_bits(
    task: Task,
    num_blocks: int,
    lora_rank: int,
    client_rank: int,
    round_: int,
    senders: Collection[int] | None = None,
) -> int:
    """Return the bits a client of a rank is sent after a round; without ``senders`` all have sent."""
    task = task.in_round(round_)
    aggregator, adapter = task.aggregator, task.codecs.adapter
    if adapter.is_relayed:
        num_senders = task.num_clients if senders is None else len(senders)
        return adapter.relayed_bits(upload_layout(task, num_blocks, client_rank, round_), num_senders)
    ranks = [
        aggregator.rank(client, lora_rank)
        for client in (range(task.num_clients) if senders is None else senders)
    ]
    matrices = task.trainable.matrices(task.shape, num_blocks)
    numbers = aggregator.download_numbers(matrices, client_rank, ranks, round_)
    held = task.trainable.held(task.shape, num_blocks)
    numbers += sum(one.numbers for one in held if one.factor is None)  # sent and averaged as they are
    own = task.trainable.of_rank(client_rank).held(task.shape, num_blocks) if task.private else ()
    numbers -= sum(one.numbers for one in own if one.name in task.private)
    if task.rule.has_variates:
        numbers += sum(one.numbers for one in held if one.name not in task.private)  # the common variate
    return task.model.bits_per_trained_number * numbers


def _ranks_and_rounds(task: Task, lora_rank: int) -> list[tuple[int, int]]:
    """Return every rank a client has, with every kind of round."""
    aggregator = task.aggregator
    ranks = sorted({aggregator.rank(client, lora_rank) for client in range(task.num_clients)})
    return [(rank, round_) for rank in ranks for round_ in task.kinds]


class Amounts:
    """What each client of a training computes and sends in each round.

    Parameters
    ----------
    task
        What is learned.
    lora_rank, cuts
        Rank of the model, and the blocks each client keeps, as decided.
    """

    def __init__(self, task: Task, lora_rank: int, cuts: Sequence[int]) -> None:
        self._task, self._lora_rank, self._cuts = task, lora_rank, cuts
        self._split_of = cache(partial(split_amounts_of, task))
        self._whole_of = cache(partial(whole_amounts_of, task, lora_rank))
        self._split_in = lru_cache(maxsize=2)(self._split_amounts_in)

    def split(self, client: int, round_: int) -> SplitAmounts:
        """Return what a client computes and sends in a round behind its cut."""
        return self._split_in(round_)[client]

    def whole(self, client: int, round_: int) -> WholeAmounts:
        """Return what a client that holds the uncut model computes and sends in a round."""
        return self._whole_of(self._rank(client), self._task.kind(round_))

    @cached_property
    def most_whole(self) -> WholeAmounts:
        """The most that any client computes and sends that holds the uncut model."""
        return whole_amounts(self._task, self._lora_rank)

    def download_bits(
        self, num_blocks: Mapping[int, int], round_: int, senders: Collection[int]
    ) -> dict[int, int]:
        """Return the bits that clients are sent after a round in which these sent.

        ``num_blocks`` has how many blocks each of them adapts.
        """

        @cache
        def of(count: int, rank: int) -> int:
            return download_bits(self._task, count, self._lora_rank, rank, round_, senders)

        return {client: of(count, self._rank(client)) for client, count in num_blocks.items()}

    def aggregate_flop(self, num_blocks: int, num_senders: int) -> int:
        """Return the FLOP of the server to average what so many clients sent."""
        return aggregate_flop(self._task, num_blocks, self._lora_rank, num_senders)

    def _split_amounts_in(self, round_: int) -> list[SplitAmounts]:
        kind = self._task.kind(round_)
        return [
            self._split_of(cut, self._lora_rank, self._rank(client), kind)
            for client, cut in enumerate(self._cuts)
        ]

    def _rank(self, client: int) -> int:
        return self._task.aggregator.rank(client, self._lora_rank)
