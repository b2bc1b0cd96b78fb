"""What may change during a run: the air, how it is shared, and who shares it out."""

from collections.abc import Sequence
from typing import NamedTuple

from cosim.control.allocators import Allocator
from cosim.radio.access import Access
from cosim.radio.channel import Channel


class Conditions(NamedTuple):
    """The conditions of a run, from an instant on.

    Attributes
    ----------
    channel, access
        The channel, and how senders share grants.
    max_tx_power_w
        Power limit of each client, W.
    allocator
        Decides who gets what.
    """

    channel: Channel
    access: Access
    max_tx_power_w: Sequence[float]
    allocator: Allocator
