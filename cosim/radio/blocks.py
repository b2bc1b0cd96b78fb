"""Blocks: how long nothing of a channel changes."""

from cosim.errors import ScenarioError
from cosim.radio.channel_settings import ChannelSettings
from cosim.units import NS_PER_S


def shortest_block_ns(radio: ChannelSettings) -> int | None:
    """Return how long nothing of the channel changes, ns; None where nothing ever does.

    Raises
    ------
    ScenarioError
        If what changes more slowly does so within the block of what changes faster, or slots do.
    """
    parts = {
        name: getattr(radio, name) for name in ("fading", "mobility", "interference", "surface", "trace")
    }
    blocks: dict[str, int] = {
        name: part.block_ns for name, part in parts.items() if part is not None and part.block_ns is not None
    }
    if not blocks:
        return None
    fastest = min(blocks, key=blocks.__getitem__)
    for name, block_ns in blocks.items():
        if block_ns % blocks[fastest]:
            raise ScenarioError(
                f"radio.{name}: {parts[name].kind!r} changes every {block_ns / NS_PER_S:g} s and the "
                f"{fastest} every {blocks[fastest] / NS_PER_S:g} s; make one a whole multiple of the other."
            )
    slots = radio.duplex.slots(is_uplink=True)
    if slots is not None and blocks[fastest] % slots.frame_ns and slots.slot_ns % blocks[fastest]:
        raise ScenarioError(
            f"radio.duplex: slots last {slots.slot_ns / NS_PER_S:g} s in frames of "
            f"{slots.frame_ns / NS_PER_S:g} s, and the {fastest} changes every "
            f"{blocks[fastest] / NS_PER_S:g} s; make that a whole number of frames, or a slot a whole "
            "multiple of it."
        )
    return blocks[fastest]
