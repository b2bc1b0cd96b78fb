"""Traces: what is replayed is what the file says, to the nanosecond; what cannot be is one line."""

import io
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from cosim.cli import answer
from cosim.cli.explanation import show
from cosim.cli.overview import overview
from cosim.errors import ScenarioError
from cosim.explain import explain
from cosim.radio.channel import Channel
from cosim.radio.channel_settings import LINKS
from cosim.radio.trace.writing import write_trace
from cosim.record.folder import Record
from cosim.report.terminal import PlainConsole
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.scenario.load import run_hash
from cosim.units import NS_PER_S, dbm_to_w

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}}
HEAD = "time_s,client,link,"


def written(path, column, rows):
    path.write_text("\n".join([HEAD + column, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def rates_of(rows, end_ns):
    """Return what each client has been able to send until an instant, exactly; the rows wrap around."""
    times, values = zip(*rows, strict=True)
    edges = [*(round(at * NS_PER_S) for at in times), round(times[-1] * NS_PER_S) + 1_000_000]
    whole = sum(
        Fraction(value) * (end - begin) for value, (begin, end) in zip(values, pairwise(edges), strict=True)
    )
    turns, rest = divmod(end_ns, edges[-1])
    part = sum(
        Fraction(value) * (max(min(end, rest), begin) - begin)
        for value, (begin, end) in zip(values, pairwise(edges), strict=True)
    )
    return (turns * whole + part) / NS_PER_S


def test_a_transfer_ends_when_the_rates_of_the_trace_have_carried_its_bits(tiny_scenario, play, tmp_path):
    of_client = {
        client: [(0.0, 1e5), (0.003, 0.0), (0.004, 3e6 / 7 * (client + 1)), (0.011, 12345.678)]
        for client in range(3)
    }
    rows = [(at, client, "all", rate) for client, own in of_client.items() for at, rate in own]
    file = written(tmp_path / "rates.csv", "rate_bit_per_s", rows)
    world = play(
        tiny_scenario({**FEDERATED, "radio.trace": {"kind": "rate", "file": file, "at_end": "wrap"}})
    )
    spans = world.log.spans
    spans.settle()
    sent = [at for at, kind in enumerate(spans.kind) if kind == "transfer" and spans.actor[at][0] == "c"]
    assert len(sent) == 6
    for at in sent:
        own = of_client[int(spans.actor[at][7:])]
        before = rates_of(own, spans.start_ns[at])
        assert rates_of(own, spans.end_ns[at]) - before >= spans.bits[at]
        assert rates_of(own, spans.end_ns[at] - 1) - before < spans.bits[at]


@pytest.mark.parametrize("kind", ["gain", "fading", "snr"])
def test_a_trace_of_a_channel_gives_its_timeline_again(kind, tiny_scenario, play, tmp_path):
    air = {"kind": "rayleigh_block", "coherence_time_s": 0.001, "selectivity": "flat"}
    modelled = tiny_scenario({**FEDERATED, "radio.fading": air})
    channel = Channel.build(modelled.radio, 3, modelled.seed)
    write_trace(channel, LINKS, 0.2, tmp_path / "trace.csv")
    given = {"kind": kind, "file": str(tmp_path / "trace.csv")}
    if kind != "gain":
        lines = [line.split(",") for line in (tmp_path / "trace.csv").read_text().splitlines()[1:]]
        width_hz = {link: channel.bandwidths_hz(link).sum() for link in LINKS}
        noise_w = {link: channel.noise_psd_w_per_hz * width_hz[link] for link in LINKS}
        less_db = {
            "fading": lambda client, link: 10 * np.log10(channel.mean_gains[client]),
            "snr": lambda client, link: 10 * np.log10(noise_w[link] / dbm_to_w(23.0)),
        }[kind]
        rows = [(at, who, link, float(db) - less_db(int(who), link)) for at, who, link, db in lines]
        given["file"] = written(tmp_path / "other.csv", "snr_db" if kind == "snr" else "gain_db", rows)
    if kind == "snr":
        given["reference_tx_power_dbm"] = 23.0
    worlds = [play(modelled), play(tiny_scenario({**FEDERATED, "radio.trace": given}))]
    for world in worlds:
        world.log.spans.settle()
    first, again = (np.array(world.log.spans.end_ns) for world in worlds)
    assert first.max() < 0.2 * NS_PER_S
    np.testing.assert_allclose(again, first, atol=len(first))  # a nanosecond for each rounded end


@pytest.mark.parametrize(("what", "kind"), [("gain", "csv"), ("rate", "parquet")])
def test_an_exported_trace_of_a_run_gives_its_timeline_again(what, kind, tiny_scenario, tmp_path):
    air = {"kind": "rayleigh_block", "coherence_time_s": 0.001}
    air |= {"selectivity": "flat"} if what == "gain" else {}
    modelled = {**FEDERATED, "radio.fading": air, "radio.federated_downlink.modelled": True}
    folder = run(tiny_scenario(modelled), tmp_path / "run", timing_only=True)
    told = ["export", str(folder), "--out", str(tmp_path), "--trace", what, "--format", kind]
    assert answer(told) == 0
    given = {"kind": what, "file": str(tmp_path / f"{what}_trace.{kind}"), "at_end": "hold"}
    del modelled["radio.fading"]
    replayed = run(tiny_scenario({**modelled, "radio.trace": given}), tmp_path / "again", timing_only=True)
    first, again = (Record.open(one).spans["end_ns"].to_numpy() for one in (folder, replayed))
    np.testing.assert_allclose(again, first, atol=len(first))  # a nanosecond for each rounded end


def test_a_trace_that_would_not_be_that_of_the_run_is_refused(tiny_scenario, tmp_path, capsys):
    folder = run(tiny_scenario({"radio.medium": {"kind": "slotted"}}), tmp_path / "run", timing_only=True)
    for what, told in (("rate", "write gains"), ("snr", "must be gain or rate")):
        assert answer(["export", str(folder), "--out", str(tmp_path), "--trace", what]) == 2
        assert told in capsys.readouterr().err


def test_rows_hold_or_are_interpolated_and_the_end_is_held_or_wraps(tiny_scenario, tmp_path):
    rows = [
        (at, client, "all", db) for client in range(3) for at, db in ((0.0, 0.0), (0.2, -20.0), (0.3, -40.0))
    ]
    file = written(tmp_path / "gains.csv", "gain_db", rows)

    def db_at(*seconds, **given):
        scenario = tiny_scenario({"radio.trace": {"kind": "gain", "file": file, **given}})
        channel = Channel.build(scenario.radio, 3, 0)
        blocks = [channel.block_at(round(at * NS_PER_S)) for at in seconds]
        return [round(10 * np.log10(channel.gains("main_uplink", 1, one, 1)[0, 2]), 9) for one in blocks]

    assert db_at(0.0, 0.19, 0.2, 0.35, 0.4, 0.61, at_end="hold") == [0, 0, -20, -40, -40, -40]
    assert db_at(0.35, 0.4, 0.61, at_end="wrap") == [-40, 0, -20]
    assert db_at(0.05, 0.25, 0.35, between="interpolate", step_s=0.05, at_end="hold") == [-5, -30, -40]


def test_a_run_that_is_longer_than_its_trace_is_refused_when_it_gets_there(tiny_scenario, play, tmp_path):
    rows = [(at, client, "all", 100.0) for client in range(3) for at in (0.0, 0.5)]
    file = written(tmp_path / "rates.csv", "rate_bit_per_s", rows)
    scenario = tiny_scenario({**FEDERATED, "radio.trace": {"kind": "rate", "file": file}})
    assert "1 s, held for 0.5 s each, and a run that sends after that ends with an error" in " ".join(
        prepare(scenario).notes
    )
    with pytest.raises(
        ScenarioError, match=r"rates.csv ends at 1 s, and the run still sends then; give a longer"
    ):
        play(scenario)


@pytest.mark.parametrize(
    ("kind", "column", "value"), [("rate", "rate_bit_per_s", 1e6), ("gain", "gain_db", -95)]
)
def test_a_transfer_over_a_trace_explains_itself(kind, column, value, tiny_scenario, tmp_path):
    rows = [(at / 100, client, "all", value * (1 + at / 10)) for client in range(3) for at in range(4)]
    given = {"kind": kind, "file": written(tmp_path / "trace.csv", column, rows), "at_end": "wrap"}
    scenario = tiny_scenario({**FEDERATED, "scheme.num_rounds": 1, "radio.trace": given})
    record = Record.open(run(scenario, tmp_path / "run", timing_only=True))
    (upload, *_) = (one for one in record.spans.to_pylist() if one["name"] == "adapter_upload")
    told = explain(record, upload["id"])
    assert told.expected_end_ns == upload["end_ns"]
    (stretch,) = told.stretches
    terms = {what for what, *_ in stretch.budgets[0].terms()}
    assert ("path loss" in terms) == (kind == "rate")
    assert sum(one.rate_bit_per_s for one in stretch.budgets) == pytest.approx(stretch.rates_bit_per_s[0])
    shown = PlainConsole(file=io.StringIO(), width=200)
    show(told, shown)
    assert "same to the nanosecond" in shown.file.getvalue()
    (channel,) = (line for line in overview(scenario) if line.startswith("  channel"))
    assert ("path loss" in channel, "gains replayed" in channel) == (kind == "rate", kind == "gain")


FAULTS = {
    "no column": (
        "time_s,client,gain_db\n0,0,1\n",
        {},
        "has no column 'link'; it needs time_s, client, link, gain_db",
    ),
    "no rows": (HEAD + "gain_db\n", {}, "has no rows"),
    "unsorted": (
        "0,0,all,1\n2,0,all,1\n1,0,all,1\n",
        {},
        "line 4: client 0 on all is at 1 s after a row at 2 s; sort",
    ),
    "late": ("1,0,all,1\n", {}, "line 2: client 0 on all begins at 1 s; give its value at 0 s"),
    "gap": (
        "0,0,all,1\n9,0,all,1\n",
        {"max_gap_s": 2.0},
        "line 3: client 0 on all has no row between 0 and 9 s",
    ),
    "client": (
        "0,0,all,1\n0,1,all,1\n0,2,all,1\n0,7,all,1\n",
        {},
        "line 5: there is no client 7; there are clients 0 to 2",
    ),
    "no client": ("0,x,all,1\n", {}, "line 2: client is 'x', and must be a whole number from 0"),
    "link": (
        "0,0,uplink,1\n",
        {},
        "line 2: there is no link 'uplink'; there are main_uplink, federated_uplink",
    ),
    "missing": ("0,0,all,1\n0,2,all,1\n", {}, "has no rows of client 1 on federated_uplink"),
    "not finite": ("0,0,all,nan\n", {}, "line 2: gain_db is 'nan', and must be a finite number"),
    "empty": ("0,0,all,\n", {}, "line 2: gain_db is empty, and must be a finite number"),
    "beyond": ("0,0,all,4e3\n", {}, "line 2: gain_db is 4000; values go from -400 to 400"),
    "no step": (
        "".join(f"0,{n},all,1\n0.123456789,{n},all,1\n0.2,{n},all,1\n" for n in range(3)),
        {},
        "have no common step above 1000 ns; give step_s",
    ),
    "binary": ("\x89PNG", {}, "cannot be read: it is no text in UTF-8"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_trace_that_cannot_be_replayed_is_one_line(name, tiny_scenario, tmp_path):
    text, more, message = FAULTS[name]
    file = tmp_path / "trace.csv"
    file.write_bytes(
        (text if name in ("no column", "no rows") else HEAD + "gain_db\n" + text).encode("latin-1")
    )
    (line,) = check(tiny_scenario({**FEDERATED, "radio.trace": {"kind": "gain", "file": str(file), **more}}))
    assert "\n" not in line
    assert str(file) in line
    assert message in line


def test_what_a_trace_takes_the_place_of_is_not_given_beside_it(tiny_scenario, tmp_path):
    file = written(tmp_path / "trace.csv", "gain_db", [(0, client, "all", -90) for client in range(3)])
    beside = {"radio.trace": {"kind": "gain", "file": file}, "radio.fading": {"kind": "rayleigh_block"}}
    (line,) = check(tiny_scenario(beside))
    assert "radio.fading: it is given, and radio.trace 'gain' takes its place" in line
    with pytest.raises(ScenarioError, match="'interpolate' was given without step_s; say how long"):
        tiny_scenario({"radio.trace": {"kind": "gain", "file": file, "between": "interpolate"}})
    (line,) = check(tiny_scenario({"radio.trace": {"kind": "gain", "file": str(tmp_path / "none.csv")}}))
    assert "none.csv cannot be read: No such file or directory" in line


def test_a_trace_counts_by_its_content_and_may_be_parquet(tiny_scenario, play, tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [(at, client, "all", -90.0 - at) for client in range(3) for at in (0.0, 0.5)]
    given = {"kind": "gain", "file": written(tmp_path / "trace.csv", "gain_db", rows), "at_end": "hold"}
    scenario = tiny_scenario({**FEDERATED, "radio.trace": given})
    known, simulated_ns = run_hash(scenario), play(scenario).clock.now
    columns = dict(zip(f"{HEAD}gain_db".split(","), map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pyarrow.table(columns), tmp_path / "trace.parquet")
    other = tiny_scenario({**FEDERATED, "radio.trace": {**given, "file": str(tmp_path / "trace.parquet")}})
    assert play(other).clock.now == simulated_ns
    written(tmp_path / "trace.csv", "gain_db", [(*row[:3], -80.0) for row in rows])
    assert run_hash(scenario) != known
    assert play(scenario).clock.now < simulated_ns
