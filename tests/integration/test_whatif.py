"""What would have happened on another channel: the same as a fresh run says, without training again."""

import json
import pickle
from shutil import rmtree

import pytest

import cosim
from cosim.errors import CosimError, RecordError, ScenarioError
from cosim.graph.store import Store, default_store
from cosim.record.folder import Record
from cosim.report.comparison import compare
from cosim.runs import default_folder, run
from cosim.scenario.load import change, load
from cosim.timed_runs import time_whatif
from cosim.whatifs import other_scenario, whatif

TABLES = ("spans.parquet", "metrics.parquet", "grants.parquet")
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
FILES = ("scenario.toml", *TABLES, *ADAPTER)
CHANGES = {
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.002},
    "lora.dropout": 0.1,
    "scheme.num_rounds": 2,
    "clients.clock_hz": {"kind": "uniform", "low": 1e5, "high": 1e6},
}


class Base:
    """A complete run and the store it filled."""

    def __init__(self, scenario, place):
        self.place = place
        self.scenario = scenario
        self.store = Store(place / "store")
        self.record = Record.open(run(scenario, place / "run", store=self.store))
        self._number = 0

    def whatif(self, changes, **options):
        self._number += 1
        folder = whatif(
            self.record.path, changes, out=self.place / f"whatif {self._number}", store=self.store, **options
        )
        return Record.open(folder)

    def fresh(self, scenario):
        """Return a run of a scenario that knows no store."""
        self._number += 1
        return Record.open(run(scenario, self.place / f"fresh {self._number}"))


@pytest.fixture(scope="module")
def base(tiny_scenario, tmp_path_factory):
    return Base(tiny_scenario(CHANGES), tmp_path_factory.mktemp("base"))


def assert_same_bytes(left, right, files=FILES):
    for name in files:
        assert (left.path / name).read_bytes() == (right.path / name).read_bytes(), name


def rows(record, table="spans"):
    return getattr(record, table).to_pylist()


# Another channel


CHANNELS = {
    "bandwidth": {"radio.main_uplink.bandwidth_hz": 40e6},
    "noise": {"radio.noise_figure_db": 12.0},
    "fading": {"radio.fading": {"kind": "jakes", "doppler_hz": 10.0}},
    "no fading": {"radio.fading.kind": "none"},
    "power": {"clients.max_tx_power_dbm": 17.0, "radio.main_uplink.max_total_tx_power_dbm": 25.0},
    "path loss": {"radio.path_loss": {"kind": "free_space", "carrier_hz": 3.5e9}},
    "shadowing": {"radio.shadowing": {"kind": "log_normal", "std_db": 4.0}},
    "allocator": {"allocator.kind": "random"},
    "in turn": {"allocator.kind": "time_shared"},
    "access": {"radio.access.kind": "reassign"},
    "counted downlinks": {"radio.main_downlink.modelled": True, "radio.federated_downlink.modelled": True},
    "devices": {"clients.clock_hz": 3e5, "main_server.clock_hz": 1e6},
    "server batch": {"scheme.server_batch": "per_client"},
}


@pytest.mark.parametrize("changes", CHANNELS.values(), ids=CHANNELS)
def test_another_channel_computes_nothing_and_equals_a_fresh_run_byte_for_byte(base, changes):
    after = base.whatif(changes)
    assert after.manifest["works"]["computed"] == 0
    assert after.manifest["works"]["recalled"] == base.record.manifest["works"]["computed"]
    fresh = base.fresh(change(base.scenario, changes))
    assert_same_bytes(after, fresh)
    assert after.manifest["fingerprints"] == fresh.manifest["fingerprints"]
    assert after.manifest["fingerprints"]["learning"] == base.record.manifest["fingerprints"]["learning"]
    assert after.manifest["fingerprints"]["timeline"] != base.record.manifest["fingerprints"]["timeline"]
    compared = compare(base.record, after)
    assert compared.other_rounds == ()
    assert compared.computed == 0
    assert compared.divergence is not None


def test_another_task_is_computed_and_equals_a_fresh_run(base):
    changes = {"training.optimizer.learning_rate": 2e-3}
    after = base.whatif(changes)
    assert after.manifest["works"]["computed"] > 0
    assert_same_bytes(after, base.fresh(change(base.scenario, changes)))
    assert compare(base.record, after).other_rounds == (1, 2)


def test_a_longer_run_is_computed_from_where_the_shorter_one_ended(base):
    after = base.whatif({"scheme.num_rounds": 3})
    works = after.manifest["works"]
    assert 0 < works["computed"] < works["recalled"]
    assert_same_bytes(after, base.fresh(change(base.scenario, {"scheme.num_rounds": 3})))
    assert compare(base.record, after).other_rounds == (3,)
    with_the_end_in_sight = base.whatif({"scheme.num_rounds": 3, "training.optimizer.schedule": "linear"})
    assert with_the_end_in_sight.manifest["works"]["computed"] > works["recalled"]


def test_a_whatif_on_a_whatif_still_computes_nothing(base, tmp_path):
    first = base.whatif({"radio.noise_figure_db": 12.0})
    second = whatif(first.path, {"allocator.kind": "time_shared"}, out=tmp_path / "second", store=base.store)
    assert Record.open(second).manifest["works"]["computed"] == 0
    both = change(base.scenario, {"radio.noise_figure_db": 12.0, "allocator.kind": "time_shared"})
    assert_same_bytes(Record.open(second), base.fresh(both))


def test_a_whatif_without_its_store_trains_again_to_the_same_bytes(base, tmp_path):
    changes = {"radio.noise_figure_db": 12.0}
    alone = Record.open(whatif(base.record.path, changes, out=tmp_path / "alone"))
    assert alone.manifest["works"]["recalled"] == 0
    assert_same_bytes(alone, base.whatif(changes))


def test_a_whatif_on_timing_alone_stays_one_and_equals_a_full_run(base, tmp_path):
    timed = run(base.scenario, tmp_path / "timed", timing_only=True)
    changes = {"radio.main_uplink.bandwidth_hz": 40e6}
    after = Record.open(whatif(timed, changes, out=tmp_path / "after"))
    assert_same_bytes(after, base.whatif(changes), ("scenario.toml", "spans.parquet", "grants.parquet"))
    assert not (after.path / "adapter").exists()
    assert compare(Record.open(timed), after).other_rounds is None


def test_a_whatif_that_was_played_before_is_not_played_again(base, monkeypatch):
    monkeypatch.chdir(base.place)
    changes = {"radio.noise_figure_db": 4.0}
    folder = whatif(base.record.path, changes, store=base.store)
    assert folder == default_folder(change(base.scenario, changes), timing_only=False)
    before = (folder / "manifest.json").read_bytes()
    assert whatif(base.record.path, changes, store=base.store) == folder
    assert (folder / "manifest.json").read_bytes() == before


# Forks


def fork_at(base):
    """Return an instant in the middle of a transfer of the second round, s."""
    uploads = [row for row in rows(base.record) if row["name"] == "activation_upload" and row["round"] == 2]
    first = min(uploads, key=lambda row: row["start_ns"])
    return (first["start_ns"] + first["end_ns"]) // 2 / 1e9


def before(table, at_s, column="end_ns"):
    return [row for row in table if row[column] < round(at_s * 1e9)]


FORKS = {
    "bandwidth": {"radio.main_uplink.bandwidth_hz": 1e6},
    "noise": {"radio.noise_figure_db": 15.0},
    "fading": {"radio.fading": {"kind": "rician", "k_factor": 3.0, "coherence_time_s": 0.001}},
    "power": {"clients.max_tx_power_dbm": 10.0},
    "in turn": {"allocator.kind": "time_shared"},
    "access": {"radio.access.kind": "reassign", "allocator.kind": "random"},
    "downlink counted": {"radio.main_downlink.modelled": True, "radio.main_downlink.bandwidth_hz": 2e6},
}


@pytest.mark.parametrize("changes", FORKS.values(), ids=FORKS)
def test_a_fork_has_the_same_past_and_the_future_of_a_fresh_run_with_the_event(base, changes):
    at_s = fork_at(base)
    forked = base.whatif(changes, at_s=at_s)
    past = before(rows(base.record), at_s)
    assert len(past) > 30
    assert before(rows(forked), at_s) == past
    assert rows(forked) != rows(base.record)
    assert before(rows(forked, "grants"), at_s, "time_ns") == before(
        rows(base.record, "grants"), at_s, "time_ns"
    )
    assert forked.manifest["works"]["computed"] == 0
    scenario = change(base.scenario, {"events": [{"at_s": at_s, "set": changes}]})
    assert other_scenario(base.record, changes, at_s) == load(forked.scenario_path) == scenario
    assert_same_bytes(forked, base.fresh(scenario))
    divergence = compare(base.record, forked).divergence
    assert divergence is not None
    assert divergence.round >= 2


def test_a_fork_from_the_beginning_of_a_forked_run_keeps_its_event(base, tmp_path):
    first = base.whatif({"radio.noise_figure_db": 15.0}, at_s=fork_at(base))
    later = 1.2 * fork_at(base)
    assert later < first.manifest["simulated_s"]
    second = whatif(
        first.path, {"radio.noise_figure_db": 9.0}, at_s=later, out=tmp_path / "second", store=base.store
    )
    events = [
        {"at_s": fork_at(base), "set": {"radio.noise_figure_db": 15.0}},
        {"at_s": later, "set": {"radio.noise_figure_db": 9.0}},
    ]
    assert_same_bytes(Record.open(second), base.fresh(change(base.scenario, {"events": events})))
    assert before(rows(Record.open(second)), later) == before(rows(first), later)


def test_a_fork_cannot_be_later_than_the_end_nor_at_the_beginning(base):
    end_s = base.record.manifest["simulated_s"]
    for at_s in (end_s, 2 * end_s, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RecordError, match=r"cannot be forked at .* s; it lasts from 0 to "):
            base.whatif({"radio.noise_figure_db": 1.0}, at_s=at_s)


def test_a_run_that_did_not_end_has_no_whatif(base, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(base.scenario, tmp_path / "run", timing_only=True, watch=stop)
    with pytest.raises(RecordError, match="the run is failed; end it first: cosim resume"):
        whatif(tmp_path / "run", {"radio.noise_figure_db": 1.0})


def test_a_run_whose_scenario_was_edited_by_hand_has_no_whatif(base, tmp_path):
    folder = run(base.scenario, tmp_path / "run", timing_only=True)
    path = folder / "scenario.toml"
    path.write_text(path.read_text().replace("seed = 3", "seed = 4", 1))
    with pytest.raises(RecordError, match="is not the one the run began with"):
        whatif(folder, {"radio.noise_figure_db": 1.0})


# Timed changes in the scenario


def timed(tiny_scenario, events, changes=None):
    return tiny_scenario({**CHANGES, **(changes or {}), "events": events})


def test_events_happen_in_the_order_of_time_whatever_their_order_in_the_file(base, tiny_scenario, tmp_path):
    at_s = fork_at(base)
    events = [
        {"at_s": at_s, "set": {"radio.noise_figure_db": 15.0}},
        {"at_s": 1.1 * at_s, "set": {"radio.noise_figure_db": 3.0, "allocator.kind": "time_shared"}},
    ]
    one, other = (
        Record.open(run(timed(tiny_scenario, some), tmp_path / str(number), timing_only=True))
        for number, some in enumerate((events, events[::-1]))
    )
    assert_same_bytes(one, other, ("spans.parquet", "grants.parquet"))
    first_alone = Record.open(run(timed(tiny_scenario, events[:1]), tmp_path / "alone", timing_only=True))
    assert before(rows(one), 1.1 * at_s) == before(rows(first_alone), 1.1 * at_s)
    assert rows(one) != rows(first_alone)


def test_an_event_after_the_end_never_happens(base, tiny_scenario, tmp_path):
    late = timed(tiny_scenario, [{"at_s": 1e6, "set": {"radio.noise_figure_db": 15.0}}])
    record = Record.open(run(late, tmp_path / "run", store=base.store))
    assert_same_bytes(record, base.record, (*TABLES, *ADAPTER))
    assert record.manifest["simulated_s"] == base.record.manifest["simulated_s"]


def test_a_change_back_gives_the_rates_of_before(base, tiny_scenario, tmp_path):
    """A pause in the middle of the night, when nothing is sent, changes nothing."""
    compute = next(row for row in rows(base.record) if row["name"] == "client_forward")
    at_s = compute["start_ns"] / 1e9
    middle = [at_s + share * (compute["end_ns"] / 1e9 - at_s) for share in (0.1, 0.2)]
    events = [
        {"at_s": middle[0], "set": {"radio.noise_figure_db": 30.0}},
        {"at_s": middle[1], "set": {"radio.noise_figure_db": 9.0}},
    ]
    changed = Record.open(run(timed(tiny_scenario, events), tmp_path / "run", timing_only=True))
    assert_same_bytes(changed, base.record, ("spans.parquet",))


def test_a_link_that_is_free_again_carries_at_once_from_then_on(base, tiny_scenario, tmp_path):
    at_s = fork_at(base)
    counted = {"radio.main_downlink.modelled": True, "radio.main_downlink.bandwidth_hz": 2e6}
    scenario = timed(tiny_scenario, [{"at_s": at_s, "set": {"radio.main_downlink.modelled": False}}], counted)
    record = Record.open(run(scenario, tmp_path / "run", timing_only=True))
    downloads = [row for row in rows(record) if row["name"] == "gradient_download"]
    early = [row for row in downloads if row["asked_ns"] < at_s * 1e9]
    late = [row for row in downloads if row["asked_ns"] >= at_s * 1e9]
    assert early
    assert late
    assert all(row["end_ns"] > row["start_ns"] for row in early)
    assert all(row["end_ns"] == row["asked_ns"] for row in late)


def test_cut_layer_and_rank_stay_when_an_allocator_takes_over_that_would_choose_others(
    base, tiny_scenario, tmp_path
):
    event = {"at_s": fork_at(base), "set": {"allocator": {"kind": "random", "randomise": ["cut_layer"]}}}
    record = Record.open(run(timed(tiny_scenario, [event]), tmp_path / "run", store=base.store))
    assert record.manifest["works"]["computed"] == 0
    assert record.manifest["fingerprints"]["learning"] == base.record.manifest["fingerprints"]["learning"]


FAULTS = {
    "cut": ({"model.cut_layer": 2}, r"model\.cut_layer cannot change during a run"),
    "scheme": ({"scheme.num_rounds": 9}, r"scheme\.num_rounds cannot change during a run"),
    "count": ({"clients.count": 9}, r"clients\.count cannot change during a run"),
    "clock": ({"clients.clock_hz": 1e9}, r"clients\.clock_hz cannot change during a run"),
    "unknown": ({"radio.colour": 1}, r"events\.0\.set: radio\.colour"),
    "value": ({"radio.main_uplink.bandwidth_hz": -1.0}, r"events\.0\.set: radio\.main_uplink\.bandwidth_hz"),
    "too few": ({"radio.main_uplink.num_subchannels": 2}, "2 cannot serve 3"),
    "left out": ({"radio.main_uplink.max_total_tx_power_dbm": None}, "is left out, which an event cannot do"),
    "nothing": ({}, r"events\.0\.set: "),
}


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fork_that_cannot_be_is_told_before_anything_is_made(base, tmp_path, changes, message):
    with pytest.raises(ScenarioError, match=message):
        whatif(base.record.path, changes, at_s=fork_at(base), out=tmp_path / "out", store=base.store)
    assert not (tmp_path / "out").exists()


RADIO = {"radio.noise_figure_db": 9.0, "radio.seed": 4}


@pytest.fixture
def unplayed(monkeypatch):
    """Let nobody play a run to learn the order of its spans, and forget what this process knows."""

    def refuse(_clock):
        raise AssertionError("a run was played for the order of its spans")

    monkeypatch.setattr("cosim.timed_runs._latest", {})
    monkeypatch.setattr("cosim.tensor.clock.TensorClock._world", property(refuse))


@pytest.mark.usefixtures("unplayed")
def test_the_first_whatif_on_a_training_is_timed_by_the_order_that_it_left(base):
    timed, played = (base.whatif(RADIO, engine=engine) for engine in ("auto", "events"))
    assert (timed.status, played.status) == ("timed", "complete")
    assert timed.manifest["simulated_s"] == played.manifest["simulated_s"]


def test_an_order_that_is_gone_is_found_again(base, monkeypatch):
    was = base.whatif(RADIO, engine="tensor").manifest["simulated_s"]
    monkeypatch.setattr("cosim.timed_runs._latest", {})
    rmtree(f"{default_store()}.orders")
    assert base.whatif(RADIO, engine="tensor").manifest["simulated_s"] == was


def test_what_is_read_of_a_timed_whatif_is_what_the_event_kernel_plays(base):
    played = base.whatif(RADIO, engine="events")
    options = {"out": base.place / "timed", "store": base.store}
    timed = cosim.whatif(base.record, RADIO, **options)
    assert timed.status == "timed"
    assert timed.spans == played.spans
    assert (timed.manifest["works"]["computed"], timed.status) == (0, "complete")
    assert_same_bytes(timed, played)


@pytest.mark.parametrize("engine", ["auto", "tensor"])
def test_faults_of_changes_are_told_the_same_whoever_finds_the_times(base, engine):
    for changes in (
        {"radio.main_uplink.num_subchannels": 1},
        {"radio.placement": {"kind": "given", "positions_m": [[90.0, 0.0]]}},
    ):
        faults = []
        for one in (None, engine):
            with pytest.raises(CosimError) as refused:
                base.whatif(changes, engine=one)
            faults.append(str(refused.value))
        assert faults[0] == faults[1]


def test_a_whatif_that_is_watched_or_trains_anew_is_played_at_once(base):
    rounds = []
    options = {"store": base.store, "watch": lambda progress: rounds.append(progress.round)}
    assert cosim.whatif(base.record, RADIO, out=base.place / "watched", **options).status == "complete"
    assert rounds == [0, 1, 2]
    assert base.whatif({"training.batch_size": 1}, engine="auto").status == "complete"
    with pytest.raises(ScenarioError, match=r"^training: is not as in the run that was played"):
        base.whatif({"training.batch_size": 1}, engine="tensor")


def timed_whatif(base, name, **options):
    return cosim.whatif(base.record, RADIO, out=base.place / name, **{"store": base.store, **options})


ENTRIES = {
    "get": lambda manifest: manifest.get("works"),
    "in": lambda manifest: "works" in manifest,
    "copy": lambda manifest: dict(manifest)["works"],
    "json": lambda manifest: json.loads(json.dumps(manifest))["works"],
    "len": lambda manifest: len(manifest) > 20,
}


@pytest.mark.parametrize("read", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_of_a_timed_whatif_is_there_however_it_is_asked_for(base, tmp_path, read):
    timed = timed_whatif(base, tmp_path / "timed")
    assert timed.manifest.get("status") == "timed"
    assert read(timed.manifest)
    assert timed.manifest == Record.open(timed.path).manifest


def test_a_timed_whatif_has_ended_once_a_table_was_read(base, tmp_path):
    timed = timed_whatif(base, tmp_path / "timed")
    assert timed.rounds.num_rows == 2
    assert (timed.status, timed.has_ended, timed.manifest["engine"]) == ("complete", True, "events")


def test_to_show_a_timed_whatif_or_to_send_it_elsewhere_does_not_play_it(base, tmp_path):
    timed = timed_whatif(base, tmp_path / "timed")
    assert "<td>timed</td>" in timed._repr_html_()
    assert "'timed'" in repr(timed)
    sent = pickle.loads(pickle.dumps(timed))
    assert Record.open(timed.path).status == "timed"
    assert sent.spans == timed.spans
    assert pickle.loads(pickle.dumps(timed)).status == "complete"
    assert "<td>complete</td>" in timed._repr_html_()


def test_a_timed_whatif_without_a_store_is_played_without_one(base, tmp_path):
    works = timed_whatif(base, tmp_path / "timed", store=False).manifest["works"]
    assert works == timed_whatif(base, tmp_path / "played", store=False, engine="events").manifest["works"]
    assert works["recalled"] == 0


def test_a_timed_whatif_whose_playing_was_stopped_goes_on(base, tmp_path, monkeypatch):
    timed = timed_whatif(base, tmp_path / "timed")
    with monkeypatch.context() as stopped:
        stopped.setattr("cosim.runs.recipes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _ = timed.spans
    assert Record.open(timed.path).status == "failed"
    assert timed.spans.num_rows > 0


@pytest.mark.parametrize("engine", ["auto", "tensor", "events"])
def test_a_stopped_run_in_the_folder_of_a_whatif_is_never_taken_for_it(base, tmp_path, monkeypatch, engine):
    def stop(_progress):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cosim.whatif(base.record, RADIO, store=base.store, watch=stop)
    with pytest.raises(RecordError, match="is a run that is failed: go on with it by cosim resume"):
        cosim.whatif(base.record, RADIO, store=base.store, engine=engine)


def test_two_that_time_one_whatif_at_once_have_the_same(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def timed_meanwhile(*told):
        time_whatif(*told)
        return time_whatif(*told)

    monkeypatch.setattr("cosim.whatifs.time_whatif", timed_meanwhile)
    assert cosim.whatif(base.record, RADIO, store=base.store).status == "timed"
