"""Packets of a Perfetto trace that are alike but for some numbers, written many at a time.

Setting the fields of a message in Python, packet by packet, takes several times as
long as the builder needs to write an empty one. Here a packet is made once by the
protobuf classes with every number at its full width, and the numbers of thousands of
copies are put in by numpy. A number shorter than its place is padded, as Perfetto's
own writer does with lengths it does not know yet; every protobuf reader takes that.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cosim.units import Ints

Slot = Literal["varint", "fixed", "double"]
"""Whole numbers from 0 to 2**63 - 1; the same in eight bytes; floats."""

_VARINT_BYTES = 9
_SHIFTS = np.arange(_VARINT_BYTES, dtype=np.uint64) * np.uint64(7)
_MORE = np.array([0x80] * (_VARINT_BYTES - 1) + [0], dtype=np.uint8)
# Two values of each kind that differ in every byte of their full width.
_PROBES: dict[Slot, tuple[Any, Any]] = {
    "varint": (1 << 62, (1 << 63) - 1),
    "fixed": (int.from_bytes(b"\x01" * 8, "little"), int.from_bytes(b"\x02" * 8, "little")),
    "double": (float(np.frombuffer(b"\x01" * 8)[0]), float(np.frombuffer(b"\x02" * 8)[0])),
}


class Shape:
    """One or more packets with some numbers left open.

    Parameters
    ----------
    slots
        The kind of each open number.
    make
        ``make(values)`` returns the packets with these numbers, serialised. It is
        called to find out where each of them goes.
    """

    def __init__(self, slots: Sequence[Slot], make: Callable[[Sequence[Any]], bytes]) -> None:
        self._slots = tuple(slots)
        low = [_PROBES[slot][0] for slot in slots]
        self._template = np.frombuffer(make(low), dtype=np.uint8)
        self._places = []
        for number, slot in enumerate(slots):
            probed = np.frombuffer(
                make([*low[:number], _PROBES[slot][1], *low[number + 1 :]]), dtype=np.uint8
            )
            changed = np.flatnonzero(probed != self._template)
            self._places.append(slice(int(changed[0]), int(changed[-1]) + 1))

    def fill(self, values: Sequence[NDArray[Any]]) -> list[bytes]:
        """Return one serialised copy for each entry of the arrays in ``values``, one array a slot."""
        rows = np.tile(self._template, (len(values[0]), 1))
        for slot, place, column in zip(self._slots, self._places, values, strict=True):
            rows[:, place] = _varints(column) if slot == "varint" else _eight_bytes(column, slot)
        width, written = rows.shape[1], rows.tobytes()
        return [written[begin : begin + width] for begin in range(0, len(written), width)]


def _varints(column: Ints) -> NDArray[np.uint8]:
    groups = (column.astype(np.uint64)[:, None] >> _SHIFTS) & np.uint64(0x7F)
    return np.asarray(groups.astype(np.uint8) | _MORE)


def _eight_bytes(column: NDArray[Any], slot: Slot) -> NDArray[np.uint8]:
    kind = "<u8" if slot == "fixed" else "<f8"
    return np.ascontiguousarray(column.astype(kind)).view(np.uint8).reshape(-1, 8)
