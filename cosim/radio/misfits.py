"""Parts of a channel that do not go together."""

from collections.abc import Iterator

from cosim.radio.channel_settings import LINKS, ChannelSettings


def misfits(radio: ChannelSettings) -> Iterator[str]:
    """Return what does not go together, each in one line."""
    yield from _carriers(radio)
    if radio.trace is not None:
        for name in radio.trace.takes_place_of:
            if getattr(radio, name) != type(radio).model_fields[name].default:
                yield (
                    f"radio.{name}: it is given, and radio.trace {radio.trace.kind!r} takes its place; leave "
                    "one of them out."
                )
    loss, shadowing, place = radio.path_loss, radio.shadowing, radio.placement
    if radio.fading.follows_mobility and radio.mobility.block_ns is None:
        yield (
            f"radio.fading: {radio.fading.kind!r} follows the clients, and radio.mobility "
            f"{radio.mobility.kind!r} moves none; choose another mobility, or give doppler_hz."
        )
    if radio.interference.users_of_each and place.num_places is not None:
        yield (
            f"radio.interference: {radio.interference.kind!r} places users of other cells as clients are "
            f"placed, and radio.placement {place.kind!r} is a list; choose a placement that draws."
        )
    if radio.surface.elements and not all(radio.csi_of(name).is_perfect for name in LINKS):
        yield (
            f"radio.csi: gains are known through the surface {radio.surface.kind!r}, which says what its "
            "estimation takes itself; set csi = 'perfect', or surface = 'none'."
        )
    if radio.trace is not None and radio.interference.reuses:
        yield (
            f"radio.trace: {radio.trace.kind!r} replays the path to one base station, and radio.interference "
            f"{radio.interference.kind!r} needs those to all; set interference = 'none'."
        )
    if radio.trace is not None and not radio.csi.is_perfect and radio.trace.gives == "rates":
        yield (
            f"radio.csi: {radio.trace.kind!r} replays rates, and gains are what is measured; set csi = "
            "'perfect', or take a trace of gains."
        )
    if radio.interference.reuses and radio.mobility.block_ns is not None:
        yield (
            f"radio.interference: {radio.interference.kind!r} lets cells reuse the band, and a client that "
            "moves would change cells; set radio.mobility.kind = 'static'."
        )
    if shadowing.needs_states and not loss.has_states:
        yield (
            f"radio.shadowing: {shadowing.kind!r} depends on the line of sight, which radio.path_loss "
            f"{loss.kind!r} does not know; choose a path loss that does, or another shadowing."
        )


def _carriers(radio: ChannelSettings) -> Iterator[str]:
    loss, common_hz = radio.path_loss, radio.carrier_frequency_hz
    for name in ("path_loss", "fading", "surface", "interference"):
        own_hz = getattr(getattr(radio, name), "carrier_hz", None)
        if own_hz is not None and common_hz is not None and own_hz != common_hz:
            yield (
                f"radio.{name}.carrier_hz {own_hz:g} is not radio.carrier_frequency_hz {common_hz:g}; leave "
                "the former out, the carrier is the same everywhere."
            )
    if loss.carrier_range_hz is not None:
        low_hz, high_hz = loss.carrier_range_hz
        if not low_hz <= radio.carrier_hz <= high_hz:
            yield (
                f"radio.path_loss: {loss.kind!r} holds from {low_hz / 1e9:g} to {high_hz / 1e9:g} GHz "
                f"({loss.source}), and radio.carrier_frequency_hz is {radio.carrier_hz / 1e9:g} GHz; choose "
                "one within the range."
            )
