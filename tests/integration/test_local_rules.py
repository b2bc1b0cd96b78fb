"""Local rules, weights and server optimisers in a training, against what they must come to."""

import re

import pytest
import torch

from cosim.errors import ScenarioError
from cosim.learning.local_rule.scaffold import Scaffold
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare

FEDERATED = {"kind": "federated", "num_rounds": 3, "local_steps": 2}
SGD = {"training.optimizer": {"kind": "sgd", "learning_rate": 0.5}, "model.dtype": "float64"}
SCAFFOLD = {"local_rule": {"kind": "scaffold"}}
EQUAL_SHARES = {"data.source": {"kind": "embedded", "num_train": 39, "num_test": 8}}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    known = {}

    def record(scheme, changes=(), **options):
        name = repr((scheme, changes, options))
        if name not in known:
            scenario = tiny_scenario({"scheme": {**FEDERATED, **scheme}, **SGD, **dict(changes)})
            known[name] = Record.open(run(scenario, tmp_path_factory.mktemp("runs") / "run", **options))
        return known[name]

    return record


def losses(record):
    return [one["value"] for one in record.metrics.to_pylist() if one["name"] == "eval_loss"]


ONE = {"clients.count": 1}


@pytest.mark.parametrize(
    ("scheme", "changes"),
    [
        ({"local_rule": {"kind": "proximal", "mu": 0.0}}, {}),
        ({"kind": "asynchronous", "local_rule": {"kind": "proximal", "mu": 0.0}}, {}),
        (SCAFFOLD, ONE),
        ({**SCAFFOLD, "num_rounds": 1}, {}),
        ({"server_optimizer": {"kind": "fedavgm", "momentum": 0.0}}, {}),
        ({"server_optimizer": {"kind": "fedavgm", "momentum": 0.0}, "kind": "split_federated"}, {}),
        ({"weights": {"kind": "equal"}}, EQUAL_SHARES),
        ({"aggregator": {"kind": "q_fedavg", "q": 0.0}}, {}),
    ],
    ids=[
        "mu=0",
        "mu=0 async",
        "own is common",
        "zero variates",
        "momentum=0",
        "split",
        "equal shares",
        "q=0",
    ],
)
def test_what_must_change_nothing_changes_no_more_than_rounding(scheme, changes, played):
    plain = {name: scheme[name] for name in ("kind", "num_rounds") if name in scheme}
    with_it, without = losses(played(scheme, changes)), losses(played(plain, changes))
    assert with_it == pytest.approx(without, rel=1e-13)
    assert with_it[-1] != without[0]


@pytest.mark.parametrize(
    "scheme",
    [
        {"local_rule": {"kind": "proximal", "mu": 10.0}},
        SCAFFOLD,
        {"server_optimizer": {"kind": "fedavgm"}},
        {"server_optimizer": {"kind": "fedyogi"}, "aggregator": {"kind": "rolora"}},
        {"weights": {"kind": "equal"}},
        {"aggregator": {"kind": "q_fedavg"}, "adapter_codec": {"kind": "top_k"}},
    ],
)
def test_others_change_what_is_learned(scheme, played):
    plain = {name: one for name, one in scheme.items() if name == "aggregator"}
    assert losses(played(scheme))[-1] != pytest.approx(losses(played(plain))[-1], rel=1e-12)


def test_clients_computed_together_learn_the_same(played):
    scheme = {**SCAFFOLD, "server_optimizer": {"kind": "fedadam"}}
    together = losses(played(scheme, {"training.executor": "batched"}))
    assert together == pytest.approx(losses(played(scheme)), rel=1e-9)


def test_control_variates_go_over_the_air_as_a_second_sum(played):
    still = {"radio.shadowing": {"kind": "none"}, "radio.fading": {"kind": "none"}}
    near = {"kind": "given", "positions_m": [[60.0, 0.0], [0.0, 60.0], [-60.0, 0.0]]}
    medium = {"kind": "over_the_air", "max_rms": 10.0, "truncation_db": -400.0}
    quiet = {"radio.placement": near, "radio.noise_psd_dbm_per_hz": -400.0, "radio.medium": medium}
    assert losses(played(SCAFFOLD, {**still, **quiet})) == pytest.approx(
        losses(played(SCAFFOLD, still)), rel=1e-9
    )


def test_uploads_and_downloads_carry_variates_beside_adapters(played):
    def bits(record, name):
        return {one["bits"] for one in record.spans.to_pylist() if one["name"] == name}

    plain, ruled = played({}, timing_only=True), played(SCAFFOLD, timing_only=True)
    for name in ("adapter_upload", "adapter_download"):
        (before,), (after,) = bits(plain, name), bits(ruled, name)
        assert after == 2 * before


def test_what_a_rule_holds_needs_memory(tiny_scenario):
    def client_bytes(scheme):
        prepared = prepare(tiny_scenario({"scheme": {**FEDERATED, **scheme}, **SGD}))
        return prepared.scenario.scheme.memory_bytes(prepared.task, 3, 4)["client"]

    adapter = 8 * 3 * 4 * (16 + 48)
    assert client_bytes({"local_rule": {"kind": "proximal"}}) - client_bytes({}) == adapter
    assert client_bytes(SCAFFOLD) - client_bytes({}) == 3 * adapter


def test_scaffold_ends_at_the_optimum_where_clients_drift_apart():
    """Two parabolas of unequal curvature: local steps alone end off the minimum of their mean."""
    curvature, centre, rate, rule = (1.0, 8.0), (0.0, 1.0), 0.1, Scaffold()
    best = sum(a * b for a, b in zip(curvature, centre, strict=True)) / sum(curvature)

    def ends(is_corrected):
        x, common, own = torch.zeros(1, dtype=torch.float64), {}, [{}, {}]
        for _ in range(400):
            after, sent = [], []
            for client in range(2):
                y = {"w": x}
                for _ in range(5):
                    gradient = {"w": curvature[client] * (y["w"] - centre[client])}
                    if is_corrected:
                        gradient = rule.corrected(y, gradient, {"w": x}, common, own[client])
                    y = {"w": y["w"] - rate * gradient["w"]}
                if is_corrected:
                    own[client], one = rule.ended({"w": x}, y, 5 * rate, common, own[client])
                    sent.append(one["w"])
                after.append(y["w"])
            x = sum(after) / 2
            common = {"w": sum(sent) / 2} if sent else {}
        return float(x)

    assert ends(True) == pytest.approx(best, abs=1e-12)
    assert abs(ends(False) - best) > 0.05


@pytest.mark.parametrize(
    ("scheme", "changes", "words"),
    [
        (
            SCAFFOLD,
            {"training.optimizer": {"kind": "adamw"}},
            "scheme.local_rule: 'scaffold'.*take 'sgd' without",
        ),
        (SCAFFOLD, {"training.optimizer.momentum": 0.5}, "take 'sgd' without"),
        ({**SCAFFOLD, "aggregator": {"kind": "ffa"}}, {}, "take the aggregator 'fedavg'"),
        ({**SCAFFOLD, "adapter_codec": {"kind": "svd"}}, {}, "take a codec such as 'none'"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(scheme, changes, words, tiny_scenario):
    (fault, *_) = check(tiny_scenario({"scheme": {**FEDERATED, **scheme}, **SGD, **changes}))
    assert re.search(words, fault), fault


def test_settings_that_mean_nothing_together_are_refused(tiny_scenario):
    for scheme, words in (
        ({"kind": "asynchronous", **SCAFFOLD}, "local_rule: 'scaffold' moves a common control variate"),
        (
            {"server_optimizer": {"kind": "fedadam"}, "aggregator": {"kind": "flora"}},
            "server_optimizer: 'fedadam'",
        ),
    ):
        with pytest.raises(ScenarioError, match=words):
            tiny_scenario({"scheme": {**FEDERATED, **scheme}})
