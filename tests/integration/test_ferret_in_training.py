"""Ferret in a training: sums, what travels back, the clock, the store, and what is refused."""

import pytest

from cosim.errors import ScenarioError
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check
from tests.integration.test_updates_in_training import AIR, STILL, metric

COUNT = 600
FERRET = {"kind": "ferret", "num_coordinates": COUNT, "scale": "shrunk"}
SCHEME = {
    "kind": "federated",
    "num_rounds": 2,
    "local_steps": 2,
    "server_optimizer": {"kind": "sgd", "learning_rate": 2.0, "decay": "linear", "decay_rounds": 4},
}
FULL = {"trainable.kind": "full", "training.optimizer": {"kind": "sgd", "learning_rate": 0.1}, **STILL}


def with_step(**settings):
    return {**FULL, "scheme": {**SCHEME, "update": [FERRET | settings]}}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    def record(changes, **options):
        return Record.open(run(tiny_scenario(changes), tmp_path_factory.mktemp("runs") / "run", **options))

    return record


def sizes(record, name):
    return {one["bits"] for one in record.spans.to_pylist() if one["name"] == name}


def flop(record, name):
    return {one["flop"] for one in record.spans.to_pylist() if one["name"] == name}


def test_a_sum_of_coordinates_is_the_mean_of_reconstructions_whatever_travels_back(played):
    """Shared directions: handed on as a sum, restored each and sent back whole, or added over the air."""
    relayed, whole = played(with_step()), played(with_step(relayed=False))
    losses = metric(relayed, "eval_loss")
    assert losses == pytest.approx(metric(whole, "eval_loss"), rel=2e-6)
    assert losses == pytest.approx(metric(played({**with_step(), **AIR}), "eval_loss"), rel=2e-6)
    assert losses[1] != losses[0]
    assert sizes(relayed, "adapter_upload") == sizes(whole, "adapter_upload") == {32 * COUNT}
    assert sizes(relayed, "adapter_download") == {32 * COUNT + 32}
    assert min(sizes(whole, "adapter_download")) > 10 * 32 * COUNT
    assert flop(relayed, "rebuild_update") == flop(relayed, "aggregate") == flop(relayed, "encode_update")
    assert {3 * one for one in flop(relayed, "aggregate")} == flop(whole, "aggregate")
    assert not flop(whole, "rebuild_update")


def test_directions_of_ones_own_travel_back_as_those_of_all(played):
    record = played(with_step(seeds="own"), timing_only=True)
    assert sizes(record, "adapter_upload") == {32 * COUNT + 32}
    assert sizes(record, "adapter_download") == {3 * (32 * COUNT + 32)}
    assert {3 * one for one in flop(record, "encode_update")} == flop(record, "rebuild_update")


def test_fixed_directions_are_others_than_fresh_ones_from_the_second_round_on(played):
    fresh, fixed = (metric(played(with_step(seeds=seeds)), "eval_loss") for seeds in ("fresh", "fixed"))
    assert fresh[0] == fixed[0]
    assert fresh[2] != fixed[2]


@pytest.mark.parametrize("seeds", ["fresh", "own"])
def test_a_round_lasts_as_long_as_the_closed_form_says(seeds, played):
    record = played({**with_step(seeds=seeds), "allocator.kind": "equal"}, timing_only=True)
    (predicted,) = set(metric(record, "predicted_round_s"))
    assert max(one["end_ns"] for one in record.spans.to_pylist()) == round(2 * predicted * 1e9)


def test_the_store_keeps_coordinates_and_every_average_is_rebuilt_from_them(tiny_scenario, tmp_path, played):
    """A longer run computes the new round alone, on what it rebuilds; a run again computes nothing."""
    store, changes = Store(tmp_path / "store"), with_step()
    changes["scheme"]["server_optimizer"] = {"kind": "sgd", "learning_rate": 2.0}
    run(tiny_scenario(changes), tmp_path / "first", store=store)
    kept = sum(one.size_bytes for one in store.bundles())
    model_bytes = 4 * 20_000
    exported = (tmp_path / "first" / "model" / "model.safetensors").stat().st_size
    assert kept < 1.3 * exported + 2 * 3 * 4 * COUNT + 20_000 < 2 * model_bytes + exported
    again = Record.open(run(tiny_scenario(changes), tmp_path / "again", store=store))
    assert again.manifest["works"]["computed"] == 0
    longer = {**changes, "scheme": {**changes["scheme"], "num_rounds": 3}}
    recalled = Record.open(run(tiny_scenario(longer), tmp_path / "longer", store=store))
    assert metric(recalled, "eval_loss") == metric(played(longer), "eval_loss")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({**with_step(seeds="own"), **AIR}, ("scheme.update.0: 'ferret' as it is set", "'fluid'")),
        ({**with_step(budget="norm"), **AIR}, ("scheme.update.0: 'ferret' as it is set",)),
        (with_step(num_coordinates=3), ("scheme.update: num_coordinates 3 leaves", "one coordinate")),
        (
            {"scheme": {"kind": "federated", "update": [FERRET], "aggregator": {"kind": "ffa"}}},
            ("scheme.update: clients rebuild", "relayed = false"),
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, words, tiny_scenario):
    (fault,) = check(tiny_scenario(changes))
    assert all(word in fault for word in words), fault
    assert "\n" not in fault


def test_a_server_that_hands_on_nothing_says_so(tiny_scenario):
    with pytest.raises(ScenarioError, match="hands on no coordinates of 'ferret'; set relayed = false"):
        tiny_scenario({"scheme": {"kind": "asynchronous", "update": [FERRET]}})
