"""How many bits were sent in a run that was trained, where values decide it."""

from typing import TYPE_CHECKING

from cosim.errors import ScenarioError
from cosim.record.log import SpanLog

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = ("kind", "name", "actor", "peer", "round", "local_step")


def take_bits(spans: SpanLog, learned: "pa.Table", *, is_whole: bool) -> None:
    """Let the spans of a run without values have the sizes of those of a run that was trained.

    Parameters
    ----------
    spans
        Of the run without values.
    learned
        The table of spans of the other.
    is_whole
        Whether it has all of these spans; without, what it does not have keeps its size.

    Raises
    ------
    ScenarioError
        If it has other spans.
    """
    spans.settle()
    known: dict[tuple[object, ...], list[float]] = {}
    places = zip(*(learned[name].to_pylist() for name in _NAMES), strict=True)
    for place, bits in zip(places, learned["bits"].to_pylist(), strict=True):
        known.setdefault(place, []).append(bits)
    for span, place in enumerate(zip(*(getattr(spans, name) for name in _NAMES), strict=True)):
        found = known.get(place)
        if found:
            spans.bits[span] = found.pop(0)
        elif is_whole:
            _refuse()
    if any(known.values()):
        _refuse()


def _refuse() -> None:
    raise ScenarioError(
        'the run that was trained has other spans than one without values; take engine = "events".'
    )
