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
from typing import NamedTuple

from cosim.learning.shape import BOTH_FACTORS, Factor, Linear, ModelShape, check_cut
from cosim.learning.spectrum_size import MOST_PRODUCTS
from cosim.learning.tape import Tape
from cosim.learning.trainable import Trainable


class SplitFlop(NamedTuple):
    """FLOP of one mini-batch on either side of the cut."""

    client_forward: int
    client_backward: int
    server_forward: int
    server_backward: int


class WholeFlop(NamedTuple):
    """FLOP of one mini-batch through the uncut model; an evaluation is ``forward``."""

    forward: int
    backward: int


def split_flop(
    shape: ModelShape,
    trainable: Trainable,
    cut_layer: int,
    batch_size: int,
    sequence_length: int,
    factors: Collection[Factor] = BOTH_FACTORS,
    *,
    recomputes: bool = False,
) -> SplitFlop:
    """Return the FLOP of one split training step of one mini-batch.

    Parameters
    ----------
    shape, trainable
        The model, and what of it is trained.
    cut_layer
        Blocks on the client, 1 to ``num_layers - 1``.
    batch_size, sequence_length
        Examples, and tokens of each, padding included.
    factors
        Factors the client trains, where there are any; the server trains both of its own.
    recomputes
        Whether what is inside a block is computed again on the way back, from what went into it.

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
    >>> from cosim.learning.trainable.lora import Lora
    >>> split_flop(gpt2_small, Lora(rank=4), cut_layer=6, batch_size=1, sequence_length=512)
    SplitFlop(client_forward=48393879552, client_backward=51486130176,
              server_forward=87917592576, server_backward=92824928256)
    """
    check_cut(shape, cut_layer)
    client = _Pass(shape, trainable, batch_size, sequence_length, factors, recomputes)
    client_trains = client.blocks(range(1, cut_layer + 1), has_gradient=client.front())
    server = _Pass(shape, trainable, batch_size, sequence_length, recomputes=recomputes)
    # The server differentiates by what it receives, trained or not, if the client needs that gradient.
    server.head(server.blocks(range(cut_layer + 1, shape.num_layers + 1), has_gradient=client_trains))
    return SplitFlop(client.forward, client.backward, server.forward, server.backward)


def whole_flop(
    shape: ModelShape,
    trainable: Trainable,
    batch_size: int,
    sequence_length: int,
    factors: Collection[Factor] = BOTH_FACTORS,
    *,
    recomputes: bool = False,
) -> WholeFlop:
    """Return the FLOP of one mini-batch through the model as a whole, trained in one place.

    The client's and the server's of any cut add up to it where both factors are trained.
    """
    one = _Pass(shape, trainable, batch_size, sequence_length, factors, recomputes)
    one.head(one.blocks(range(1, shape.num_layers + 1), has_gradient=one.front()))
    return WholeFlop(one.forward, one.backward)


def score_flop(shape: ModelShape, batch_size: int, sequence_length: int) -> int:
    """Return the FLOP of a forward pass through all blocks, and of the products of all pairs of examples."""
    tokens, weights = batch_size * sequence_length, sum(one.d_in * one.d_out for one in shape.linears)
    attention = 4 * tokens * shape.num_heads * shape.head_dim * sequence_length
    pairs = 2 * batch_size * tokens * shape.hidden_size
    return shape.num_layers * (2 * tokens * weights + attention + pairs)


def hessian_flop(shape: ModelShape, trainable: Trainable, batch_size: int, sequence_length: int) -> int:
    """Return the FLOP of the spectra of a loss's Hessian, of what is trained of all blocks and of each.

    That of one gradient, and twice as much for each product with a vector, which goes back twice. There are
    as many products as numbers, ``MOST_PRODUCTS`` at most.
    """
    sizes = [0] * (shape.num_layers + 2)
    for one in trainable.parameters(shape):
        sizes[one.block] += one.numbers
    blocks = sizes[1 : shape.num_layers + 1]
    products = sum(min(size, MOST_PRODUCTS) for size in (sum(blocks), *blocks))
    gradient = whole_flop(shape, trainable, batch_size, sequence_length)
    return (1 + 2 * products) * (gradient.forward + gradient.backward)


def client_memory_bytes(
    shape: ModelShape,
    trainable: Trainable,
    cut_layer: int,
    batch_size: int,
    sequence_length: int,
    bytes_per_number: int = 4,
    moments_per_weight: int = 2,
    factors: Collection[Factor] = BOTH_FACTORS,
    *,
    recomputes: bool = False,
) -> int:
    """Return an estimate of the memory a client needs for one training step, bytes.

    Counted are the weights it holds (embedding and first blocks), what is trained beside
    them, the gradients and the optimiser's moments (two for Adam) of all that
    is trained, and what is kept of every block for the
    backward pass: per token the output of each linear layer, the two norms and
    the two sums, and the attention weights of every head; nothing is kept of
    blocks in front of the first trained one, which no gradient reaches. Where blocks are
    computed again on the way back, kept are the inputs of all and what is inside one. Left out are
    allocator slack and buffers that live only within one layer; measured peaks
    lie within a factor of two.
    """
    own = [one for one in trainable.parameters(shape) if one.block <= cut_layer]
    weights = shape.embedding_weights + shape.weights_of(1, cut_layer)
    weights += sum(one.numbers for one in own) if trainable.is_added else 0
    stepped = [one for one in own if one.factor is None or one.factor in factors]
    reached = range(max(trainable.first_block(shape), 1), cut_layer + 1)
    kept = _kept_numbers(shape, reached, trainable, batch_size, sequence_length, recomputes)
    kept += trainable.gradient_numbers(shape, stepped)
    return bytes_per_number * (weights + moments_per_weight * sum(one.numbers for one in stepped) + kept)


def server_memory_bytes(
    shape: ModelShape,
    trainable: Trainable,
    cut_layer: int,
    batch_size: int,
    sequence_length: int,
    bytes_per_number: int = 4,
    moments_per_weight: int = 2,
    *,
    recomputes: bool = False,
) -> int:
    """Return an estimate of the memory the main server needs for one training step, bytes.

    As :func:`client_memory_bytes`, with the later blocks and the head; a tied
    head needs its own copy of the embedding here, unless the cut leaves every
    block on the same side as the embedding. Logits and their softmax are
    kept for the loss. ``batch_size`` is what it works on at once: for one
    update per step on the batches of all clients, their sum.
    """
    stepped = [one for one in trainable.parameters(shape) if one.block > cut_layer]
    trained = sum(one.numbers for one in stepped)
    weights = shape.weights_of(cut_layer + 1, shape.num_layers) + shape.head_weights
    weights += trained if trainable.is_added else 0
    has_copy = shape.has_tied_head and cut_layer < shape.num_layers
    weights += shape.vocab_size * shape.hidden_size if has_copy else 0
    reached = range(max(trainable.first_block(shape), cut_layer + 1), shape.num_layers + 1)
    kept = _kept_numbers(shape, reached, trainable, batch_size, sequence_length, recomputes)
    classes = shape.vocab_size if shape.task == "causal_lm" else shape.num_labels
    kept += 2 * batch_size * sequence_length * (classes + shape.hidden_size)
    kept += trainable.gradient_numbers(shape, stepped)
    return bytes_per_number * (weights + moments_per_weight * trained + kept)


def _kept_numbers(
    shape: ModelShape,
    blocks: Collection[int],
    trainable: Trainable,
    batch_size: int,
    sequence_length: int,
    recomputes: bool,
) -> int:
    """Numbers kept for the backward pass of some blocks: all of each, or inputs alone and all of one."""
    prefix = max(trainable.num_prefix_tokens(shape, block) for block in range(1, shape.num_layers + 1))
    seen = sequence_length + prefix
    each = [_kept_of_block(shape.at(one), trainable, batch_size, sequence_length, seen) for one in blocks]
    if not recomputes:
        return sum(each)
    return len(each) * batch_size * sequence_length * shape.hidden_size + max(each, default=0)


def _kept_of_block(
    shape: ModelShape, trainable: Trainable, batch_size: int, sequence_length: int, seen: int
) -> int:
    """Numbers kept for the backward pass of one block, whose attention sees so many tokens."""
    per_token = 4 * shape.hidden_size + sum(linear.d_out for linear in shape.linears)
    per_token += trainable.kept_numbers(shape)
    attention = shape.num_heads * sequence_length * seen
    return batch_size * (sequence_length * per_token + attention)


class _Pass(Tape):
    """Plays a model with, in the place of each tensor, whether a gradient flows into it."""

    def __init__(
        self,
        shape: ModelShape,
        trainable: Trainable,
        batch_size: int,
        sequence_length: int,
        factors: Collection[Factor] = BOTH_FACTORS,
        recomputes: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1 or sequence_length < 1:
            raise ValueError(
                f"batch_size and sequence_length must be at least 1, got {batch_size} and {sequence_length}"
            )
        self._shape, self._trainable, self._factors = shape, trainable, factors
        self._recomputes = recomputes
        self._batch_size, self._sequence_length = batch_size, sequence_length

    def front(self) -> bool:
        """Play what is in front of the blocks; return whether its output has a gradient."""
        shape, is_trained = self._shape, self._trainable.trains("embedding")
        if shape.patches is not None:
            rows = self._batch_size * shape.patches.count
            return self.dense(rows, shape.patches.numbers, shape.hidden_size, False, is_trained)
        return is_trained

    def blocks(self, numbers: Iterable[int], has_gradient: bool) -> bool:
        """Play these blocks on an input that has a gradient or none; return whether their output has one."""
        for number in numbers:
            before = self.forward
            has_gradient = self._block(number, has_gradient)
            if self._recomputes and has_gradient:
                self.backward += self.forward - before
        return has_gradient

    def _block(self, block: int, x: bool) -> bool:
        shape, seen = self._shape.at(block), x
        played = {one: self._linear(block, one, x) for one in dict.fromkeys(shape.queries_keys_values)}
        queries, keys, values = (played[linear] for linear in shape.queries_keys_values)
        prefix = self._trainable.num_prefix_tokens(shape, block)
        scores = self._sequence_length * (self._sequence_length + prefix)
        square = 2 * self._batch_size * shape.num_heads * shape.head_dim * scores
        weights = self.product(square, queries, keys or prefix > 0)
        if shape.relative is not None:
            weights = self._distances(block, shape, queries, keys) or weights
        mixed = self.product(square, weights, values or prefix > 0)
        x = self._linear(block, shape.attention_output, mixed) or x
        seen = seen if shape.names.is_parallel else x
        inner = [self._linear(block, linear, seen) for linear in shape.mlp_inputs]
        return self._linear(block, shape.mlp_output, any(inner)) or x

    def _distances(self, block: int, shape: ModelShape, queries: bool, keys: bool) -> bool:
        """Play products of queries and keys with the vectors of distances, one table for all examples."""
        assert shape.relative is not None
        count, tokens = shape.relative.num_vectors, self._batch_size * self._sequence_length
        has_gradient = self._trainable.trains("embedding")
        key, query = (
            self._linear(block, linear, has_gradient, count)
            for linear in (shape.relative.keys, shape.relative.queries)
        )
        flop = 2 * tokens * shape.num_heads * shape.head_dim * count
        scores = [self.product(flop, queries, key), self.product(flop, keys, query)]
        return any(scores)

    def _linear(self, block: int, linear: Linear, x: bool, rows: int = 0) -> bool:
        """Play a linear layer on ``rows`` vectors; without a number, on those of the mini-batch."""
        rows = rows or self._batch_size * self._sequence_length
        return self._trainable.play_linear(self, self._shape.at(block), block, linear, rows, x, self._factors)

    def head(self, x: bool) -> bool:
        """Play what comes behind the blocks; every position is scored, as transformers does."""
        shape, is_trained = self._shape, self._trainable.trains("head")
        tokens, width = self._batch_size * self._sequence_length, shape.hidden_size
        if shape.task == "causal_lm":
            return self.dense(tokens, width, shape.vocab_size, x, is_trained)
        if shape.names.is_causal:
            return self.dense(tokens, width, shape.num_labels, x, is_trained=True)
        if shape.names.pooler:
            x = self.dense(self._batch_size, width, width, x, is_trained)
        for _ in shape.names.classifier[1:]:
            x = self.dense(self._batch_size, width, width, x, is_trained=True)
        return self.dense(self._batch_size, width, shape.num_labels, x, is_trained=True)
