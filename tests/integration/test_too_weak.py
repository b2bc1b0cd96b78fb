"""A channel too weak to carry anything, and a device that never ends, are one line with what is wrong."""

import json
import re

import pytest

from cosim.cli import answer
from cosim.errors import ScenarioError
from cosim.scenario.load import to_toml

CASES = {
    "noise": (
        {"radio.noise_figure_db": 400.0},
        r"client-\d: main_uplink is too weak for \d+ bits: 0\.\d+ W on ",
    ),
    "gap": (
        {"radio.rate": {"kind": "shannon", "snr_gap_db": 400.0}},
        r" bit/s, so they would never arrive; give it",
    ),
    "power": (
        {"clients.max_tx_power_dbm": -400.0},
        r"main_uplink is too weak .* make an SNR of -\d+\.?\d* dB on ",
    ),
    "fading": (
        {
            "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-3},
            "radio.noise_figure_db": 400.0,
        },
        r"client-\d: main_uplink is too weak",
    ),
    "server": (
        {"main_server.clock_hz": 1e-9},
        r"main-server: server_forward_backward of \d\S+ FLOP takes \d\S+ s at \d\S+ FLOP/s, and ",
    ),
    "clients": ({"clients.clock_hz": 1e-3, "clients.flop_per_cycle": 1e-3}, r"client-\d: client_forward of "),
}


@pytest.mark.parametrize("case", CASES)
def test_what_can_never_end_is_one_line_in_check_and_run(case, tiny_scenario, tmp_path, capsys):
    changes, expected = CASES[case]
    file, folder = tmp_path / "weak.toml", tmp_path / "run"
    file.write_text(to_toml(tiny_scenario(changes)), encoding="utf-8")
    assert answer(["check", str(file)]) == 2
    checked = capsys.readouterr()
    assert checked.out == ""
    assert answer(["run", str(file), "--timing-only", "--out", str(folder)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert checked.err.splitlines() == [line]
    assert re.search(expected, line)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "failed"
    assert manifest["reason"] == line


def test_who_is_dropped_by_a_deadline_may_be_too_weak(tiny_scenario, play):
    weak = {"clients": [{"count": 2}, {"count": 1, "max_tx_power_dbm": -390.0}], "scheme.num_rounds": 1}
    with pytest.raises(ScenarioError, match="client-2: main_uplink is too weak"):
        play(tiny_scenario(weak))
    assert len(play(tiny_scenario({**weak, "scheme.deadline_s": 5.0})).log.spans)
