"""Clients each with a domain of its own: what one learns alone, beside what they learn together."""

from pathlib import Path
from typing import Any

import numpy as np

from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.graph.store import Store
from cosim.learning.data.embedded import Embedded
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.units import Floats

CHANGES: dict[str, Any] = {
    "data.source": {
        "kind": "embedded",
        "domains": ["hotel", "laptop", "film", "recipe", "train", "weather", "job", "museum"],
        "direction": "parse",
        "num_train": 200,
        "num_test": 12,
    },
    "data.partition": {"kind": "group", "by": "domain", "one_group_per_client": True},
    "training.evaluate_clients": True,
    "clients.count": 8,
}
"""What makes domain clients of a scenario: eight; the base has read other texts of seven domains."""


def client_losses(training: Training) -> Floats:
    """Return the last held-out loss of each client on its own domain, by client."""
    rows = training.metrics["client_eval_loss"]
    last = max(round_ for round_, *_ in rows)
    of = {actor: value for round_, actor, value in rows if round_ == last}
    return np.array([of[actor] for actor in sorted(of, key=lambda name: int(name.rsplit("-", 1)[1]))])


def alone(scenario: Scenario, seed: int, folder: Path, store: Store | None) -> Floats:
    """Return the last held-out loss on each client's domain where every client trains by itself, by client.

    Parameters
    ----------
    scenario
        Has domain clients; all else but the data and the number of clients is kept.
    """
    source = scenario.data.source
    assert isinstance(source, Embedded)
    losses = []
    for domain in sorted(source.domains):  # as the clients are numbered
        only = change(scenario, {"data.source.domains": (domain,), "clients.count": 1})
        losses.append(train(only, Method(f"alone {domain}", {}), seed, folder, store).losses[-1])
    return np.array(losses)


def tell_spread(scenario: Scenario, seed: int, folder: Path, store: Store | None) -> None:
    """Print the spread of clients that train alone and together: how different they are."""
    together = client_losses(train(scenario, Method("together", {}), seed, folder, store))
    for name, losses in (("alone", alone(scenario, seed, folder, store)), ("together", together)):
        print(
            f"clients {name}: mean {losses.mean():.3f}, std {losses.std():.3f}, "
            f"worst {losses.max():.3f}, best {losses.min():.3f}"
        )
