"""What is compared: SOFT against other selections at equal bits, TSFA against other ways to meet a limit."""

from collections.abc import Sequence
from typing import Any

from analysis.soft_tsfa.trainings import Method

SPARSIFICATION_RATIO = 0.25
"""Share of the dense bits every selection may send; CHO."""

_COS = {"kind": "orthogonality", "form": "cos", "weight": 1e-3}
_EQUAL = {"kind": "equal"}


def _pairs(kind: str, **settings: Any) -> dict[str, Any]:
    return {"kind": kind, "sparsification_ratio": SPARSIFICATION_RATIO, **settings}


def _selection(codec: dict[str, Any], regularizer: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "allocator": _EQUAL,
        "scheme.adapter_codec": codec,
        "scheme.regularizer": regularizer,
        **more,
    }


_NONE = {"kind": "none"}

SELECTIONS = (
    Method("SOFT", _selection(_pairs("soft"), _COS)),
    Method("SOFT literal", _selection(_pairs("soft", importance="norm", error_feedback=False), _COS)),
    Method("SOFT no-orth", _selection(_pairs("soft"), _NONE)),
    Method("SVD top-n", _selection(_pairs("svd"), _NONE, **{"scheme.aggregator": {"kind": "product_svd"}})),
    Method("top-k", _selection(_pairs("top_k", ratio_of="bits", error_feedback=False), _NONE)),
    Method("top-k with memory", _selection(_pairs("top_k", ratio_of="bits"), _NONE)),
    Method("random ranks", _selection(_pairs("random_ranks"), _NONE)),
    Method("dense", _selection(_NONE, _NONE)),
    Method("dense, exact average", _selection(_NONE, _NONE, **{"scheme.aggregator": {"kind": "fedex"}})),
    Method("FFA", _selection(_NONE, _NONE, **{"scheme.aggregator": {"kind": "ffa"}})),
)
"""At equal bits but for ``dense`` and ``FFA``, which send what they send.

``dense`` is the ideal of no limit, ``dense, exact average`` that of no covariance error either.
"""

EQUAL_BITS = tuple(method.name for method in SELECTIONS[:7])

_SOFT = {"scheme.adapter_codec": {"kind": "soft"}, "scheme.regularizer": _COS}


def _online(kind: str, limit_s: float, **settings: Any) -> dict[str, Any]:
    return {"allocator": {"kind": kind, "latency_limit_s": limit_s, **settings}, **_SOFT}


def online(limit_s: float) -> tuple[Method, ...]:
    """Return the ways to meet a long-term latency limit, TSFA first, and the unlimited ones behind."""
    return (
        Method("TSFA", _online("tsfa", limit_s)),
        Method("TSFA alternating", _online("tsfa", limit_s, solver="alternating")),
        Method("TSFA first round", _online("tsfa", limit_s, relative_to="first_round")),
        Method("fixed ratio", _online("fixed_ratio", limit_s)),
        Method("equal bandwidth", _online("equal_bandwidth", limit_s)),
        Method("round deadline", _online("round_deadline", limit_s)),
        Method("dense", SELECTIONS[7].changes),
    )


def ranks(sweep: Sequence[int]) -> tuple[Method, ...]:
    """Return the scenario as it is at each LoRA rank."""
    return tuple(Method(f"rank {rank}", {"lora.rank": rank}) for rank in sweep)
