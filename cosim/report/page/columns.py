"""Arrays as a page can hold them: one compressed block, base64, and where each array lies in it."""

import base64
import gzip
from typing import Any

import numpy as np

_KINDS = {"u1": "Uint8Array", "u2": "Uint16Array", "u4": "Uint32Array", "i4": "Int32Array"} | {
    "f4": "Float32Array",
    "f8": "Float64Array",
}
_ALIGNED = 8  # a typed array of a browser begins at a multiple of its item size


class Columns:
    """Arrays by name, to be read in a browser as typed arrays over one buffer."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._places: dict[str, tuple[str, int, int]] = {}

    def add(self, name: str, values: Any, kind: str) -> None:
        """Add an array, stored as ``kind``: ``u1``, ``u2``, ``u4``, ``i4``, ``f4`` or ``f8``.

        Raises
        ------
        ValueError
            If the name is taken, or a value does not fit into ``kind``.
        """
        if name in self._places:
            raise ValueError(f"there is a column {name!r} already")
        values = np.ravel(np.asarray(values))
        stored = values.astype(np.dtype(kind).newbyteorder("<"))
        if kind[0] in "ui" and not np.array_equal(stored, values):
            raise ValueError(f"column {name!r} does not fit into {kind}")
        self._places[name] = (_KINDS[kind], len(self._block), len(stored))
        self._block += stored.tobytes()
        self._block += bytes(-len(self._block) % _ALIGNED)

    def packed(self) -> dict[str, Any]:
        """Return what goes into the page: ``places`` by name and the ``block``, gzip in base64."""
        squeezed = gzip.compress(bytes(self._block), compresslevel=6, mtime=0)
        return {"places": self._places, "block": base64.b64encode(squeezed).decode("ascii")}
