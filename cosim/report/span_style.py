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
    "server_forward_backward": SpanStyle("#4D4D4D", "", "#B4B4B4"),
    "gradient_download": SpanStyle("#F0E442", "\\\\\\\\"),
    "client_backward": SpanStyle("#56B4E9", ""),
    "adapter_upload": SpanStyle("#D55E00", "xxxx"),
    "client_forward_backward": SpanStyle("#0072B2", "", "#3395D6"),
    "aggregate": SpanStyle("#000000", "", "#FFFFFF"),
    "adapter_download": SpanStyle("#CC79A7", "...."),
    "whole_step": SpanStyle("#4D4D4D", "", "#B4B4B4"),
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
    hatch = _SPARE_HATCHES[number % len(_SPARE_HATCHES)] if is_transfer else ""
    return SpanStyle(_SPARE_COLOURS[number % len(_SPARE_COLOURS)], hatch)


OWNER_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""Colours of the owners of subchannels; from the ninth client on they come round again, beside a number."""
