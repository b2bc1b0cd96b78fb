"""What torch counts of FLOP, without the account of each module that its own counter keeps."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_known: dict[Any, Callable[..., int] | None] = {}


class TorchFlop(TorchDispatchMode):
    """Adds up the FLOP of every operation in ``total``, each by torch's own formula.

    ``FlopCounterMode`` gives the same sum and takes several times as long.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so at every operation takes longer than to count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = _formula(func)
        if formula is not None:
            shapes = {name: _shape(one) for name, one in kwargs.items()}
            self.total += formula(*map(_shape, args), **shapes, out_shape=_shape(result))
        return result


def _formula(func: Any) -> Callable[..., int] | None:
    """Return what counts an operation by the shapes of its tensors, None where nothing is counted."""
    if func not in _known:  # a dictionary, as torch.compile warns of functools.cache
        formula = flop_registry.get(func._overloadpacket)
        _known[func] = None if formula is None else formula.__wrapped__
    return _known[func]


def _shape(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_shape, value))
    return value.shape if isinstance(value, Tensor) else value
