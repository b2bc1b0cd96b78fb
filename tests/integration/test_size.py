"""What is too large to look at in seconds is refused by its numbers, at once; what is merely long says so.

Work is counted in calls of functions (`fuzz.tried`), which are the same on every machine.
"""

import gc
import re

import pytest
import tomli_w
from fuzz import tried

from cosim.runs import run
from cosim.scenario.build import check as faults_of
from cosim.scenario.build import prepare
from cosim.scenario.load import to_dict
from cosim.scenario.size import MOST_CUTS_SEARCHED

MOST_CALLS = 300_000
LARGE = 2**31
FADING = "radio.fading={{kind='rayleigh_block', coherence_time_s={}}}"


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch):
    """Undo what quick commands do to the process they live in."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    yield
    gc.enable()


@pytest.fixture
def check(tmp_path, tiny_scenario):
    """Return what checks the tiny scenario with changes, at no more work than a check may do."""

    def checked(*changes, most_calls=MOST_CALLS):
        file = tmp_path / "tiny.toml"
        file.write_text(tomli_w.dumps(to_dict(tiny_scenario())), encoding="utf-8")
        found = tried(["check", str(file), *(word for one in changes for word in ("--set", one))], most_calls)
        assert found.status is not None, found.err
        return found

    return checked


TOO_LARGE = {
    "clients": ([f"clients.count={LARGE}"], r"clients\.count: 2 147 483 648 clients; a run has 100 000 at"),
    "examples": (
        ["data.source={kind='embedded', num_train=2147483648}"],
        r"data\.source\.num_train: makes 50000 examples at most, got 2147483648; take a file for more",
    ),
    "rounds": (
        [f"scheme.num_rounds={10**18}"],
        r"scheme\.num_rounds: 1 000 000 .* mini-batches; a run has 1 000 000 000 at most",
    ),
    "steps": ([f"scheme.local_steps={2**62}"], r"scheme\.num_rounds: 2 rounds of 4 611 .* at most"),
    "batch": (
        [f"training.batch_size={2**63 - 1}"],
        r"training\.batch_size: .* 65536, got 9223372036854775807",
    ),
    "subchannels": (
        [f"radio.main_uplink.num_subchannels={LARGE}"],
        r"radio\.main_uplink\.num_subchannels: 2 147 483 648 for 3 .* at most under this fading",
    ),
    "subchannels of a search": (
        ["radio.main_uplink.num_subchannels=20000", "allocator.kind=fedsllm"],
        r"num_subchannels: 20 000 .* pairs; the allocator 'fedsllm' searches 50 000 at most",
    ),
    "paths of clients": (
        [
            *(
                "clients.count=9000",
                "radio.base_stations.kind=hexagonal",
                "radio.main_uplink.num_subchannels=1",
            ),
            "radio.mobility={kind='constant_velocity', speed_m_per_s=1.0}",
        ],
        r"radio\.base_stations: 57 of them and 9 000 client\(s\) at 64 .* are 32 832 000 paths; a run has",
    ),
    "paths of others": (
        ["radio.base_stations={kind='hexagonal', num_rings=19}", "radio.interference.kind=neighbours"],
        r"radio\.base_stations: 3 423 of them and 34 230 users of other cells are 117 169 290 paths",
    ),
    "cuts of a search": (
        ["model.base.config.n_layer=3000", "allocator.kind=fedsllm"],
        rf"allocator\.cut_layers: 'fedsllm' would try 2 999 .* it tries {MOST_CUTS_SEARCHED} at most",
    ),
    "fading": (
        [FADING.format("1e-9"), "scheme.num_rounds=1000000", "lora.rank=1000000"],
        r"radio\.fading: blocks of 1e-09 s are about .* in a transfer, .* in a run; it draws 1e\+12 at most",
    ),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_is_too_large_is_one_line_at_once(case, check):
    changes, expected = TOO_LARGE[case]
    found = check(*changes)
    assert found.status == 2
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert re.search(expected, line), line


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [["model.base.config.n_layer=3000"], ["radio.main_uplink.num_subchannels=20000"], [f"lora.rank={10**9}"]],
    ids=["layers", "subchannels", "rank"],
)
def test_what_is_large_and_quick_is_checked(changes, check):
    found = check(*changes, most_calls=3_000_000)
    assert (found.status, found.err) == (0, "")


def test_a_coherence_time_far_below_transfers_is_told_with_its_blocks(check, tiny_scenario):
    found = check(FADING.format("1e-7"))
    assert found.status == 0
    blocks = re.search(r"note .* a transfer sees about (\S+) blocks of fading of 1e-07 s each", found.out)
    fading = prepare(
        tiny_scenario({"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-7}})
    ).fading
    assert float(blocks[1]) == pytest.approx(fading.of_longest, rel=0.1)
    assert "blocks of fading" not in check(FADING.format("0.01")).out


def test_blocks_are_about_those_of_the_run(tiny_scenario, play):
    """The longest transfer of a run in blocks, against what was said before it."""
    coherence_s = 1e-5
    scenario = tiny_scenario({"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": coherence_s}})
    foretold = prepare(scenario).fading.of_longest
    spans = play(scenario).log.spans
    spans.settle()
    timed = zip(spans.kind, spans.start_ns, spans.end_ns, strict=True)
    longest_s = max(end_ns - start_ns for kind, start_ns, end_ns in timed if kind == "transfer") / 1e9
    assert foretold == pytest.approx(longest_s / coherence_s, rel=0.5)


@pytest.mark.slow
def test_many_clients_are_checked_without_playing_them(check):
    found = check(
        "clients.count=1500",
        "allocator.kind=time_shared",
        "data.source={kind='embedded', num_train=1500}",
        "data.partition.kind=iid",
        most_calls=3_000_000,
    )
    assert found.status == 0, found.err
    assert "spans; allocator time_shared" in found.out


def test_a_study_of_too_many_replications_is_refused(tmp_path, check):
    check()
    file = tmp_path / "study.toml"
    study = {
        "base": "tiny.toml",
        "replications": LARGE,
        "timing_only": True,
        "measures": ["total_s"],
        "vary": {"grid": {"lora.rank": [1, 2]}},
    }
    file.write_text(tomli_w.dumps(study), encoding="utf-8")
    found = tried(["check", str(file)], MOST_CALLS)
    assert found.status == 2
    assert "replications: should be less than or equal to 100000, got 2147483648" in found.err
    study |= {
        "replications": 1,
        "vary": {"grid": {"radio.noise_figure_db": {"low": 1.0, "high": 9.0, "points": 10**6}}},
    }
    file.write_text(tomli_w.dumps(study), encoding="utf-8")
    found = tried(["check", str(file)], MOST_CALLS)
    assert found.status == 2
    assert "1 000 000 runs, more than 10 000" in found.err


FAINT = {
    "clients.max_tx_power_dbm": -55.0,
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
}


def test_a_run_of_very_many_blocks_warns_before_it_begins(tiny_scenario, tmp_path, caplog):
    fading = {"kind": "rayleigh_block", "coherence_time_s": 1e-7}
    scenario = tiny_scenario({"radio.fading": fading, "scheme.num_rounds": 1, "scheme.local_steps": 1})
    run(scenario, tmp_path / "run", timing_only=True)
    assert prepare(scenario).fading.note in caplog.messages


def test_a_run_at_almost_no_rate_is_refused_or_told_from_its_blocks(tiny_scenario):
    alone = {"scheme": {"kind": "asynchronous", "num_rounds": 3, "local_steps": 1}, **FAINT}
    told = prepare(tiny_scenario(alone))
    assert any("a transfer sees about" in note for note in told.notes)
    (line,) = faults_of(tiny_scenario({**alone, "clients.max_tx_power_dbm": -120.0}))
    assert line.startswith("radio.fading: blocks of 0.01 s are about")
    every = {**FAINT, "scheme": {"kind": "federated", "num_rounds": 1000, "local_steps": 1}}
    every["allocator"] = {"kind": "equal", "reallocate": "every_block"}
    (line,) = faults_of(tiny_scenario(every))
    assert line.startswith("allocator.reallocate: 'every_block' would decide about")
    assert faults_of(tiny_scenario({**every, "allocator": {"kind": "equal"}})) == []
