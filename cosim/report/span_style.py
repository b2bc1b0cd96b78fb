"""How spans look in every picture: a colour all eyes tell apart, and a hatch as a second cue.

The palette is Okabe and Ito's ("Color universal design", 2008). Computing is plain, the uplink
leans one way, the downlink the other, and adapters are crossed or dotted.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SpanStyle:
    """How the spans of one name are drawn.

    Attributes
    ----------
    colour
        On a light ground.
    hatch
        In matplotlib's letters, repeated for density; empty for plain.
    dark
        On a dark ground, where the colour would drown there.
    """

    colour: str
    hatch: str
    dark: str = ""

    @property
    def on_dark(self) -> str:
        """The colour on a dark ground."""
        return self.dark or self.colour


_LOOKS = {
    "client_forward": SpanStyle("#0072B2", "", "#3395D6"),
    "activation_upload": SpanStyle("#E69F00", "////"),
    "server_forward_backward": SpanStyle("#2E2E2E", "", "#B4B4B4"),
    "gradient_download": SpanStyle("#F0E442", "\\\\\\\\"),
    "client_backward": SpanStyle("#56B4E9", ""),
    "adapter_upload": SpanStyle("#D55E00", "xxxx"),
    "client_forward_backward": SpanStyle("#0072B2", "", "#3395D6"),
    "aggregate": SpanStyle("#000000", "", "#FFFFFF"),
    "adapter_download": SpanStyle("#CC79A7", "...."),
    "whole_step": SpanStyle("#2E2E2E", "", "#B4B4B4"),
}
_SPARE_COLOURS = ("#009E73", "#D55E00", "#0072B2", "#CC79A7", "#E69F00")
_SPARE_HATCHES = ("++++", "oooo", "----", "||||", "****")


def _keeps_style(name: str, before: Sequence[str]) -> bool:
    """Return whether a name is drawn as always: it has a style, which none of those before it has."""
    return name in _LOOKS and _LOOKS[name] not in [_LOOKS[one] for one in before if one in _LOOKS]


def span_style(name: str, is_transfer: bool, names: Sequence[str]) -> SpanStyle:
    """Return how spans of a name are drawn; ``names`` are all that one picture shows.

    Examples
    --------
    >>> span_style("client_forward", False, ["client_forward"]).colour
    '#0072B2'
    >>> span_style("sensing", True, ["client_forward", "sensing"])
    SpanStyle(colour='#009E73', hatch='++++', dark='')
    """
    spare = [one for at, one in enumerate(names) if not _keeps_style(one, names[:at])]
    if name not in spare:
        return _LOOKS[name]
    number = spare.index(name)
    hatch = _SPARE_HATCHES[number % len(_SPARE_HATCHES)]
    return SpanStyle(_SPARE_COLOURS[number % len(_SPARE_COLOURS)], hatch if is_transfer else hatch[0])


LINE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""Colours of lines in figures (Okabe and Ito): told apart by all kinds of colour vision."""

OWNER_COLOURS = ("#882255", "#A8E0B8", "#332288", "#B9A6F0", "#808000", "#F4C4A8", "#7B3F00", "#1F5C4A")
"""Colours of the owners of subchannels, none of them near that of a phase; from the ninth client on they
come round again, beside a number."""


def ink_on(colour: str) -> str:
    """Return what text on a colour is written in, ``white`` or ``black``.

    Examples
    --------
    >>> ink_on("#332288"), ink_on("#A8E0B8")
    ('white', 'black')
    """
    return "white" if grey_of(colour) < 128.0 else "black"


def grey_of(colour: str) -> float:
    """Return how light a colour prints without colour, 0 to 255 (ITU-R BT.601 luma)."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue
