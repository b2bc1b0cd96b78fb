"""A deadline drops who is late for the rest of the round, and only what depends on that is learned again."""

from itertools import pairwise

import pytest

from cosim.errors import ScenarioError
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.report.comparison import compare
from cosim.runs import run
from cosim.scenario.load import change
from cosim.whatifs import whatif

ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
FILES = ("spans.parquet", "metrics.parquet", "grants.parquet", *ADAPTER)
CHANGES = {"scheme.num_rounds": 3, "lora.dropout": 0.1, "radio.fading.kind": "none"}
NAP_DBM = -40.0


def rows(record, **wanted):
    return [
        row for row in record.spans.to_pylist() if all(row[name] == value for name, value in wanted.items())
    ]


def arrivals_s(record):
    """Return how long after the beginning of its local step each client's activations arrive, s."""
    found = {}
    for upload in rows(record, name="activation_upload"):
        at = upload["round"], upload["local_step"]
        began = min(row["start_ns"] for row in rows(record, name="client_forward") if at_of(row) == at)
        found[*at, upload["actor"]] = (upload["end_ns"] - began) / 1e9
    return found


def at_of(row):
    return row["round"], row["local_step"]


def in_time(record):
    rows_ = record.metrics.to_pylist()
    return {row["round"]: row["value"] for row in rows_ if row["name"] == "num_clients_in_time"}


def losses(record):
    """Return every learned value by place."""
    return {
        (row["round"], row["local_step"], row["actor"], row["name"]): row["value"]
        for row in record.metrics.to_pylist()
        if row["name"].startswith(("train_", "eval_"))
    }


def assert_valid(record):
    """Causes come before effects, and a client does one thing at a time."""
    spans = record.spans.to_pylist()
    for row in spans:
        assert row["asked_ns"] <= row["start_ns"] <= row["end_ns"]
        for parent in row["parents"]:
            assert parent < row["id"]
            assert spans[parent]["end_ns"] <= row["start_ns"]
    for client in ("client-0", "client-1", "client-2"):
        mine = [row for row in spans if row["actor"] == client and row["kind"] == "compute"]
        mine.sort(key=lambda row: row["start_ns"])
        for first, second in pairwise(mine):
            assert first["end_ns"] <= second["start_ns"]


class Base:
    """A run in which the third client's sender is all but mute in the first local step of round 2."""

    def __init__(self, tiny_scenario, place):
        self.place = place
        self.store = Store(place / "store")
        quiet = tiny_scenario({**CHANGES, "clients": [{"count": 2}, {"count": 1}]})
        timed = Record.open(run(quiet, place / "quiet", timing_only=True))
        self.deadline_s = 1.5 * max(arrivals_s(timed).values())
        second_s = min(row["start_ns"] for row in rows(timed, round=2)) / 1e9
        after_s = second_s + 1.05 * self.deadline_s
        events = [
            {"at_s": second_s, "set": {"clients.1.max_tx_power_dbm": NAP_DBM}},
            {"at_s": after_s, "set": {"clients.1.max_tx_power_dbm": 23.0}},
        ]
        self.scenario = change(quiet, {"events": events})
        self.record = Record.open(run(self.scenario, place / "run", store=self.store))

    def with_deadline(self, deadline_s, name):
        changes = {"scheme.deadline_s": deadline_s}
        return Record.open(whatif(self.record.path, changes, out=self.place / name, store=self.store))


@pytest.fixture(scope="module")
def base(tiny_scenario, tmp_path_factory):
    return Base(tiny_scenario, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def dropped(base):
    """The same run with a deadline that only the mute client misses."""
    return base.with_deadline(base.deadline_s, "dropped")


def test_a_deadline_nobody_misses_changes_nothing_and_computes_nothing(base):
    slack = base.with_deadline(1e3, "slack")
    assert slack.manifest["works"]["computed"] == 0
    assert slack.manifest["fingerprints"] == base.record.manifest["fingerprints"]
    assert in_time(slack) == {1: 3, 2: 3, 3: 3}
    compared = compare(base.record, slack)
    assert compared.divergence is None
    assert compared.other_rounds == ()


def test_a_late_client_is_out_for_the_round_and_back_in_the_next(base, dropped):
    assert in_time(dropped) == {1: 3, 2: 2, 3: 3}
    assert {row["actor"] for row in rows(dropped, name="server_forward_backward", round=2)} == {"main-server"}
    backwards = {(at_of(row), row["actor"]) for row in rows(dropped, name="client_backward")}
    for round_ in (1, 2, 3):
        for step in (1, 2):
            assert (((round_, step), "client-2") in backwards) == (round_ != 2)
            assert ((round_, step), "client-0") in backwards
    uploads = {(row["round"], row["actor"]) for row in rows(dropped, name="adapter_upload")}
    assert (2, "client-2") not in uploads
    assert (3, "client-2") in uploads
    downloads = {(row["round"], row["peer"]) for row in rows(dropped, name="adapter_download")}
    assert (2, "client-2") in downloads


def test_the_server_begins_at_the_deadline_and_works_on_what_is_there(base, dropped):
    deadline_ns = round(1e9 * base.deadline_s)
    (step,) = [
        row for row in rows(dropped, name="server_forward_backward", round=2) if row["local_step"] == 1
    ]
    began = min(row["start_ns"] for row in rows(dropped, name="client_forward", round=2))
    assert step["asked_ns"] == pytest.approx(began + deadline_ns, abs=1)
    (whole,) = [
        row for row in rows(dropped, name="server_forward_backward", round=1) if row["local_step"] == 1
    ]
    assert step["flop"] == whole["flop"] * 2 / 3
    assert len(step["parents"]) == 2
    (next_,) = [
        row for row in rows(dropped, name="server_forward_backward", round=2) if row["local_step"] == 2
    ]
    assert next_["asked_ns"] - step["end_ns"] < deadline_ns  # nobody waits for one who is out


def test_a_late_client_ends_what_it_is_doing_before_it_is_back(dropped):
    (late,) = rows(dropped, name="activation_upload", round=2, local_step=1, actor="client-2")
    (back,) = rows(dropped, name="client_forward", round=3, local_step=1, actor="client-2")
    assert late["id"] in back["parents"]
    assert late["end_ns"] <= back["start_ns"]
    assert_valid(dropped)


def test_only_what_hangs_on_the_drop_is_learned_anew(base, dropped):
    before, after = losses(base.record), losses(dropped)
    same = {place for place in before if after.get(place) == before[place]}
    assert {place for place in before if place[0] < 2} <= same
    assert {(2, 1, "client-0", "train_loss"), (2, 1, "client-1", "train_loss")} <= same
    assert not any(place in same for place in before if place[0] == 3)
    assert (2, 1, "client-2", "train_loss") not in after
    assert (3, 1, "client-2", "train_loss") in after
    compared = compare(base.record, dropped)
    assert compared.other_rounds == (2, 3)
    works = dropped.manifest["works"]
    assert compared.computed == works["computed"] > 0
    assert compared.recalled == works["recalled"] > 0
    assert compared.divergence is not None
    assert compared.divergence.round == 2


def test_a_whatif_with_a_deadline_equals_a_fresh_run_byte_for_byte(base, dropped, tmp_path):
    deadline_s = base.deadline_s
    fresh = run(change(base.scenario, {"scheme.deadline_s": deadline_s}), tmp_path / "run")
    timed = run(
        change(base.scenario, {"scheme.deadline_s": deadline_s}), tmp_path / "timed", timing_only=True
    )
    for name in FILES:
        assert (fresh / name).read_bytes() == (dropped.path / name).read_bytes(), name
    assert (timed / "spans.parquet").read_bytes() == (fresh / "spans.parquet").read_bytes()


def test_a_client_that_is_always_late_might_as_well_not_be_there(tiny_scenario, tmp_path):
    """Weights are renormalised: the others learn, bit for bit, what they learn without it."""
    fast, slow = {"count": 2}, {"count": 1, "clock_hz": 10.0}
    three = tiny_scenario(
        {
            **CHANGES,
            "clients": [fast, slow],
            "data.partition": {"kind": "size", "fractions": [0.4, 0.3, 0.2]},
            "scheme.deadline_s": 1.0,
        }
    )
    two = change(
        three, {"clients": [fast], "data.partition.fractions": [0.4, 0.3], "scheme.deadline_s": None}
    )
    with_it, without = (
        Record.open(run(one, tmp_path / str(number))) for number, one in enumerate((three, two))
    )
    assert in_time(with_it) == {1: 2, 2: 2, 3: 2}
    assert losses(with_it) == losses(without)
    assert with_it.manifest["fingerprints"]["learning"] == without.manifest["fingerprints"]["learning"]
    assert not rows(with_it, name="client_backward", actor="client-2")
    assert_valid(with_it)


def test_if_all_are_late_the_first_one_stays(base, tmp_path):
    folder = whatif(base.record.path, {"scheme.deadline_s": 1e-9}, out=tmp_path / "run", store=base.store)
    record = Record.open(folder)
    assert in_time(record) == {1: 1, 2: 1, 3: 1}
    for round_ in (1, 2, 3):
        first = min(
            (row["end_ns"], row["actor"])
            for row in rows(record, name="activation_upload", round=round_, local_step=1)
        )[1]
        assert [row["actor"] for row in rows(record, name="client_backward", round=round_)] == [first] * 2
    assert_valid(record)
    assert record.status == "complete"


def test_a_deadline_on_a_server_that_waits_for_nobody_is_refused(base):
    with pytest.raises(ScenarioError, match="needs server_batch = 'joint'"):
        change(base.scenario, {"scheme.deadline_s": 1.0, "scheme.server_batch": "per_client"})
