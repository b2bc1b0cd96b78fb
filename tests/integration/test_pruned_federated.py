"""Clients that train a part of the model: what they send, when, how it is averaged, what is private."""

import re
from math import prod
from pathlib import Path

import pytest
from real_language_model import MODEL

from cosim.learning.execution import make_executor
from cosim.learning.federated_state import FederatedState
from cosim.learning.payload import upload_layout
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare

SCHEME = {"kind": "pruned_federated", "num_rounds": 2, "local_steps": 2}
ALL = {"lora.target_modules": ["all-linear"], "model.base.config.n_head": 4, "model.dtype": "float64"}
PERSONAL = {"kind": "personal", "private": ["lora_B"]}
TIMED = {"radio.federated_downlink.modelled": True}
STORIES = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260k"
AIR = {"kind": "over_the_air", "max_rms": 1.0, "truncation_db": -400.0}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    def record(scheme, changes=(), **options):
        scenario = tiny_scenario({"scheme": {**SCHEME, **scheme}, **ALL, **dict(changes)})
        return Record.open(run(scenario, tmp_path_factory.mktemp("runs") / "run", **options))

    return record


def metric(record, name):
    return [row["value"] for row in record.metrics.to_pylist() if row["name"] == name]


def spans(record, name):
    return [row for row in record.spans.to_pylist() if row["name"] == name]


def test_where_nothing_is_left_out_it_learns_what_fedavg_does(played):
    pruned, plain = played({"ratio": 0.0}), played({"kind": "federated"})
    assert metric(pruned, "eval_loss") == pytest.approx(metric(plain, "eval_loss"), rel=1e-12)
    assert metric(pruned, "train_loss") == pytest.approx(metric(plain, "train_loss"), rel=1e-12)
    half = metric(played({"ratio": 0.5}), "eval_loss")
    assert half[0] == metric(plain, "eval_loss")[0]
    assert half[-1] != pytest.approx(metric(plain, "eval_loss")[-1], rel=1e-6)


def test_with_b_private_it_is_fedsa_bit_for_bit(played):
    by_name, by_factor = (
        played({"kind": "federated", "aggregator": one}) for one in (PERSONAL, {"kind": "fedsa"})
    )
    assert metric(by_name, "eval_loss") == metric(by_factor, "eval_loss")
    bits = [[row["bits"] for row in spans(one, "adapter_upload")] for one in (by_name, by_factor)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize("mask", ["common", "by_ratio", "own"])
def test_bits_flop_and_memory_are_those_of_what_remains(mask, played, tiny_scenario):
    record = played({"mask": mask, "ratio": 0.5, "aggregator": PERSONAL}, TIMED, timing_only=True)
    task = prepare(tiny_scenario({"scheme": {"kind": "federated", "aggregator": PERSONAL}, **ALL})).task
    narrow = task.narrowed(((2, 32),) * 3)
    sizes = [
        sum(map(prod, upload_layout(one, 3, 4, 1).shapes.values())) * 64 for one in (narrow, task)
    ]  # A alone: that of c_proj and of mlp.c_proj is half as wide, that of the others as before
    assert sizes == [64 * 3 * 4 * (16 + 8 + 16 + 32), 64 * 3 * 4 * (16 + 16 + 16 + 64)]
    mask_bits = 3 * (4 + 64) if mask == "own" else 0
    assert {row["bits"] for row in spans(record, "adapter_upload")} == {sizes[0] + mask_bits}
    assert {row["bits"] for row in spans(record, "adapter_download")} == {sizes[mask == "own"]}
    scheme = tiny_scenario({"scheme": {**SCHEME, "ratio": 0.5}}).scheme
    assert set(metric(record, "memory_bytes")) == {scheme.client_bytes(task, 4, 0.5)}
    assert scheme.client_bytes(task, 4, 0.5) < scheme.client_bytes(task, 4, 0.0)
    flop = {row["flop"] for row in spans(record, "client_forward_backward")}
    assert flop == {scheme.amounts(task, 4, 0.5).flop}


ADAPTIVE = {
    **TIMED,
    "radio.federated_uplink": {"bandwidth_hz": 2e5, "num_subchannels": 3},
    "radio.federated_downlink": {"bandwidth_hz": 2e6, "num_subchannels": 3, "modelled": True},
    "clients.clock_hz": {"kind": "choice", "values": [1e7, 4e7]},
}


@pytest.mark.parametrize("mask", ["common", "by_ratio"])
@pytest.mark.parametrize("bandwidth", ["optimal", "equal"])
def test_a_limit_is_kept_and_the_clock_agrees_with_the_closed_form(mask, bandwidth, played):
    def limited(limit_s):
        allocator = {"kind": "adaptive_pruning", "latency_limit_s": limit_s, "bandwidth": bandwidth}
        scheme = {"mask": mask, "ratio": 0.0, "max_ratio": 0.75}
        return played(scheme, {**ADAPTIVE, "allocator": allocator}, timing_only=True)

    ample = limited(100.0)
    assert set(metric(ample, "pruning_ratio")) == {0.0}
    limit_s = 0.7 * metric(ample, "predicted_round_s")[0]
    record = limited(limit_s)
    predicted = metric(record, "predicted_round_s")[0]
    assert predicted <= limit_s
    assert record.spans.to_pylist()[-1]["end_ns"] == round(2 * predicted * 1e9)
    found = metric(record, "pruning_ratio")
    assert len(found) == (1 if mask == "common" else 3)
    assert 0.0 < max(found) <= 0.75


def test_gradients_that_choose_units_take_time_and_the_clock_agrees_with_the_closed_form(played):
    allocator = {"kind": "adaptive_pruning"}
    by_gradient, by_size = (
        played({"mask": "own", "importance": one}, {**ADAPTIVE, "allocator": allocator}, **options)
        for one, options in (("gradient", {}), ("magnitude", {"timing_only": True}))
    )
    scored = spans(by_gradient, "score_units")
    assert len(scored) == 2 * 3
    steps = spans(by_gradient, "client_forward_backward")
    assert min(row["flop"] for row in scored) > 1.2 * max(row["flop"] for row in steps)
    assert {row["node"] for row in scored} != {""}
    predicted = metric(by_gradient, "predicted_round_s")[0]
    assert by_gradient.spans.to_pylist()[-1]["end_ns"] == round(2 * predicted * 1e9)
    assert predicted > metric(by_size, "predicted_round_s")[0]
    assert min(metric(by_gradient, "memory_bytes")) > max(metric(by_size, "memory_bytes"))


def test_each_number_is_averaged_over_those_who_trained_it(tiny_scenario):
    """``u + sum p m d / sum p m`` written out, of two clients that keep different units."""
    scheme = {**SCHEME, "aggregator": {"kind": "personal", "private": ["mlp.c_proj"]}}
    task = prepare(tiny_scenario({"scheme": scheme, **ALL, "clients.count": 2})).task
    training = Training(task, 3, 4)
    federation = FederatedState(training, "whole")
    before, kept = federation.adapter, [((3, 48),) * 3, ((1, 16),) * 3]
    sides = []
    for client in range(2):
        begin = federation.narrow(client, kept[client], by_own=True)
        learned = local_round(training, client, begin, range(2))
        federation.widen(client, learned.after)
        sides.append(learned.after)
    uploads = {client: federation.upload(client, 1) for client in range(2)}
    units = [side.units for side in sides]
    wide = [side.adapter for side in federation.states]
    after = federation.average(uploads, 1).ref("adapter")
    executor = make_executor(task, 4)
    read = [before, after, *uploads.values(), *units, *wide]
    u, average, *rest = executor.materialise((), read)
    sent, remaining, wide = rest[:2], rest[2:4], rest[4:]
    assert not any("mlp.c_proj" in name for one in sent for name in one)
    name = "base_model.model.transformer.h.1.mlp.c_fc.lora_B.weight"
    for column in range(64):
        terms = []
        for client in range(2):
            places = remaining[client]["2.columns"].tolist()
            if column in places:
                row = sent[client][name][places.index(column)]
                terms.append((task.weights[client], row - u[name][column]))
        share = sum(weight for weight, _ in terms)
        step = sum(weight * move for weight, move in terms) / share if terms else 0.0
        assert (average[name][column] - u[name][column] - step).abs().max() < 1e-15
    assert {len(one["2.columns"]) for one in remaining} == {48, 16}
    # what is private moved where it was trained, and waits where it was not
    name, left = name.replace("c_fc.lora_B", "c_proj.lora_A"), remaining[1]["2.columns"].tolist()
    private = (wide[1][name] != u[name]).any(dim=0)
    assert average[name].equal(u[name])
    assert not private[[column for column in range(64) if column not in left]].any()


def test_the_air_adds_what_is_of_the_same_places_alone(played, tiny_scenario):
    changes = {**ALL, "radio.medium": AIR}
    (fault,) = check(tiny_scenario({"scheme": {**SCHEME, "mask": "by_ratio"}, **changes}))
    assert "numbers of different places" in fault
    assert "mask = 'common'" in fault
    quiet = {**changes, "radio.noise_psd_dbm_per_hz": -390.0, "scheme.mask": "common"}
    summed = played({"mask": "common", "aggregator": PERSONAL}, quiet)
    apart = played({"mask": "common", "aggregator": PERSONAL})
    assert metric(summed, "eval_loss") == pytest.approx(metric(apart, "eval_loss"), rel=1e-6)
    assert metric(summed, "num_delivered") == [3.0, 3.0]


FAULTS = {
    "everything": ({"aggregator": {"kind": "personal", "private": ["lora_A", "lora_B"]}}, {}, "everything"),
    "nothing": ({"aggregator": {"kind": "personal", "private": ["lora_C"]}}, {}, "part of nothing"),
    "no head": ({"ratio": 0.8}, {}, r"0\.8 leaves none of the 4 heads and 64 columns .* 0\.75 leaves one"),
    "no head ever": ({"max_ratio": 0.9}, {}, r"scheme\.max_ratio: 0\.9 leaves none"),
    "no gradient": ({"importance": "gradient"}, {}, "take mask = 'own'"),
    "no more": ({"ratio": 0.5, "max_ratio": 0.25}, {}, "less than the ratio 0.5"),
    "all private": (
        {"units": ["columns"], "aggregator": {"kind": "personal", "private": ["mlp"]}},
        {},
        "only what is shared is pruned",
    ),
    "factors": ({"aggregator": {"kind": "fedsa"}}, {}, "one of 'fedavg', 'personal'"),
    "error feedback": (
        {"adapter_codec": {"kind": "top_k", "error_feedback": True}},
        {},
        "adapter_codec: 'top_k'",
    ),
    "examples": (
        {},
        {"training.gradients": {"kind": "per_example_clipped", "max_norm": 1.0}},
        "is for whole models",
    ),
    "too short": (
        {},
        {"allocator": {"kind": "adaptive_pruning", "latency_limit_s": 1e-4}},
        r"latency_limit_s: 0\.0001 s cannot be kept .* leaves out 0\.75 .* can be had is 0\.0\d+ s",
    ),
    "nobody prunes": (
        {"kind": "federated"},
        {"allocator": {"kind": "adaptive_pruning"}},
        "take the scheme 'pruned_federated'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_pruned_is_refused_in_one_line(name, tiny_scenario):
    scheme, changes, told = FAULTS[name]
    (fault,) = check(tiny_scenario({"scheme": {**SCHEME, **scheme}, **ALL, **changes}))
    assert re.search(told, fault), fault
    assert "\n" not in fault


@pytest.mark.parametrize("kind", ["adaptive_pruning", "refined"])
def test_a_decision_about_the_senders_of_one_round_is_not_kept_for_others(kind, tiny_scenario):
    scheme = {"kind": "pruned_federated" if kind == "adaptive_pruning" else "federated", "participation": 0.6}
    changes = {"scheme": scheme, "allocator": {"kind": kind}}
    (fault,) = check(tiny_scenario(changes))
    assert "take reallocate = 'every_round'" in fault
    assert check(tiny_scenario({**changes, "allocator.reallocate": "every_round"})) == []


def test_places_in_whole_layers_are_none_in_smaller_ones(tiny_scenario):
    (fault,) = check(tiny_scenario({"scheme": SCHEME, "lora": None, "trainable": {"kind": "sparse"}}))
    assert "no name tells; train" in fault


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("model", [STORIES, MODEL], ids=lambda folder: folder.name)
def test_a_real_model_learns_on_clients_that_keep_half_of_it(model, tiny_scenario, tmp_path):
    if not model.is_dir():
        pytest.skip(f"no real model at {model}")
    scheme = {
        "kind": "pruned_federated",
        "num_rounds": 3,
        "local_steps": 4,
        "ratio": 0.5,
        "aggregator": PERSONAL,
    }
    changes = {
        "model.base": {"kind": "folder", "path": str(model)},
        "lora": {"rank": 8, "target_modules": ["all-linear"]},
        "training": {"batch_size": 4, "optimizer": {"kind": "adamw", "learning_rate": 1e-3}},
        "data.sequence_length": 64,
        "clients.count": 2,
    }
    record = Record.open(run(tiny_scenario({"scheme": scheme, **changes}), tmp_path / "run"))
    losses = metric(record, "eval_loss")
    assert losses[-1] < losses[0] - 0.05
