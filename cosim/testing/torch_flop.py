"""What torch counts of FLOP, without the account of each module that its own counter keeps."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class TorchFlop(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOP of every operation in ``total``, each by torch's own formula.

    ``FlopCounterMode`` gives the same sum and takes several times as long.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result
