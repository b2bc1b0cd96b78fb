"""How many mini-batches are computed in one call, and whether that is faster than one after the other."""

from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.shape import ModelShape

_CPU_GROUP_BYTES = 2 << 20
_CUDA_GROUP_BYTES = 256 << 20
_MAX_GROUP = 64
_PAYS_UP_TO = {"cpu": 1 << 16, "cuda": 1 << 23}
"""Numbers of the widest tensor of a mini-batch up to which several in one call are faster.

On the CPU measured by ``bench.batched`` on one thread (GPT-2 of 4 blocks, width 64 to 512, 8 clients,
64 tokens): 0.72 to 0.94 of the time up to here, 0.96 to 1.6 from twice as many on. On a GPU not
measured: a mini-batch of fewer numbers leaves most of it idle.
"""


def group_size(
    model: Model, shape: ModelShape, data: Data, training: TrainingSettings, num_clients: int
) -> int:
    """Return most mini-batches computed in one call.

    Without a setting, so many that the widest tensor of a group stays where
    it is fast to read: in the cache of a CPU core; on a GPU, which only
    gets faster with more, in a modest part of its memory. Of that, what
    fills the fewest groups for all clients evenly, as idle slots cost the same.
    """
    if training.max_group is not None:
        return training.max_group
    limit = _CPU_GROUP_BYTES if model.torch_device == "cpu" else _CUDA_GROUP_BYTES
    num_bytes = _widest(shape, data, training) * model.bits_per_number // 8
    most = min(_MAX_GROUP, max(1, limit // num_bytes))
    num_groups = -(-num_clients // most)
    return -(-num_clients // num_groups)


def pays_together(
    model: Model, shape: ModelShape, data: Data, training: TrainingSettings, num_clients: int
) -> bool:
    """Return whether clients are computed faster in one call than one after the other, and can be."""
    can = shape.names.has_blocks_of_ours and training.gradients.is_mean and training.workers is None
    is_alone = num_clients == 1 or training.max_group == 1
    return can and not is_alone and _widest(shape, data, training) <= _PAYS_UP_TO[model.torch_device]


def _widest(shape: ModelShape, data: Data, training: TrainingSettings) -> int:
    """Return the numbers of the widest tensor of a mini-batch."""
    return training.batch_size * data.sequence_length * max(linear.d_out for linear in shape.linears)
