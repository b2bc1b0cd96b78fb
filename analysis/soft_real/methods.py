"""The grid: what is sent, how much of it, who holds which texts, and what is turned to see why."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analysis.domains import CHANGES
from analysis.soft_tsfa.trainings import Method

RATIOS = (0.05, 0.1, 0.25, 0.5)
TURNED_RATIO = 0.1
"""At which the variants are played."""

NUM_CLIENTS = 4
RATE = 2e-3
"""Learning rate; of 2e-3 and 5e-3 the better one for dense uploads."""
COMMON: Mapping[str, Any] = {
    **CHANGES,
    "data.source": {
        **CHANGES["data.source"],
        "domains": CHANGES["data.source"]["domains"][:NUM_CLIENTS],
        "direction": "write",
    },
    "clients.count": NUM_CLIENTS,
    "lora.rank": 16,
    "training.optimizer.learning_rate": RATE,
    "training.batch_size": 2,
    "training.evaluate_clients": False,
    "data.sequence_length": 160,
    "scheme.num_rounds": 12,
    "scheme.local_steps": 2,
    "scheme.evaluate_every": 6,
    "allocator": {"kind": "equal"},
}
"""What all cells have beyond the scenario: rank 16, four domains, one for each client."""

CLIENTS: Mapping[str, Mapping[str, Any]] = {
    "domains": {},
    "IID": {"data.partition": {"kind": "iid"}},
}

COS: Mapping[str, Any] = {"kind": "orthogonality", "form": "cos", "weight": 1e-3}


class Selection(NamedTuple):
    """What clients send: settings of a codec, whether pairs are pushed apart, and how the server averages."""

    codec: Mapping[str, Any]
    is_regularised: bool = False
    aggregator: str = "fedavg"


SELECTIONS: Mapping[str, Selection] = {
    "SOFT": Selection({"kind": "soft"}, is_regularised=True),
    "literal": Selection(
        {"kind": "soft", "importance": "norm", "error_feedback": False}, is_regularised=True
    ),
    "no regulariser": Selection({"kind": "soft"}),
    "random pairs": Selection({"kind": "random_ranks"}),
    "SVD": Selection({"kind": "svd"}, aggregator="product_svd"),
    "top_k": Selection({"kind": "top_k", "ratio_of": "bits"}),
    "energy, no feedback": Selection({"kind": "soft", "error_feedback": False}),
    "random, no feedback": Selection({"kind": "random_ranks", "error_feedback": False}),
    "top_k, no feedback": Selection({"kind": "top_k", "ratio_of": "bits", "error_feedback": False}),
    "dense": Selection({"kind": "soft", "sparsification_ratio": 1.0, "error_feedback": False}),
}
"""At equal bits but ``dense``, which sends all pairs: so their energies are measured, too."""

PAIRED = (("no regulariser", "random pairs"), ("energy, no feedback", "random, no feedback"))
"""Choices by energy and by chance that differ in nothing else, with error feedback and without."""


class Variant(NamedTuple):
    """One thing turned: settings by path, settings of codecs of pairs, and of the regulariser."""

    changes: Mapping[str, Any] = {}
    codec: Mapping[str, Any] = {}
    regularizer: Mapping[str, Any] = {}


VARIANTS: Mapping[str, Variant] = {
    "plain": Variant(),
    "1 step": Variant({"scheme.local_steps": 1}),
    "8 steps": Variant({"scheme.local_steps": 8}),
    "SGD": Variant({"training.optimizer": {"kind": "sgd", "learning_rate": 0.2, "max_grad_norm": 1.0}}),
    "a tenth of the rate": Variant({"training.optimizer.learning_rate": RATE / 10}),
    "rank-wise rates": Variant({"training.optimizer.rank_decay": 1.0}),
    "regularised": Variant(regularizer=COS),
    "a tenth of the weight": Variant(regularizer={"weight": COS["weight"] / 10}),
    "balanced": Variant(regularizer={"weight": 1e-9, "balance": 0.1}),
    "product": Variant(codec={"importance": "product"}),
}

_ENERGY_AND_CHANCE = (*PAIRED[1], "dense")
_TURNED: Mapping[str, tuple[str, ...]] = {
    "1 step": _ENERGY_AND_CHANCE,
    "8 steps": _ENERGY_AND_CHANCE,
    "SGD": _ENERGY_AND_CHANCE,
    "a tenth of the rate": PAIRED[0],
    "rank-wise rates": _ENERGY_AND_CHANCE,
    "regularised": (PAIRED[0][1], *_ENERGY_AND_CHANCE),
    "balanced": _ENERGY_AND_CHANCE,
    "product": ("SOFT", "energy, no feedback"),
}


class Cell(NamedTuple):
    """One training for each seed."""

    selection: str
    ratio: float
    clients: str = "domains"
    variant: str = "plain"

    @property
    def method(self) -> Method:
        """Its name, and what it changes."""
        selection, variant = SELECTIONS[self.selection], VARIANTS[self.variant]
        codec = {"sparsification_ratio": self.ratio, **selection.codec, **variant.codec}
        if codec["kind"] != "top_k":
            codec["measures_spread"] = True
        is_regularised = selection.is_regularised or bool(variant.regularizer)
        changes = {
            "scheme.adapter_codec": codec,
            "scheme.aggregator": {"kind": selection.aggregator},
            "scheme.regularizer": {**COS, **variant.regularizer} if is_regularised else {"kind": "none"},
        }
        name = f"{self.selection}, {self.ratio:g}, {self.clients}, {self.variant}"
        return Method(name, {**CLIENTS[self.clients], **variant.changes, **changes})


def grid(ratios: Sequence[float] = RATIOS, clients: Sequence[str] = tuple(CLIENTS)) -> list[Cell]:
    """Return every selection at every ratio, with domain clients and with clients that are alike.

    Alike, what has no error feedback has one ratio.
    """
    cells = []
    for of in clients:
        for selection in SELECTIONS:
            is_short = of != "domains" and selection.endswith("no feedback")
            taken = (1.0,) if selection == "dense" else (TURNED_RATIO,) if is_short else ratios
            cells += [Cell(selection, ratio, of) for ratio in taken]
    return cells


def turned() -> list[Cell]:
    """Return the variants, with domain clients, at one ratio."""
    return [
        Cell(selection, 1.0 if selection == "dense" else TURNED_RATIO, "domains", variant)
        for variant, selections in _TURNED.items()
        for selection in selections
    ]
