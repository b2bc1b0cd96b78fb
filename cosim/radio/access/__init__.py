"""Access: how those who send at one moment share a link's grants."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from cosim.parts import Part, Plane
from cosim.radio.grant import Grant


class Access(Part):
    """Turns what was granted into what is used, given who sends right now."""

    plane: ClassVar[Plane] = "time"
    changes_in_flight: ClassVar[bool] = False
    """Whether one transfer's beginning or end changes the grants of others."""

    @abstractmethod
    def in_use(self, granted: Mapping[int, Grant], active: Sequence[int]) -> dict[int, Grant]:
        """Return the grant each of ``active`` uses, in their order of arrival.

        A pure function: every subchannel goes to at most one client, and no
        client's total power grows.
        """
