"""Whether the channel carries what is sent at rates that were not chosen for it block by block."""

from itertools import pairwise

from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import Medium, capacity


def fails(
    medium: Medium, channel: Channel, link: Link, client: int, grant: Grant, since_ns: int, until_ns: int
) -> bool:
    """Return whether any block of some time, in which the link is open, allows less than is sent."""
    first, last = (channel.block_at(at) for at in (since_ns, until_ns - 1))
    asked = link, client, grant, first, last - first + 1
    fails = capacity(channel, *asked) < medium.rates(channel, *asked)
    duplex, is_uplink = channel.radio.duplex, link.is_uplink
    if duplex.open_ns(since_ns, until_ns, is_uplink=is_uplink) < until_ns - since_ns:
        block_ns = channel.block_ns or 0  # a block without time of its own fails nobody
        edges = [since_ns, *(block * block_ns for block in range(first + 1, last + 1)), until_ns]
        fails &= [duplex.open_ns(*one, is_uplink=is_uplink) > 0 for one in pairwise(edges)]
    return bool(fails.any())


def is_silent(medium: Medium, channel: Channel, link: Link, client: int, grant: Grant, now_ns: int) -> bool:
    """Return whether a client whose turn it is sees that what it sends would be lost at once."""
    if not (medium.is_silent_in_outage and medium.loses(link)):
        return False
    asked = link, client, grant, channel.block_at(now_ns), 1
    return bool(capacity(channel, *asked)[0] < medium.rates(channel, *asked)[0])
