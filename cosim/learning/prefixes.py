"""What the frozen blocks in front of the first adapter made of mini-batches met before."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from torch import Tensor


class Prefixes:
    """Computed again are only those that have not been met for so long that newer ones took their memory.

    A device of the scenario computes its blocks each time and is charged for
    it; this spares the host, and changes no value.

    Parameters
    ----------
    max_bytes
        Most memory of all tensors held.
    """

    def __init__(self, max_bytes: int = 128 << 20) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()
        self.num_bytes = 0

    def get(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of a key, computed if it is not held."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        tensor = compute()
        if tensor.nbytes <= self._max_bytes:
            self._held[key] = tensor
            self.num_bytes += tensor.nbytes
            while self.num_bytes > self._max_bytes:
                self.num_bytes -= self._held.popitem(last=False)[1].nbytes
        return tensor
