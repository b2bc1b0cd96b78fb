"""The tables of a scenario that decide what is learned."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cosim.learning.base import Base, Dtype
from cosim.learning.base.embedded import EmbeddedBase
from cosim.learning.data import DataSource
from cosim.learning.data.draws import Draws
from cosim.learning.data.drift import Drift
from cosim.learning.data.embedded import Embedded
from cosim.learning.data.tokens import LossOn
from cosim.learning.gradients import Gradients
from cosim.learning.gradients.mean import Mean
from cosim.learning.optimizer import Optimizer
from cosim.learning.optimizer.adamw import AdamW
from cosim.learning.partition import Partition
from cosim.learning.partition.iid import Iid
from cosim.learning.shape import ModelTask
from cosim.parts import OfPlane, OneOf, Table

_BITS = {"float32": 32, "float64": 64, "bfloat16": 16}


class Model(Table):
    """The pre-trained model, what it is used for, and where it is cut.

    Attributes
    ----------
    base
        Where its weights come from.
    task
        ``causal_lm`` or ``classification``.
    cut_layer
        Blocks kept on the client, 1 to ``num_layers - 1``; an allocator may choose another.
    dtype
        Number format of weights and activations; that of adapters too, but beside
        ``bfloat16`` what is trained is float32, and travels as that.
    autocast
        Mixed precision: matrix products and attention in this number format, while weights, sums, what is
        trained and what travels stay float32, which ``dtype`` then is.
    device
        Where torch computes; ``auto`` takes a CUDA device if there is one. It
        never decides simulated time.
    """

    base: Annotated[Base, OneOf(Base)] = EmbeddedBase.default()
    task: ModelTask = "causal_lm"
    cut_layer: int = Field(default=1, ge=1)
    dtype: Dtype = "float32"
    autocast: Literal["bfloat16"] | None = None
    device: Literal["auto", "cpu", "cuda"] = "cpu"

    @model_validator(mode="after")
    def _mixes_with_float32(self) -> Self:
        if self.autocast is not None and self.dtype != "float32":
            raise ValueError(
                f"autocast: {self.autocast!r} is for dtype = 'float32', and dtype is {self.dtype!r}; "
                "leave one out"
            )
        return self

    @property
    def bits_per_number(self) -> int:
        """Bits of one number in ``dtype``."""
        return _BITS[self.dtype]

    @property
    def bits_per_trained_number(self) -> int:
        """Bits of one number of an adapter: beside bfloat16 what is trained is float32."""
        return max(_BITS[self.dtype], 32)

    @property
    def torch_device(self) -> str:
        """What ``device`` means on this machine; only ``auto`` asks torch, where it is installed."""
        if self.device != "auto":
            return self.device
        try:
            import torch
        except ModuleNotFoundError:
            return "cpu"
        return "cuda" if torch.cuda.is_available() else "cpu"


class Data(Table):
    """The texts, how they are tokenised, and who holds them.

    Attributes
    ----------
    source
        Where they come from.
    sequence_length
        Tokens of every example, padding included.
    loss_on
        ``target`` counts the loss on the target text only, ``all`` on the prompt too.
    prompt_end
        What is put between prompt and target.
    partition
        How training examples are dealt out to clients.
    drift
        How the examples a client draws from change during a run; without it, they do not.
    """

    source: Annotated[DataSource, OneOf(DataSource)] = Embedded.default()
    sequence_length: int = Field(default=64, ge=2)
    loss_on: LossOn = "target"
    prompt_end: str = "\n"
    partition: Annotated[Partition, OneOf(Partition)] = Iid.default()
    drift: Drift | None = None


class TrainingSettings(Table):
    """How the adapters are trained.

    Attributes
    ----------
    batch_size
        Examples a client draws for one local step.
    draws
        Which examples make a mini-batch: ``epochs`` takes the next ones of the client's share in a
        shuffled order, a new order once all were taken; ``independent`` draws each mini-batch
        from the whole share, without replacement.
    optimizer
        The same on clients and main server, each with a memory of its own.
    gradients
        What becomes of each example's gradient before the mean of a mini-batch is taken.
    evaluation_batch_size
        Held-out examples computed at one time.
    evaluate_clients
        Whether each client's held-out loss is recorded at every evaluation (``client_eval_loss``),
        on its own share of the held-out examples; see :meth:`Partition.split_held_out`. No other
        value changes, nor does the learning fingerprint.
    executor
        ``sequential`` computes one mini-batch after the other, ``batched`` those of
        several clients in one call, which is faster where a mini-batch is too
        small for the device; the two agree up to rounding. ``auto`` takes the one that was
        measured to be faster for a mini-batch of this size, and has the keys of that one.
    max_group
        Most mini-batches ``batched`` has under way at one time; without it, as
        many as the fast memory of the device suits.
    workers
        In how many processes of this machine the clients of a round are computed; ``auto`` takes one a core.
        Each computes with one thread, so that values are the same bytes with any number, one included.
        Without it everything is computed in this process, with the threads torch takes by itself. It is
        for the CPU, is part of no key, and a run has the same folder whatever it says.
    gradient_checkpointing
        Whether devices keep of a block what goes into it alone, and compute the block again on the way
        back: less memory for more FLOP. What is learned is the same.
    on_divergence
        What happens where a loss or an adapter is not finite any more: ``stop`` ends the
        run there, with the status ``diverged``; ``continue`` goes on and records what
        comes. It changes no value and no key.
    """

    batch_size: int = Field(default=8, gt=0, le=65_536)
    draws: Draws = "epochs"
    optimizer: Annotated[Optimizer, OneOf(Optimizer)] = AdamW.default()
    gradients: Annotated[Gradients, OneOf(Gradients)] = Mean.default()
    evaluation_batch_size: int = Field(default=32, gt=0, le=65_536)
    evaluate_clients: Annotated[bool, OfPlane("time")] = False
    executor: Literal["sequential", "batched", "auto"] = "sequential"
    max_group: int | None = Field(default=None, gt=0)
    workers: Annotated[Annotated[int, Field(gt=0, le=256)] | Literal["auto"] | None, OfPlane("time")] = None
    gradient_checkpointing: Annotated[bool, OfPlane("time")] = False
    on_divergence: Annotated[Literal["stop", "continue"], OfPlane("time")] = "stop"

    @model_validator(mode="after")
    def _examples_are_told_apart_one_by_one(self) -> Self:
        if self.executor == "batched" and not self.gradients.is_mean:
            raise ValueError(
                f"gradients: {self.gradients.kind!r} computes examples one by one, and executor = 'batched' "
                "mini-batches of several clients in one call; take executor = 'sequential'"
            )
        if self.executor == "batched" and self.workers is not None:
            raise ValueError(
                f"workers: {self.workers!r} computes clients in processes of their own, and executor = "
                "'batched' several in one call; leave one out"
            )
        return self
