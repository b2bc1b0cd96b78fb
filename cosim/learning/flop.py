"""Floating-point operations, numbers sent and bytes held by each side of a cut, from the shape alone.

A multiply-add is two FLOP. Only matrix products are counted, as
``torch.utils.flop_counter`` does for eager attention: norms, activations,
softmax, residuals and biases are below two percent, an embedding look-up is
none. The counts are exact, not estimates: the forward pass is played with
booleans in the place of tensors, so that a product whose gradient nobody needs
is not charged for it. For one GPT-2 block on one sample of ``n`` tokens, width
``d``, with rank ``r`` on ``c_attn`` (``sig = 4``), this gives ::

    F_blk = 24 n d^2 + 4 n^2 d      forward
    B_blk = 24 n d^2 + 8 n^2 d      backward: frozen layers pass a gradient on, attention needs both
    dF    = 2 n sig d r             LoRA forward
    dB    = 4 n sig d r             LoRA backward
    corr  = 6 n d^2 + 2 n d r       not done in block 1: nothing flows into the frozen embedding
    F_hd  = B_hd = 2 n d V          language model head, frozen
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cosim.learning.shape import BOTH_FACTORS, Factor, Linear, ModelShape, check_cut


@dataclass(frozen=True)
class SplitFlop:
    """FLOP of one mini-batch on either side of the cut."""

    client_forward: int
    client_backward: int
    server_forward: int
    server_backward: int


@dataclass(frozen=True)
class WholeFlop:
    """FLOP of one mini-batch through the uncut model; an evaluation is ``forward``."""

    forward: int
    backward: int


def split_flop(
    shape: ModelShape,
    targets: tuple[str, ...],
    lora_rank: int,
    cut_layer: int,
    batch_size: int,
    sequence_length: int,
    adapted_blocks: Collection[int] | None = None,
    trained: Collection[Factor] = BOTH_FACTORS,
) -> SplitFlop:
    """Return the FLOP of one split training step of one mini-batch.

    Parameters
    ----------
    shape, targets, lora_rank
        The model; names of the layers adapted in a block; rank of the adapters.
    cut_layer
        Blocks on the client, 1 to ``num_layers - 1``.
    batch_size, sequence_length
        Examples, and tokens of each, padding included.
    adapted_blocks
        Blocks that have adapters, counted from 1; without it, all have.
    trained
        Factors the client trains; the server trains both of its own.

    Raises
    ------
    ValueError
        If ``cut_layer`` leaves one side without a block.

    Source
    ------
    Method card 1 (FedsLLM), section 4, for GPT-2; extended here to grouped keys,
    gated MLPs, classifiers and any choice of layers.

    Examples
    --------
    >>> gpt2_small = ModelShape.read({"model_type": "gpt2"})
    >>> split_flop(gpt2_small, ("c_attn",), 4, cut_layer=6, batch_size=1, sequence_length=512)
    SplitFlop(client_forward=48393879552, client_backward=51486130176,
              server_forward=87917592576, server_backward=92824928256)
    """
    check_cut(shape, cut_layer)
    adapted = frozenset(shape.targets(targets))
    client = _Tape(batch_size, sequence_length, lora_rank, adapted, adapted_blocks, trained)
    client_trains = client.blocks(shape, range(1, cut_layer + 1), has_gradient=False)
    server = _Tape(batch_size, sequence_length, lora_rank, adapted, adapted_blocks)
    # The server differentiates by what it receives, adapted or not, if the client needs that gradient.
    later = range(cut_layer + 1, shape.num_layers + 1)
    server.head(shape, server.blocks(shape, later, has_gradient=client_trains))
    return SplitFlop(client.forward, client.backward, server.forward, server.backward)


def whole_flop(
    shape: ModelShape,
    targets: tuple[str, ...],
    lora_rank: int,
    batch_size: int,
    sequence_length: int,
    adapted_blocks: Collection[int] | None = None,
    trained: Collection[Factor] = BOTH_FACTORS,
) -> WholeFlop:
    """Return the FLOP of one mini-batch through the model as a whole, trained in one place.

    The client's and the server's of any cut add up to it where both factors are trained.
    """
    adapted = frozenset(shape.targets(targets))
    tape = _Tape(batch_size, sequence_length, lora_rank, adapted, adapted_blocks, trained)
    tape.head(shape, tape.blocks(shape, range(1, shape.num_layers + 1), has_gradient=False))
    return WholeFlop(tape.forward, tape.backward)


def activation_numbers(shape: ModelShape, batch_size: int, sequence_length: int) -> int:
    """Return how many numbers cross the cut in one direction; the same at every cut."""
    return batch_size * sequence_length * shape.hidden_size


def adapter_numbers(
    shape: ModelShape,
    targets: tuple[str, ...],
    lora_rank: int,
    first_block: int,
    last_block: int,
    adapted_blocks: Collection[int] | None = None,
    factors: Collection[Factor] = BOTH_FACTORS,
) -> int:
    """Return how many numbers these LoRA factors of these blocks hold, both ends counted, from 1.

    Examples
    --------
    >>> gpt2_small = ModelShape.read({"model_type": "gpt2"})
    >>> adapter_numbers(gpt2_small, ("c_attn",), 4, first_block=1, last_block=1)
    12288
    """
    per_block = sum(
        linear.d_in * ("A" in factors) + linear.d_out * ("B" in factors) for linear in shape.targets(targets)
    )
    blocks = range(first_block, last_block + 1)
    num_blocks = sum(adapted_blocks is None or block in adapted_blocks for block in blocks)
    return lora_rank * per_block * num_blocks


def client_memory_bytes(
    shape: ModelShape,
    targets: tuple[str, ...],
    lora_rank: int,
    cut_layer: int,
    batch_size: int,
    sequence_length: int,
    bytes_per_number: int = 4,
    moments_per_weight: int = 2,
    adapted_blocks: Collection[int] | None = None,
    trained: Collection[Factor] = BOTH_FACTORS,
) -> int:
    """Return an estimate of the memory a client needs for one training step, bytes.

    Counted are the frozen weights it holds (embedding and first blocks), its
    adapters with the gradients of the factors that are trained and the
    optimiser's moments (two for Adam), and what is kept of every block for the
    backward pass: per token the output of each linear layer, the two norms and
    the two sums, and the attention weights of every head; nothing is kept of
    blocks in front of the first adapter, which no gradient reaches. Left out are
    allocator slack and buffers that live only within one layer; measured peaks
    lie within a factor of two.
    """
    own = (shape, targets, lora_rank, 1, cut_layer, adapted_blocks)
    weights = shape.embedding_weights + cut_layer * shape.block_weights + adapter_numbers(*own)
    stepped = adapter_numbers(*own, trained)
    reached = range(_first_adapted(adapted_blocks), cut_layer + 1)
    kept = len(reached) * _kept_numbers(shape, batch_size, sequence_length)
    return bytes_per_number * (weights + (1 + moments_per_weight) * stepped + kept)


def server_memory_bytes(
    shape: ModelShape,
    targets: tuple[str, ...],
    lora_rank: int,
    cut_layer: int,
    batch_size: int,
    sequence_length: int,
    bytes_per_number: int = 4,
    moments_per_weight: int = 2,
    adapted_blocks: Collection[int] | None = None,
) -> int:
    """Return an estimate of the memory the main server needs for one training step, bytes.

    As :func:`client_memory_bytes`, with the later blocks and the head; a tied
    head needs its own copy of the embedding here, unless the cut leaves every
    block on the same side as the embedding. Logits and their softmax are
    kept for the loss. ``batch_size`` is what it works on at once: for one
    update per step on the batches of all clients, their sum.
    """
    trained = adapter_numbers(shape, targets, lora_rank, cut_layer + 1, shape.num_layers, adapted_blocks)
    trained += shape.trained_head_weights
    weights = (shape.num_layers - cut_layer) * shape.block_weights + shape.head_weights
    has_copy = shape.has_tied_head and cut_layer < shape.num_layers
    weights += shape.vocab_size * shape.hidden_size if has_copy else 0
    reached = range(max(_first_adapted(adapted_blocks), cut_layer + 1), shape.num_layers + 1)
    kept = len(reached) * _kept_numbers(shape, batch_size, sequence_length)
    classes = shape.vocab_size if shape.task == "causal_lm" else shape.num_labels
    kept += 2 * batch_size * sequence_length * (classes + shape.hidden_size)
    return bytes_per_number * (weights + (2 + moments_per_weight) * trained + kept)


def _first_adapted(adapted_blocks: Collection[int] | None) -> int:
    return 1 if adapted_blocks is None else min(adapted_blocks)


def _kept_numbers(shape: ModelShape, batch_size: int, sequence_length: int) -> int:
    """Numbers kept for the backward pass of one block."""
    per_token = 4 * shape.hidden_size + sum(linear.d_out for linear in shape.linears)
    attention = shape.num_heads * sequence_length**2
    return batch_size * (sequence_length * per_token + attention)


class _Tape:
    """Plays a pass with, in the place of each tensor, whether a gradient flows into it."""

    def __init__(
        self,
        batch_size: int,
        sequence_length: int,
        lora_rank: int,
        adapted: frozenset[Linear],
        adapted_blocks: Collection[int] | None,
        trained: Collection[Factor] = BOTH_FACTORS,
    ) -> None:
        if batch_size < 1 or sequence_length < 1 or lora_rank < 1:
            raise ValueError(
                "batch_size, sequence_length and lora_rank must be at least 1, "
                f"got {batch_size}, {sequence_length} and {lora_rank}"
            )
        self.forward = 0
        self.backward = 0
        self._batch_size = batch_size
        self._sequence_length = sequence_length
        self._lora_rank = lora_rank
        self._in_adapted_block = adapted
        self._adapted_blocks = adapted_blocks
        self._adapted: frozenset[Linear] = frozenset()
        self._trained = trained

    def blocks(self, shape: ModelShape, numbers: Iterable[int], has_gradient: bool) -> bool:
        """Play these blocks on an input that has a gradient or none; return whether their output has one."""
        for number in numbers:
            is_adapted = self._adapted_blocks is None or number in self._adapted_blocks
            self._adapted = self._in_adapted_block if is_adapted else frozenset()
            has_gradient = self._block(shape, has_gradient)
        return has_gradient

    def _block(self, shape: ModelShape, x: bool) -> bool:
        played = {linear: self._linear(linear, x) for linear in dict.fromkeys(shape.queries_keys_values)}
        queries, keys, values = (played[linear] for linear in shape.queries_keys_values)
        square = 2 * self._batch_size * shape.num_heads * shape.head_dim * self._sequence_length**2
        weights = self._product(square, queries, keys)
        mixed = self._product(square, weights, values)
        x = self._linear(shape.attention_output, mixed) or x
        inner = [self._linear(linear, x) for linear in shape.mlp_inputs]
        return self._linear(shape.mlp_output, any(inner)) or x

    def head(self, shape: ModelShape, x: bool) -> bool:
        """Play what comes behind the blocks; every position is scored, as transformers does."""
        tokens, width = self._batch_size * self._sequence_length, shape.hidden_size
        if shape.task == "causal_lm":
            return self._dense(tokens, width, shape.vocab_size, x)
        if shape.family == "bert":
            pooled = self._dense(self._batch_size, width, width, x)
            return self._dense(self._batch_size, width, shape.num_labels, pooled, is_trained=True)
        if shape.family == "roberta":
            pooled = self._dense(self._batch_size, width, width, x, is_trained=True)
            return self._dense(self._batch_size, width, shape.num_labels, pooled, is_trained=True)
        return self._dense(tokens, width, shape.num_labels, x, is_trained=True)

    def _linear(self, linear: Linear, x: bool) -> bool:
        rows = self._batch_size * self._sequence_length
        out = self._dense(rows, linear.d_in, linear.d_out, x)
        if linear not in self._adapted:
            return out
        low = self._dense(rows, linear.d_in, self._lora_rank, x, is_trained="A" in self._trained)
        return self._dense(rows, self._lora_rank, linear.d_out, low, is_trained="B" in self._trained) or out

    def _dense(self, rows: int, d_in: int, d_out: int, x: bool, is_trained: bool = False) -> bool:
        return self._product(2 * rows * d_in * d_out, x, is_trained)

    def _product(self, flop: int, left: bool, right: bool) -> bool:
        """Charge a matrix product; its backward pass is one more for each factor with a gradient."""
        self.forward += flop
        self.backward += flop * (left + right)
        return left or right
