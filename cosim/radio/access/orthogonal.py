"""Orthogonal access: what was granted stays with its owner for the phase."""

from collections.abc import Mapping, Sequence
from typing import Literal

from cosim.radio.access import Access
from cosim.radio.grant import Grant


class Orthogonal(Access):
    """Every client keeps its own subchannels, whether or not it has something to send.

    Source
    ------
    FedsLLM, arXiv 2504.14667: subchannels are assigned for the whole phase.
    """

    kind: Literal["orthogonal"] = "orthogonal"

    def in_use(self, granted: Mapping[int, Grant], active: Sequence[int]) -> dict[int, Grant]:
        """Return the grants as they are."""
        return {client: granted[client] for client in active}
