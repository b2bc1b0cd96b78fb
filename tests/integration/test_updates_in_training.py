"""Steps on updates in a training: over the air, on the clock, and where they cannot be."""

import pytest

from cosim.cli.overview import overview
from cosim.errors import ScenarioError
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.scenario.load import change

CLIP, NOISE = {"kind": "clip", "max_norm": 0.01}, {"kind": "noise", "std": 1e-3}
PROJECT, RESIDUAL = {"kind": "project", "num_directions": 300, "unbiased": False}, {"kind": "residual"}
FEDERATED = {"kind": "federated", "num_rounds": 2, "local_steps": 2}
STILL = {"radio.shadowing": {"kind": "none"}, "radio.fading": {"kind": "none"}}
NEAR = {"kind": "given", "positions_m": [[60.0, 0.0], [0.0, 60.0], [-60.0, 0.0]]}
AIR = {
    **STILL,
    "radio.placement": NEAR,
    "radio.noise_psd_dbm_per_hz": -400.0,
    "radio.medium": {"kind": "over_the_air", "max_rms": 1.0, "truncation_db": -400.0},
}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    def record(changes, **options):
        folder = tmp_path_factory.mktemp("runs") / "run"
        return Record.open(run(tiny_scenario(changes), folder, **options))

    return record


def metric(record, name):
    return [one["value"] for one in record.metrics.to_pylist() if one["name"] == name]


@pytest.mark.parametrize(
    "steps",
    [[CLIP, NOISE], [RESIDUAL, PROJECT], [CLIP, {"kind": "sparsify", "choice": "random"}]],
    ids=["noise", "project", "sparsify"],
)
def test_over_the_air_without_noise_is_the_digital_average(steps, played):
    scheme = {"scheme": {**FEDERATED, "update": steps}}
    digital, summed = played({**STILL, **scheme}), played({**AIR, **scheme})
    assert metric(summed, "num_delivered") == [3.0] * 2
    assert metric(summed, "eval_loss") == pytest.approx(metric(digital, "eval_loss"), rel=2e-6)
    assert metric(digital, "eval_loss") != metric(played({"scheme": FEDERATED, **STILL}), "eval_loss")


@pytest.mark.parametrize("kind", ["federated", "split_federated"])
def test_coding_takes_the_time_the_closed_form_says(kind, played):
    update = [CLIP, RESIDUAL, PROJECT, {"kind": "quantise"}]
    record = played(
        {**STILL, "scheme": {**FEDERATED, "kind": kind, "update": update}, "allocator.kind": "equal"},
        timing_only=True,
    )
    (predicted,) = set(metric(record, "predicted_round_s"))
    ends = max(one["end_ns"] for one in record.spans.to_pylist())
    assert ends == round(2 * predicted * 1e9)
    flop = {one["name"]: one["flop"] for one in record.spans.to_pylist()}
    assert flop["aggregate"] > 0 < flop["encode_update"]


def test_an_asynchronous_upload_is_encoded_before_it_is_sent_and_decoded_before_it_is_merged(played):
    scheme = {**FEDERATED, "kind": "asynchronous", "num_rounds": 4, "update": [CLIP, PROJECT]}
    spans = played({"scheme": scheme}, timing_only=True).spans.to_pylist()
    for name, cause in (("adapter_upload", "encode_update"), ("decode_update", "adapter_upload")):
        found = [one for one in spans if one["name"] == name]
        assert len(found) == 4
        for one in found:
            assert cause in [spans[parent]["name"] for parent in one["parents"]]


def test_the_overview_tells_the_steps_and_what_travels(tiny_scenario):
    scenario = tiny_scenario({"scheme": {**FEDERATED, "update": [RESIDUAL, {"kind": "sparsify"}]}})
    line = "  codec      adapter_codec residual, sparsify, none: 3.19 kbit instead of 24.6 kbit"
    assert line in overview(scenario)


def test_the_overview_tells_what_is_released(tiny_scenario):
    for steps, words in (([CLIP, NOISE], "2-norm 0.01 at most"), ([NOISE], "no bounded norm")):
        lines = list(overview(tiny_scenario({"scheme": {**FEDERATED, "update": steps}})))
        assert f"  released   updates of {words}, with noise of 0.001 on each number" in lines


def test_what_is_held_back_needs_memory(tiny_scenario):
    plain, holding = (
        prepare(tiny_scenario({"scheme": {**FEDERATED, "update": update}})) for update in ([], [RESIDUAL])
    )
    before, after = (one.scenario.scheme.memory_bytes(one.task, 3, 4) for one in (plain, holding))
    (layout,) = {one.dense_bits for _, one in _payloads(holding)}
    assert after["client"] - before["client"] == layout // 8


def _payloads(prepared):
    from cosim.learning.payload import payloads

    return [payloads(prepared.task, prepared.num_blocks)["adapter_codec"]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {**AIR, "scheme.update": [CLIP, {"kind": "sparsify"}]},
            ("scheme.update.1: 'sparsify'", "'project'"),
        ),
        ({**AIR, "scheme.adapter_codec": {"kind": "float16"}}, ("scheme.adapter_codec: 'float16'",)),
        (
            {"scheme.update": [RESIDUAL], "scheme.aggregator.kind": "flora"},
            ("scheme.update: 'residual' holds back", "leave it out"),
        ),
        (
            {
                "scheme.update": [CLIP],
                "scheme.adapter_codec": {"kind": "soft", "error_feedback": False},
                "allocator": {"kind": "tsfa", "latency_limit_s": 1.0},
            },
            ("scheme.update changes what is left out",),
        ),
    ],
)
def test_what_scheme_medium_and_steps_cannot_do_together_is_refused(changes, words, tiny_scenario):
    (fault,) = check(tiny_scenario({"scheme": FEDERATED, **changes}))
    assert all(word in fault for word in words), fault


def test_a_step_that_is_misspelt_or_out_of_place_is_named(tiny_scenario):
    for update, words in (
        ([CLIP, {"kind": "noize"}], "scheme.update.1: no kind 'noize'.*did you mean 'noise'"),
        (
            [{"kind": "clip", "max_nrm": 1.0}],
            "scheme.update.0.max_nrm: no such setting; did you mean 'max_norm'",
        ),
        ([{"kind": "clip", "max_norm": -1.0}], "scheme.update.0.max_norm: .*greater than 0"),
        ([RESIDUAL, NOISE], "scheme: update: 'noise' behind 'residual'"),
    ):
        with pytest.raises(ScenarioError, match=words):
            tiny_scenario({"scheme": {**FEDERATED, "update": update}})


def test_a_step_is_changed_by_its_place(tiny_scenario):
    given = {"scheme": {**FEDERATED, "update": [CLIP, NOISE]}, "scheme.update.1.std": 0.5}
    update = tiny_scenario(given).scheme.update
    assert [one.kind for one in update] == ["clip", "noise"]
    assert update[1].std == 0.5


def test_a_named_task_has_steps_rule_and_server_of_its_own(tiny_scenario, tmp_path):
    own = {
        "update": [RESIDUAL, PROJECT],
        "local_rule": {"kind": "proximal"},
        "server_optimizer": {"kind": "fedavgm"},
    }
    pair = tiny_scenario(
        {"scheme": None, "tasks.a.scheme": {**FEDERATED, **own}, "tasks.b.scheme": FEDERATED}
    )
    pair = change(pair, {"tasks.a.scheme.update.1.num_directions": 100})
    spans = Record.open(run(pair, tmp_path / "run")).frame("spans")
    sent = spans[spans.name == "adapter_upload"].groupby("task").bits.unique()
    assert sent["a"] == [100 * 32]
    assert sent["b"] > 100 * 32
    assert set(spans[spans.name == "encode_update"].task) == {"a"}
    (fault,) = check(
        change(
            pair, {"tasks.a.scheme.server_optimizer.kind": "none", "tasks.a.scheme.aggregator.kind": "flora"}
        )
    )
    assert fault.startswith("tasks.a.scheme.update: 'residual' holds back")
