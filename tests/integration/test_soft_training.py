"""Rank pairs in real training: what is pushed apart, sent and averaged, and what that does to the model."""

import pytest
from safetensors.torch import load_file

from cosim.learning.codec.pairs import pairs_of
from cosim.learning.pair_energy import coherence
from cosim.record.folder import Record
from cosim.run import run

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 3}, "lora.rank": 4}


@pytest.fixture
def trained(tiny_scenario, tmp_path):
    """Run the tiny scenario, federated and in float64, with these changes; return its record."""
    count = 0

    def train(changes):
        nonlocal count
        count += 1
        scenario = tiny_scenario({"model.dtype": "float64", **FEDERATED, **changes})
        return Record.open(run(scenario, tmp_path / f"run-{count}"))

    return train


def adapter_of(record):
    return load_file(record.path / "adapter" / "adapter_model.safetensors")


def coherence_of(record):
    adapter = adapter_of(record)
    return coherence(pairs_of(adapter), adapter)


@pytest.mark.parametrize("form", ["cos", "off"])
def test_pairs_are_pushed_apart(trained, form):
    told = {"training.optimizer": {"kind": "adamw", "learning_rate": 5e-3}, "scheme.local_steps": 8}
    plain = coherence_of(trained(told))
    weight = {"cos": 0.1, "off": 10.0}[form]
    regular = {"kind": "orthogonality", "form": form, "weight": weight}
    assert coherence_of(trained({**told, "scheme.regularizer": regular})) < 0.7 * plain


def test_the_recorded_loss_is_that_of_the_data(trained):
    def first_loss(changes):
        rows = trained(changes).metrics.to_pylist()
        return next(row["value"] for row in rows if row["name"] == "train_loss")

    heavy = {"kind": "orthogonality", "form": "id", "weight": 100.0}
    assert first_loss({"scheme.regularizer": heavy}) == first_loss({})


def figures_of(record, name):
    return {row["round"]: row["value"] for row in record.metrics.to_pylist() if row["name"] == name}


def test_every_round_says_how_coherent_its_average_is(trained):
    record = trained({})
    found = figures_of(record, "coherence")
    assert list(found) == [1, 2]
    assert found[2] == pytest.approx(coherence_of(record))
    assert all(0.0 < value < 1.0 for value in figures_of(record, "covariance_error").values())


@pytest.mark.parametrize("kind", ["ffa", "rolora"])
def test_with_one_factor_frozen_averages_are_exact(trained, kind):
    """Acceptance test 12: FFA-LoRA, and any other that averages one factor at a time."""
    record = trained({"scheme.aggregator": {"kind": kind}})
    assert max(figures_of(record, "covariance_error").values()) < 1e-12


def test_more_local_steps_make_the_covariance_grow(trained):
    def errors(local_steps):
        told = {"scheme.local_steps": local_steps, "scheme.num_rounds": 1}
        return figures_of(trained(told), "covariance_error")[1]

    assert errors(1) < errors(8)


def test_models_of_their_own_have_no_average_to_measure(trained):
    assert not figures_of(trained({"scheme.aggregator": {"kind": "fedsa"}}), "coherence")
