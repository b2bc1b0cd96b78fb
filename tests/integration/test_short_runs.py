"""Runs that keep summaries in place of spans: the same bytes by both engines, and every view of them."""

import json

import numpy as np
import pytest

from cosim.cli import answer
from cosim.record.folder import Record
from cosim.record.summaries import LEVELS, covered_ns, outliers, quantiles
from cosim.report.comparison import compare
from cosim.report.short import phases_of
from cosim.report.summary import summarise
from cosim.runs import resume, run
from cosim.studies.measures.bits import Bits
from cosim.studies.measures.energy_j import EnergyJ
from cosim.whatifs import whatif

TABLES = ("phases", "outliers", "totals", "metrics", "rounds")
CHANGES = {
    "record": "summary",
    "scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 1, "participation": 0.7},
    "allocator": {"kind": "time_shared"},
    "radio.federated_downlink.modelled": True,
}


@pytest.fixture(scope="module")
def folders(tiny_scenario, tmp_path_factory):
    """One scenario in short by both engines, and with its spans."""
    place, scenario = tmp_path_factory.mktemp("short"), tiny_scenario(CHANGES)
    for engine in ("events", "tensor"):
        run(scenario, place / engine, timing_only=True, engine=engine)
    run(scenario.model_copy(update={"record": "spans"}), place / "spans", timing_only=True)
    return place


def test_both_engines_leave_the_same_bytes(folders):
    played, timed = (Record.open(folders / engine) for engine in ("events", "tensor"))
    for name in TABLES:
        file = f"{name}.parquet"
        assert (played.path / file).read_bytes() == (timed.path / file).read_bytes()
    assert timed.manifest["fingerprints"] == played.manifest["fingerprints"]
    assert [one.manifest["engine"] for one in (played, timed)] == ["events", "tensor"]


def test_summaries_say_what_the_spans_say(folders):
    short, whole = Record.open(folders / "tensor"), Record.open(folders / "spans")
    ours, theirs = summarise(short), summarise(whole)
    assert ours.phases == theirs.phases
    assert ours.slowest == theirs.slowest
    assert ours.clients == theirs.clients
    assert ours.energy_j == pytest.approx(theirs.energy_j, rel=1e-12)
    assert (ours.length_ns, ours.num_spans, ours.channel) == (
        theirs.length_ns,
        theirs.num_spans,
        theirs.channel,
    )
    assert phases_of(short) == phases_of(whole)
    for measure in (Bits(), Bits(span="adapter_upload")):
        assert measure.of(short) == measure.of(whole)
    for actor in (None, "client", "client-1", "federated-server"):
        measure = EnergyJ(actor=actor)
        assert measure.of(short) == pytest.approx(measure.of(whole), rel=1e-12)
    assert compare(short, whole).divergence is None


def test_a_what_if_and_a_resumed_run_are_in_short_too(folders, tmp_path):
    other = Record.open(whatif(folders / "tensor", {"radio.noise_figure_db": 12.0}, out=tmp_path / "other"))
    assert (other.manifest["engine"], other.is_short) == ("tensor", True)
    assert compare(Record.open(folders / "tensor"), other).divergence is not None
    (other.path / "phases.parquet").write_bytes(b"")
    resume(other.path)
    assert Record.open(other.path).manifest["engine"] == "tensor"


def test_every_view_of_a_run_in_short_shows_it_or_says_how_to_get_spans(
    folders, tmp_path, capsys, monkeypatch
):
    run_folder, files = str(folders / "tensor"), [tmp_path / name for name in ("a.png", "a.html")]
    assert answer(["timeline", run_folder, "--png", str(files[0]), "--html", str(files[1])]) == 0
    told = capsys.readouterr().out
    assert "each client, busy" in told
    assert files[0].read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in files[1].read_text()
    assert answer(["timeline", run_folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["phases"]
    assert answer(["compare", run_folder, str(folders / "events")]) == 0
    assert "the same, in all summaries" in capsys.readouterr().out
    assert answer(["export", run_folder, "--out", str(tmp_path / "tables")]) == 0
    for refused in (["explain", run_folder, "1"], ["timeline", run_folder, "--pdf", str(tmp_path / "a.pdf")]):
        assert answer(refused) == 2
        assert "--set record=spans" in capsys.readouterr().err
    assert answer(["timeline", run_folder, "--rounds", "9"]) == 2
    monkeypatch.setattr("cosim.report.short.MOST_LANES", 1)
    page = tmp_path / "b.html"
    assert answer(["timeline", str(folders / "spans"), "--html", str(page), "--quiet"]) == 0
    assert "too many clients for a lane each" in page.read_text()


@pytest.mark.parametrize(
    ("changes", "timing_only", "told"),
    [
        ({"record": "spans"}, True, "record = 'summary'"),
        ({}, False, "--timing-only"),
        ({"scheme.downlink": "multicast"}, True, "scheme.downlink"),
        ({"scheme.aggregator": {"kind": "rolora"}}, True, "not what its stages say"),
    ],
)
def test_what_the_tensor_clock_cannot_promise_is_refused(tiny_scenario, tmp_path, changes, timing_only, told):
    with pytest.raises(Exception, match=told):
        run(tiny_scenario({**CHANGES, **changes}), tmp_path / "a", timing_only=timing_only, engine="tensor")


def test_quantiles_and_covered_time_are_those_of_a_plain_count():
    rng = np.random.default_rng(5)
    for count in (1, 2, 7, 100):
        values = rng.integers(0, 1000, count)
        for level, found in zip(LEVELS, quantiles(values), strict=True):
            assert (values <= found).sum() >= level / 100 * count
            assert (values < found).sum() < max(level / 100 * count, 1)
        start_ns, lasts = rng.integers(0, 300, count), rng.integers(0, 9, count)
        within = {ns for one, last in zip(start_ns, lasts, strict=True) for ns in range(one, one + last)}
        assert covered_ns(start_ns, start_ns + lasts) == len(within)
    fence, is_one = outliers(np.array([1, 2, 2, 3, 90]))
    assert is_one.tolist() == [False] * 4 + [True]
    assert fence == 4.5
