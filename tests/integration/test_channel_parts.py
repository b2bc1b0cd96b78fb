"""The channel asks its parts: second members, of another package, are seen in rate, time and budget."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

PARTS = """
    from typing import Literal
    import numpy as np
    from cosim.radio.base_stations import BaseStations
    from cosim.radio.interference import Interference
    from cosim.radio.mobility import Mobility
    from cosim.radio.surface import Surface

    class Straight(Mobility):
        kind: Literal["straight"] = "straight"
        speed_m_per_s: float = 2000.0
        holds_ns: int = 2_000_000

        @property
        def block_ns(self):
            return self.holds_ns

        def positions_m(self, begin_m, stream, time_ns):
            moved_m = self.speed_m_per_s * time_ns / 1e9
            return begin_m + np.stack([moved_m, 0.0 * moved_m], axis=-1)[:, np.newaxis]

    class Steady(Interference):
        kind: Literal["steady"] = "steady"
        psd: float = 1e-19

        def psd_w_per_hz(self, path, bandwidths_hz):
            return np.full((1, 1), self.psd)

    class Mirror(Surface):
        kind: Literal["mirror"] = "mirror"
        gain_db: float = 0.0

        def gains(self, path, direct):
            return direct * 10.0 ** (self.gain_db / 10.0)

    class Pair(BaseStations):
        kind: Literal["pair"] = "pair"

        def positions_m(self):
            return np.array([[0.0, 0.0], [200.0, 0.0]])
"""
PROGRAM = """
import json, sys, tempfile
from pathlib import Path
sys.path.insert(0, {site!r})
from cosim.errors import ScenarioError
from cosim.explain import explain
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load

scenario = load(Path({scenario!r}))
print(json.dumps(float(scenario.radio.noise_psd_w_per_hz)))
for number, changes in enumerate(json.loads({changes!r})):
    try:
        folder = run(change(scenario, changes), Path(tempfile.mkdtemp()) / "run", timing_only=True)
    except ScenarioError as fault:
        print(json.dumps(str(fault)))
        continue
    record = Record.open(folder)
    names, actors = record.spans["name"].to_pylist(), record.spans["actor"].to_pylist()
    found = {{}}
    for span, (name, actor) in enumerate(zip(names, actors)):
        if name == "adapter_upload" and actor not in found:
            one = explain(record, span)
            found[actor] = {{
                "start_ns": one.span.start_ns,
                "end_ns": one.span.end_ns,
                "expected_end_ns": one.expected_end_ns,
                "stretches": [
                    {{
                        "rates": stretch.rates_bit_per_s.tolist(),
                        "start_ns": stretch.start_ns,
                        "terms": [{{term[0]: term[1] for term in one.terms()}} for one in stretch.budgets],
                        "time_ns": stretch.budgets[0].time_ns,
                        "block_ns": stretch.block_ns,
                    }}
                    for stretch in one.stretches
                ],
            }}
    prepared = prepare(change(scenario, changes))
    seen = prepared.decisions().state(0, 1).links["federated_uplink"].gains
    begin_m = prepared.channel.positions_m
    print(json.dumps({{"clients": found, "begin_m": begin_m.tolist(), "seen": seen.tolist()}}))
"""
SCENARIO = """
scheme = { kind = "federated", num_rounds = 1, local_steps = 1 }
clients = { count = 2, flop_per_cycle = 1000.0 }
data = { source = { kind = "embedded", num_train = 40 } }
radio = { shadowing = { kind = "none" } }
"""
FADING = {"kind": "rayleigh_block", "coherence_time_s": 0.001}
CASES = {
    "plain": {},
    "moving": {"radio.mobility": {"kind": "straight"}},
    "moving and fading": {"radio.mobility": {"kind": "straight"}, "radio.fading": FADING},
    "out of step": {"radio.mobility": {"kind": "straight", "holds_ns": 1_500_000}, "radio.fading": FADING},
    "interference": {"radio.interference": {"kind": "steady"}},
    "surface": {
        "radio.surface": {"kind": "mirror"},
        "events": [{"at_s": 0.003, "set": {"radio.surface.gain_db": 10.0}}],
    },
    "two base stations": {"radio.base_stations": {"kind": "pair"}},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what was explained of the first uploads in each case, one process for all of them."""
    site = tmp_path_factory.mktemp("site")
    info = site / "ownair-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ownair\nVersion: 1.0\n")
    names = ("Straight", "Steady", "Mirror", "Pair")
    entries = "".join(f"{name.lower()} = ownair:{name}\n" for name in names)
    (info / "entry_points.txt").write_text(f"[cosim.parts]\n{entries}")
    (site / "ownair.py").write_text(textwrap.dedent(PARTS))
    scenario = tmp_path_factory.mktemp("scenario") / "plain.toml"
    scenario.write_text(SCENARIO)
    program = PROGRAM.format(site=str(site), scenario=str(scenario), changes=json.dumps(list(CASES.values())))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    noise, *answers = map(json.loads, done.stdout.splitlines())
    return noise, dict(zip(CASES, answers, strict=True))


def uploads(found, case):
    return found[1][case]["clients"].items()


@pytest.mark.parametrize("case", [name for name in CASES if name != "out of step"])
def test_the_explanation_ends_when_the_transfer_did(found, case):
    for _, upload in uploads(found, case):
        assert upload["expected_end_ns"] == upload["end_ns"]


def test_a_client_that_moves_has_the_path_loss_of_where_it_is(found):
    for case in ("moving", "moving and fading"):
        for client, upload in uploads(found, case):
            (stretch,) = upload["stretches"]
            begin_m = found[1][case]["begin_m"][int(client[-1])]
            block = stretch["time_ns"] // 2_000_000
            expected_m = np.hypot(begin_m[0] + 2000.0 * block * 2e-3, begin_m[1])
            terms = stretch["terms"][0]
            assert terms["distance"] == pytest.approx(expected_m)
            loss_db = 128.1 + 37.6 * np.log10(expected_m / 1e3)
            assert terms["path loss"] == pytest.approx(loss_db)
            assert terms["gain"] == pytest.approx(10.0 - loss_db + terms["fading"])
            assert len(set(stretch["rates"])) > 1


def test_the_faster_part_decides_how_long_a_gain_holds_and_the_slower_must_fit(found):
    blocks = {
        case: next(iter(uploads(found, case)))[1]["stretches"][0]["block_ns"]
        for case in ("moving", "moving and fading")
    }
    assert blocks == {"moving": 2_000_000, "moving and fading": 1_000_000}
    assert found[1]["out of step"] == (
        "radio.mobility: 'straight' changes every 0.0015 s and the fading every 0.001 s; "
        "make one a whole multiple of the other."
    )


def test_interference_counts_as_noise(found):
    noise, answers = found
    for client, upload in uploads(found, "interference"):
        before = answers["plain"]["clients"][client]
        for quiet, loud in zip(before["stretches"][0]["terms"], upload["stretches"][0]["terms"], strict=True):
            assert "interference density" not in quiet
            assert loud["interference density"] == pytest.approx(-160.0)
            assert quiet["SNR"] - loud["SNR"] == pytest.approx(10.0 * np.log10(1.0 + 1e-19 / noise))
        assert upload["end_ns"] - upload["start_ns"] > before["end_ns"] - before["start_ns"]


def test_allocators_see_gains_that_give_the_right_snr_over_noise_alone(found):
    noise, answers = found
    seen = [np.array(answers[case]["seen"]) for case in ("plain", "interference")]
    np.testing.assert_allclose(seen[1], seen[0] * noise / (noise + 1e-19))


def test_a_surface_set_at_an_instant_re_rates_what_is_in_flight(found):
    for client, upload in uploads(found, "surface"):
        before, after = upload["stretches"]
        assert after["start_ns"] == 3_000_000
        assert "surface" not in before["terms"][0]
        for one, other in zip(before["terms"], after["terms"], strict=True):
            assert other["surface"] == pytest.approx(10.0)
            assert other["gain"] == pytest.approx(one["gain"] + 10.0)
        assert after["rates"][0] > before["rates"][0]
        assert upload["end_ns"] < found[1]["plain"]["clients"][client]["end_ns"]


def test_each_client_is_served_by_the_base_station_it_hears_best(found):
    for client, upload in uploads(found, "two base stations"):
        x_m, y_m = found[1]["two base stations"]["begin_m"][int(client[-1])]
        nearest_m = min(np.hypot(x_m, y_m), np.hypot(x_m - 200.0, y_m))
        assert upload["stretches"][0]["terms"][0]["distance"] == pytest.approx(nearest_m)
