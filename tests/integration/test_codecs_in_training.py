"""Codecs in a training: what is charged is what travels, and the loss shows what is lost."""

import pytest
import torch
from safetensors.torch import load_file

from cosim.cli.overview import overview
from cosim.control.knobs import Setting
from cosim.control.legs import legs_of
from cosim.errors import CosimError, ScenarioError
from cosim.graph.store import Store
from cosim.learning.codec import Layout
from cosim.record.folder import Record
from cosim.runs import resume, run
from cosim.scenario.build import prepare
from cosim.whatifs import whatif

SPLIT = ("activation", "gradient", "adapter")
FEDERATED = {"scheme.kind": "federated", "scheme.num_rounds": 3}
QSGD = {"kind": "qsgd", "levels": 7}
TOP_K = {"kind": "top_k", "sparsification_ratio": 0.25}
MEMORIES = {f"scheme.{payload}_codec": TOP_K for payload in SPLIT}
UNEVEN = {"lora.target_modules": ["c_attn", "c_fc"], "scheme.adapter_codec": {"kind": "soft"}}
CHAIN = [
    {"kind": "clip", "max_norm": 0.05},
    {"kind": "noise", "std": 1e-4},
    {"kind": "residual"},
    {"kind": "project", "num_directions": 200, "unbiased": False},
    {"kind": "quantise", "bits": 6},
]
STEPS = {**FEDERATED, "scheme.update": CHAIN}
RULES = {
    **FEDERATED,
    "scheme.participation": 0.6,
    "scheme.local_rule": {"kind": "scaffold"},
    "scheme.server_optimizer": {"kind": "fedadam"},
    "scheme.update": CHAIN[:3],
    "training.optimizer": {"kind": "sgd", "learning_rate": 0.1},
}
SPANS = {"activation": "activation_upload", "gradient": "gradient_download", "adapter": "adapter_upload"}
FILES = ("spans.parquet", "metrics.parquet", "grants.parquet", "adapter/adapter_model.safetensors")
COUNTED = {"radio.main_downlink.modelled": True, "radio.federated_downlink.modelled": True}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    """Return the record of the tiny scenario with some settings changed; each is run once."""
    known, place = {}, tmp_path_factory.mktemp("codecs")

    def record(changes, **options):
        name = repr((changes, options))
        if name not in known:
            known[name] = Record.open(run(tiny_scenario(changes), place / f"{len(known)}", **options))
        return known[name]

    return record


@pytest.fixture(scope="module")
def stored(tiny_scenario, tmp_path_factory):
    """Return the folder of such a run and the store it was computed into; each is run once."""
    known = {}

    def folder_and_store(changes):
        if (name := repr(changes)) not in known:
            place = tmp_path_factory.mktemp("stored")
            store = place / "store"
            known[name] = run(tiny_scenario(changes), place / "run", store=Store(store)), store
        return known[name]

    return folder_and_store


def spans(record, name):
    return [one for one in record.spans.to_pylist() if one["name"] == name]


def metric(record, name):
    return [one["value"] for one in record.metrics.to_pylist() if one["name"] == name]


def adapter(record):
    return load_file(record.path / "adapter/adapter_model.safetensors")


def assert_same_bytes(left, right):
    for name in FILES:
        assert (left.path / name).read_bytes() == (right.path / name).read_bytes(), name


@pytest.mark.parametrize("payload", SPLIT)
class TestEveryPayload:
    def test_few_levels_change_the_loss_and_half_precision_hardly_does(self, payload, played):
        plain, half = played({}), played({f"scheme.{payload}_codec": {"kind": "float16"}})
        ternary = {"kind": "qsgd", "levels": 1, "bucket_size": None}
        rough = played({f"scheme.{payload}_codec": ternary})
        losses = [metric(record, "eval_loss") for record in (plain, half, rough)]
        assert losses[0][0] == losses[1][0] == losses[2][0]
        assert adapter(half).keys() == adapter(plain).keys()
        assert any(not torch.equal(one, adapter(plain)[name]) for name, one in adapter(half).items())
        assert losses[1][-1] == pytest.approx(losses[0][-1], abs=2e-3)
        assert abs(losses[2][-1] - losses[0][-1]) > 3.0 * abs(losses[1][-1] - losses[0][-1])

    def test_a_transfer_carries_the_bits_of_its_codec(self, payload, played):
        record = played({f"scheme.{payload}_codec": QSGD})
        shape = {"activation": (2, 48, 16), "gradient": (2, 48, 16)}.get(payload)
        layout = Layout({"one": shape} if shape else {"A": (4, 16), "B": (48, 4)})
        numbers, buckets = layout.num_numbers, -(-layout.num_numbers // 512) if shape else 2
        assert {one["bits"] for one in spans(record, SPANS[payload])} == {4 * numbers + 32 * buckets}
        for other, name in SPANS.items():
            if other != payload:
                assert {one["bits"] for one in spans(record, name)} == {
                    one["bits"] for one in spans(played({}), name)
                }

    def test_fewer_bits_take_less_time(self, payload, played):
        short = played({f"scheme.{payload}_codec": QSGD, **COUNTED}, timing_only=True)
        long = played(COUNTED, timing_only=True)
        ratio = spans(short, SPANS[payload])[0]["bits"] / spans(long, SPANS[payload])[0]["bits"]
        lengths = [
            sum(one["end_ns"] - one["start_ns"] for one in spans(record, SPANS[payload]))
            for record in (short, long)
        ]
        assert ratio < 0.2
        assert lengths[0] / lengths[1] == pytest.approx(ratio, rel=0.01)
        assert short.manifest["simulated_s"] < long.manifest["simulated_s"]


def test_averaged_adapters_come_back_as_they_are(played):
    record = played({"scheme.adapter_codec": QSGD})
    assert {one["bits"] for one in spans(record, "adapter_download")} == {32 * 256}


def test_an_allocator_sees_the_bits_of_codecs(tiny_scenario):
    changes = {f"scheme.{payload}_codec": {"kind": "float16"} for payload in SPLIT}
    plain, half = (prepare(tiny_scenario(one)).decisions().state(0, 1) for one in ({}, changes))
    before, after = (
        {leg.name: leg.bits for leg in legs_of(one.phases(Setting(1, 4)))} for one in (plain, half)
    )
    for link in ("main_uplink", "main_downlink", "federated_uplink"):
        assert (2 * after[link]).tolist() == before[link].tolist()
    back = [one["federated_downlink"].tolist() for one in (before, after)]
    assert back[0] == back[1] == before["federated_uplink"].tolist()


def test_what_is_foreseen_is_what_is_measured(played):
    """The closed form is asked with the codecs' bits, each its own."""
    changes = {
        **COUNTED,
        "radio.fading.kind": "none",
        "scheme.activation_codec": QSGD,
        "scheme.gradient_codec": {"kind": "float16"},
        "scheme.adapter_codec": TOP_K,
        "scheme.num_rounds": 1,
    }
    record = played(changes, timing_only=True)
    assert record.manifest["plan"]["predicted_round_s"] == pytest.approx(
        record.manifest["simulated_s"], rel=1e-5
    )


@pytest.mark.parametrize("scheme", ["split_federated", "federated"])
def test_a_ratio_of_one_is_dense_to_the_bit(scheme, played):
    given = {"scheme.kind": scheme}
    codec = {"kind": "top_k", "sparsification_ratio": 1.0, "error_feedback": False}
    sparse, dense = played({**given, "scheme.adapter_codec": codec}), played(given)
    assert metric(sparse, "eval_loss") == metric(dense, "eval_loss")
    assert [one["bits"] for one in spans(sparse, "adapter_upload")] == [
        one["bits"] for one in spans(dense, "adapter_upload")
    ]
    mine, theirs = adapter(sparse), adapter(dense)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_what_is_held_back_is_sent_later(played):
    """With error feedback the averages of the first round agree, and those after it no longer."""
    changes = {**FEDERATED, "scheme.adapter_codec": TOP_K}
    with_it = metric(played(changes), "eval_loss")
    without = metric(
        played({**changes, "scheme.adapter_codec": {**TOP_K, "error_feedback": False}}), "eval_loss"
    )
    assert with_it[:2] == without[:2]
    assert with_it[2] != without[2]


@pytest.mark.parametrize(
    "changes",
    [MEMORIES, {**FEDERATED, **UNEVEN}, UNEVEN, STEPS, RULES],
    ids=["split", "soft", "both", "chain", "rules"],
)
class TestMemories:
    def test_a_store_changes_nothing(self, changes, tiny_scenario, played, stored, tmp_path):
        folder, store = stored(changes)
        recalled = Record.open(run(tiny_scenario(changes), tmp_path / "two", store=Store(store)))
        for record in (Record.open(folder), recalled):
            assert_same_bytes(record, played(changes))
        assert recalled.manifest["works"]["computed"] == 0

    def test_a_run_that_was_stopped_goes_on_with_them(self, changes, tiny_scenario, played, tmp_path):
        class Stopped(Exception):
            pass

        def stop(progress):
            if progress.round == 1:
                raise Stopped

        store = Store(tmp_path / "store")
        with pytest.raises(Stopped):
            run(tiny_scenario(changes), tmp_path / "run", store=store, watch=stop)
        assert_same_bytes(Record.open(resume(tmp_path / "run", store=store)), played(changes))

    def test_another_channel_computes_nothing(self, changes, stored, tmp_path):
        folder, store = stored(changes)
        other = {"radio.main_uplink.bandwidth_hz": 40e6, "radio.federated_uplink.bandwidth_hz": 40e6}
        record = Record.open(whatif(folder, other, out=tmp_path / "other", store=Store(store)))
        before = Record.open(folder).manifest["fingerprints"]
        assert record.manifest["works"]["computed"] == 0
        assert record.manifest["fingerprints"]["learning"] == before["learning"]
        assert record.manifest["fingerprints"]["timeline"] != before["timeline"]

    def test_clients_computed_together_learn_the_same(self, changes, played):
        together = metric(played({**changes, "training.executor": "batched"}), "eval_loss")
        assert together == pytest.approx(metric(played(changes), "eval_loss"), rel=1e-4)


def test_groups_stay_together_around_a_codec(played):
    changes = {**MEMORIES, "training.executor": "batched"}
    assert played(changes).manifest["executor_fallback"] is None


def test_a_client_that_is_not_drawn_keeps_what_it_holds_back(tiny_scenario, tmp_path):
    changes = {
        **FEDERATED,
        "scheme.num_rounds": 4,
        "scheme.participation": 0.3,
        "scheme.adapter_codec": TOP_K,
    }
    scenario = tiny_scenario(changes)
    plan = [scenario.scheme.taking_part(scenario.seed, 3, round_) for round_ in (1, 2, 3, 4)]
    drawn = [one for (one,) in plan]
    assert any(one not in drawn[at + 1 : at + 2] and one in drawn[at + 2 :] for at, one in enumerate(drawn))
    store = Store(tmp_path / "store")
    run(scenario, tmp_path / "run", store=store)
    again = Record.open(run(scenario, tmp_path / "again"))
    assert_same_bytes(Record.open(tmp_path / "run"), again)


AGGREGATED = {
    "fedex": QSGD,
    "flora": {"kind": "soft", "error_feedback": False},
    "product_svd": {"kind": "svd"},
    "ffa": TOP_K,
    "rolora": TOP_K,
    "fedsa": TOP_K,
    "hetlora": {"kind": "soft", "sparsification_ratio": 0.25},
}


@pytest.mark.parametrize("scheme", ["split_federated", "federated"])
@pytest.mark.parametrize(("aggregator", "codec"), AGGREGATED.items(), ids=AGGREGATED)
def test_every_aggregator_averages_what_arrives(scheme, aggregator, codec, played):
    given = {"scheme.kind": scheme, "scheme.aggregator": {"kind": aggregator}, "scheme.local_steps": 1}
    if aggregator == "hetlora":
        given["scheme.aggregator"]["client_ranks"] = [2, 4]
    dense, sparse = played(given), played({**given, "scheme.adapter_codec": codec})
    sent = [
        (one["bits"], two["bits"])
        for one, two in zip(*(spans(one, "adapter_upload") for one in (sparse, dense)), strict=True)
    ]
    assert all(few < many for few, many in sent)
    assert spans(sparse, "adapter_download")[0]["bits"] == spans(dense, "adapter_download")[0]["bits"]
    losses = metric(sparse, "eval_loss")
    assert losses[1:] != metric(dense, "eval_loss")[1:]
    assert losses[-1] == pytest.approx(metric(dense, "eval_loss")[-1], abs=0.1)


def test_what_nobody_sends_is_left_out_of_the_mean(played):
    """Of what a pair's senders send alone the mean is further from the start than with zeros averaged in."""
    given = {**FEDERATED, "scheme.num_rounds": 1}
    codec = {"kind": "soft", "sparsification_ratio": 0.3, "error_feedback": False}
    kept, masked = (
        adapter(played({**given, "scheme.adapter_codec": {**codec, "unsent": unsent}}))
        for unsent in ("update", "masked")
    )
    assert any(not torch.equal(kept[name], masked[name]) for name in kept)
    sizes = [
        sum(float(one.norm()) for name, one in each.items() if ".lora_B." in name) for each in (kept, masked)
    ]
    assert sizes[1] > sizes[0]


class TestBitsThatHangOnValues:
    """SOFT takes pairs of unequal size as they come."""

    @pytest.mark.parametrize("given", [{}, FEDERATED], ids=["split", "federated"])
    def test_what_is_charged_is_what_travels(self, given, played):
        record = played({**given, **UNEVEN, "scheme.adapter_codec.sparsification_ratio": 0.4})
        bound = played(
            {**given, **UNEVEN, "scheme.adapter_codec.sparsification_ratio": 0.4}, timing_only=True
        )
        charged = {one["bits"] for one in spans(record, "adapter_upload")}
        (most,) = {one["bits"] for one in spans(bound, "adapter_upload")}
        assert max(charged) <= most
        assert min(charged) > 0.5 * most

    def test_nothing_is_foreseen_and_a_run_without_values_says_what_it_charges(
        self, tiny_scenario, play, tmp_path, caplog
    ):
        world = play(tiny_scenario({**COUNTED, **UNEVEN}))
        assert world.plan() is None
        assert play(tiny_scenario(COUNTED)).plan() is not None
        changes = {**FEDERATED, **UNEVEN}
        assert (
            Record.open(run(tiny_scenario(changes), tmp_path / "bound", timing_only=True)).manifest["bits"]
            == "at most"
        )
        assert "the most they can be" in caplog.text
        assert (
            Record.open(run(tiny_scenario(), tmp_path / "exact", timing_only=True)).manifest["bits"]
            == "exact"
        )

    def test_nothing_is_computed_twice(self, played):
        """What is found out in the middle of a round is kept."""
        hangs = played({**FEDERATED, **UNEVEN}).manifest["works"]
        level = played({**FEDERATED, "scheme.adapter_codec": {"kind": "soft"}}).manifest["works"]
        assert hangs == level

    def test_what_its_sender_measures_is_recorded(self, played):
        dropped = metric(played({**FEDERATED, **UNEVEN}), "dropped_energy")
        assert len(dropped) == 3 * (3 + 1)  # of each client, and their mean
        assert all(value >= 0.0 for value in dropped)


def test_the_overview_tells_what_travels(tiny_scenario):
    changes = {"scheme.activation_codec": QSGD, **UNEVEN}
    lines = [line for line in overview(tiny_scenario(changes)) if line.startswith("  codec")]
    assert lines == [
        "  codec      activation_codec qsgd: 6.24 kbit instead of 49.2 kbit",
        "  codec      adapter_codec soft: at most 9.22 kbit instead of 18.4 kbit",
    ]


class TestRefused:
    @pytest.mark.parametrize("payload", ["activation", "gradient"])
    def test_a_codec_of_differences_has_none_of_activations(self, payload, tiny_scenario):
        with pytest.raises(ScenarioError, match=rf"scheme\.{payload}_codec: .*'soft'.*take one of .*'qsgd'"):
            tiny_scenario({f"scheme.{payload}_codec": {"kind": "soft"}})

    @pytest.mark.parametrize("ratio", [0.0, 1.5, -0.1])
    def test_a_ratio_lies_above_zero_and_at_most_at_one(self, ratio, tiny_scenario):
        with pytest.raises(ScenarioError, match=r"scheme\.adapter_codec\.sparsification_ratio"):
            tiny_scenario({"scheme.adapter_codec": {"kind": "top_k", "sparsification_ratio": ratio}})

    def test_pairs_of_which_only_one_half_is_averaged(self, tiny_scenario):
        changes = {"scheme.adapter_codec": {"kind": "soft"}, "scheme.aggregator": {"kind": "ffa"}}
        with pytest.raises(ScenarioError, match=r"scheme\.adapter_codec: 'soft' cannot send what .*'ffa'"):
            prepare(tiny_scenario(changes))

    def test_a_mask_for_who_cannot_use_it(self, tiny_scenario):
        codec = {"kind": "soft", "unsent": "masked"}
        changes = {"scheme.adapter_codec": codec, "scheme.aggregator": {"kind": "fedex"}}
        with pytest.raises(ScenarioError, match=r"'fedex' cannot leave that out .* 'update'"):
            prepare(tiny_scenario(changes))

    @pytest.mark.parametrize("scheme", ["split_federated", "federated"])
    def test_a_ratio_that_leaves_nothing_to_send(self, scheme, tiny_scenario):
        codec = {"kind": "top_k", "sparsification_ratio": 1e-3}
        scenario = tiny_scenario({"scheme.kind": scheme, "scheme.adapter_codec": codec})
        with pytest.raises(CosimError, match=r"scheme\.adapter_codec: .*'top_k' sends nothing"):
            prepare(scenario)
