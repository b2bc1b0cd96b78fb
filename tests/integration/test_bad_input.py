"""What a user may get wrong: exit status 2, one line a fault on stderr, and nothing overwritten."""

import gc
import json
from copy import deepcopy
from pathlib import Path

import pytest
import tomli_w

from cosim.cli import answer
from cosim.scenario.build import check, prepare
from cosim.scenario.load import to_dict


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch):
    """Undo what quick commands do to the process they live in."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    yield
    gc.enable()


@pytest.fixture
def write(tmp_path, tiny_scenario):
    """Return what writes the tiny scenario with raw values set by their paths, right or wrong."""

    def written(changes=None, name="bad.toml"):
        given = to_dict(tiny_scenario())
        for path, value in (changes or {}).items():
            *steps, last = path.split(".")
            here = given
            for step in steps:
                here = here.setdefault(step, {})
            here[last] = deepcopy(value)
        file = tmp_path / name
        file.write_text(tomli_w.dumps(given), encoding="utf-8")
        return file

    return written


@pytest.fixture
def told(capsys, tmp_path):
    """Return what checks and then runs a file, and hands back the lines both put on stderr."""

    def lines(file, *options):
        before = _snapshot(tmp_path)
        found = []
        for command in (["check"], ["run", "--out", str(tmp_path / "run")]):
            assert answer([command[0], str(file), *command[1:], *options]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert "Traceback" not in err
            found.append([line for line in err.splitlines() if not line.startswith("warning: ")])
        assert found[0] == found[1], "check and run tell the same"
        assert _snapshot(tmp_path) == before, "nothing is made and nothing is overwritten"
        return found[0]

    return lines


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


ONE_FAULT = {
    "an unknown key": ({"radio.bandwith_hz": 1e6}, "radio.bandwith_hz: no such setting"),
    "an unknown key, with the likely one": (
        {"lora.rnk": 4},
        "lora.rnk: no such setting; did you mean 'rank'?",
    ),
    "a kind nobody knows": (
        {"radio.fading": {"kind": "rayleigh_blok"}},
        "radio.fading: no kind 'rayleigh_blok'; known: cdl, jakes, nakagami, none, rayleigh_block, rician, "
        "tdl; did you mean 'rayleigh_block'?",
    ),
    "a text for a number": ({"lora.rank": "four"}, "lora.rank: should be a valid integer"),
    "a value out of its range": ({"lora.dropout": 1.5}, "lora.dropout: should be less than 1, got 1.5"),
    "a negative distance": (
        {"radio.placement": {"kind": "disc", "radius_m": -3.0}},
        "radio.placement.radius_m: should be greater than 0",
    ),
    "a unit that does not exist": (
        {"radio.fading": {"kind": "rayleigh_block", "coherence_time_ms": 50}},
        "radio.fading.coherence_time_ms: no such setting; did you mean 'coherence_time_s'?",
    ),
    "a cut outside the model": (
        {"model.cut_layer": 3},
        "model.cut_layer: 3 leaves nothing for the main server; a model of 3 layers can be cut at 1 to 2.",
    ),
    "a target module that matches nothing": (
        {"lora.target_modules": ["c_atn"]},
        "lora.target_modules: a gpt2 block has no layer 'c_atn'; known: c_attn, c_fc, c_proj, "
        "or 'all-linear'; did you mean 'c_attn'?",
    ),
    "a power that breaks a client's limit": (
        {
            "allocator": {
                "kind": "given",
                "links": {
                    link: {"subchannels": [[0], [1], [2]], "tx_power_w": [5.0, 0.1, 0.1]}
                    for link in ("main_uplink", "federated_uplink")
                },
            }
        },
        "main_uplink: client 0 is to send with 5 W; its limit is 0.199526 W.",
    ),
    "a server stronger than its link allows": (
        {"radio.main_downlink": {"tx_power_dbm": 46.0, "max_total_tx_power_dbm": 40.0}},
        "radio.main_downlink: tx_power_dbm 46 is above max_total_tx_power_dbm 40",
    ),
    "more clients than subchannels": (
        {"radio.main_uplink.num_subchannels": 2},
        "radio.main_uplink.num_subchannels: 2 cannot serve 3 clients under the allocator 'equal'",
    ),
    "a partition that leaves a client empty": (
        {"data.partition": {"kind": "dirichlet", "alpha": 1e-4, "by": "label"}, "clients.count": 12},
        "partition dirichlet: client-",
    ),
    "fewer examples than clients": (
        {"clients.count": 60, "allocator.kind": "time_shared"},
        "partition iid: 60",
    ),
    "a missing file": (
        {"data.source": {"kind": "file", "train_path": "gone.csv", "test_fraction": 0.5}},
        "gone.csv: no such file",
    ),
    "a missing folder of a model": ({"model.base": {"kind": "folder", "path": "gone"}}, "gone"),
    "a device with too little memory": (
        {"main_server.memory_bytes": 1000.0},
        "main-server: training with cut_layer 1 and rank 4 needs",
    ),
}


def federated(**settings):
    """Return the scheme of that name, sending by SOFT."""
    return {"scheme": {"kind": "federated", "adapter_codec": {"kind": "soft"}, **settings}}


TSFA = {"kind": "tsfa", "latency_limit_s": 1.0}
RATIOS = "allocator.kind: 'tsfa' says how much of its adapter each client sends, and "
WIRELESS = {
    "a limit below the compute time alone": (
        {**federated(), "allocator": {"kind": "tsfa", "latency_limit_s": 1e-5}},
        "allocator.latency_limit_s: 1e-05 s cannot be kept: nothing is left for the upload; ",
    ),
    "a limit of zero": (
        {**federated(), "allocator": {"kind": "tsfa", "latency_limit_s": 0.0}},
        "allocator.latency_limit_s: should be greater than 0, got 0",
    ),
    "a longest round below the limit": (
        {**federated(), "allocator": {**TSFA, "max_round_s": 0.5}},
        "max_round_s 0.5 is below latency_limit_s 1; raise it, or lower the limit",
    ),
    "a ratio of nothing": (
        {"scheme.adapter_codec": {"kind": "soft", "sparsification_ratio": 0.0}},
        "scheme.adapter_codec.sparsification_ratio: should be greater than 0, got 0",
    ),
    "a ratio beyond everything": (
        {
            **federated(),
            "allocator": {"kind": "fixed_ratio", "latency_limit_s": 1.0, "sparsification_ratio": 1.5},
        },
        "allocator.sparsification_ratio: should be less than or equal to 1, got 1.5",
    ),
    "a share of clients beyond all": (
        federated(participation=1.5),
        "scheme.participation: should be less than or equal to 1, got 1.5",
    ),
    "a ratio with room for no pair": (
        {"scheme.adapter_codec": {"kind": "soft", "sparsification_ratio": 0.01}},
        "scheme.adapter_codec: 'soft' sends nothing with sparsification_ratio 0.01: that is less than the "
        "smallest thing it can send; give it 0.25 or more.",
    ),
    "a ratio with room for no number": (
        {"scheme.adapter_codec": {"kind": "top_k", "sparsification_ratio": 0.001}},
        "'top_k' sends nothing with sparsification_ratio 0.001: that is less than the smallest thing "
        "it can send; give it 0.00521 or more.",
    ),
    "a fixed ratio with room for no pair": (
        {
            **federated(),
            "allocator": {"kind": "fixed_ratio", "latency_limit_s": 1.0, "sparsification_ratio": 0.01},
        },
        "allocator.sparsification_ratio: 0.01 of 24576 bits has no room for a pair of 2048 bits; "
        "give it 0.0834 or more.",
    ),
    "pairs of unequal size, and a fixed ratio with room for none": (
        {
            **federated(),
            "lora.target_modules": ["all-linear"],
            "allocator": {"kind": "fixed_ratio", "latency_limit_s": 1.0, "sparsification_ratio": 0.001},
        },
        "allocator.sparsification_ratio: 0.001 of ",
    ),
    "ranks that differ under an average of factors": (
        {"scheme.aggregator": {"kind": "fedavg", "client_ranks": [2, 4]}},
        "client_ranks 2, 4 differ, and 'fedavg' averages factors number by number; give all clients one rank "
        "by lora.rank, or take one of 'flora', 'hetlora', 'product_svd'",
    ),
    "a client's rank above the model's": (
        {"scheme.aggregator": {"kind": "hetlora", "client_ranks": [2, 8]}},
        "scheme.aggregator.client_ranks: 8 is more than lora.rank 4, the rank of the global adapter; "
        "raise lora.rank to 8, or lower the clients'.",
    ),
    "ranks that differ under an allocator of ratios": (
        {**federated(aggregator={"kind": "hetlora", "client_ranks": [2, 4]}), "allocator": TSFA},
        RATIOS + "one share is not the same bits of clients whose ranks are 2, 4; give",
    ),
    "ratios for a codec that sends everything": (
        {**federated(adapter_codec={"kind": "none"}), "allocator": TSFA},
        RATIOS + "the adapter_codec 'none' leaves nothing out; take one that can",
    ),
    "ratios for a codec that counts without places": (
        {**federated(adapter_codec={"kind": "top_k"}), "allocator": TSFA},
        RATIOS + "scheme.adapter_codec.ratio_of = 'numbers' is a share without the places",
    ),
    "ratios for a codec that rounds up": (
        {**federated(adapter_codec={"kind": "soft", "scope": "module"}), "allocator": TSFA},
        RATIOS + "scheme.adapter_codec.scope = 'module' rounds the share up in every matrix; take 'global'",
    ),
    "ratios behind a cut": (
        {"scheme.adapter_codec": {"kind": "soft"}, "allocator": TSFA},
        RATIOS + "nobody can tell clients of the scheme 'split_federated'; take the scheme 'federated'",
    ),
    "pairs of which one half stays at home": (
        federated(aggregator={"kind": "fedsa"}),
        "scheme.adapter_codec: 'soft' cannot send what the aggregator 'fedsa' averages: A alone travels in "
        "round 1, and a rank pair has a part in both factors",
    ),
    "a regulariser that blinds the codec": (
        federated(
            adapter_codec={"kind": "soft", "importance": "norm"},
            regularizer={"kind": "orthogonality", "form": "id"},
        ),
        "regularizer.form = 'id' makes all rank pairs equally long",
    ),
}


@pytest.mark.parametrize("case", [*ONE_FAULT, *WIRELESS], ids=str)
def test_a_fault_is_one_line_with_its_place_and_the_way_out(case, write, told):
    changes, expected = (ONE_FAULT | WIRELESS)[case]
    (line,) = told(write(changes))
    assert expected in line


def test_every_fault_of_a_file_is_told_at_once(write, told):
    lines = told(
        write({"lora.rnk": 4, "lora.dropout": 2.0, "radio.fading": {"kind": "x"}, "scheme.num_rounds": 0})
    )
    assert len(lines) == 4
    assert all(".toml: " in line for line in lines)


def test_faults_beyond_the_file_are_told_together_where_one_does_not_follow_from_another(write, told):
    lines = told(
        write(
            {
                "model.cut_layer": 9,
                "lora.target_modules": ["nothing"],
                "radio.main_uplink.num_subchannels": 1,
                "radio.federated_uplink.num_subchannels": 2,
                "data.partition": {"kind": "group", "by": "colour"},
            }
        )
    )
    places = ("lora.target_modules", "model.cut_layer", "federated_uplink", "main_uplink", "'colour'")
    assert len(lines) == len(places)
    assert all(any(place in line for line in lines) for place in places)


def test_too_little_memory_on_both_sides_is_two_faults(write, told):
    lines = told(write({"main_server.memory_bytes": 1000.0, "clients.memory_bytes": 2000.0}))
    assert [line.partition(":")[0] for line in lines] == ["main-server", "client-0"]


def test_memory_is_held_against_the_cut_that_stays_after_an_event(tiny_scenario):
    """An allocator that takes over would cut deeper, and may not: what its cut needs is nobody's fault."""
    base = tiny_scenario()
    task = prepare(base).task
    here, deeper = (task.client_memory_bytes(cut, base.lora.rank) for cut in (1, 2))
    assert here < deeper
    takes_over = {"at_s": 0.01, "set": {"allocator": {"kind": "nested", "cut_layers": [2]}}}
    changes = {"clients.memory_bytes": 0.5 * (here + deeper)}
    assert check(tiny_scenario({**changes, "events": [takes_over]})) == []
    (fault,) = check(tiny_scenario({**changes, "model.cut_layer": 2, "events": [takes_over]}))
    assert fault.startswith("client-0: ")


def test_a_missing_column_is_told_with_the_known_ones(write, told, tmp_path):
    (tmp_path / "texts.csv").write_text("prompt,text\na,b\nc,d\n" * 20)
    source = {"kind": "file", "train_path": "texts.csv", "test_fraction": 0.5, "target_column": "txt"}
    (line,) = told(write({"data.source": source}))
    assert "texts.csv: no column 'txt'; known: prompt, text; did you mean 'text'?" in line


def test_text_that_is_not_utf_8_is_told_with_its_byte(write, told, tmp_path):
    (tmp_path / "texts.csv").write_bytes("text\nein M\u00e4dchen\n".encode("latin-1"))
    source = {"kind": "file", "train_path": "texts.csv", "test_fraction": 0.5}
    (line,) = told(write({"data.source": source}))
    assert "texts.csv: byte 10 (line 2) is not UTF-8" in line


@pytest.fixture
def model_folder(tmp_path, tiny_scenario, tokenizer_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(tiny_scenario().model.base.config))
    (folder / "tokenizer.json").write_bytes(tokenizer_path.read_bytes())
    return folder


def test_a_broken_safetensors_file_is_refused_before_anything_is_made(write, told, model_folder):
    (model_folder / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00nonsense")
    (line,) = told(write({"model.base": {"kind": "folder", "path": "model"}}))
    assert "model.safetensors is damaged" in line


def test_a_folder_with_only_pickled_weights_is_refused(write, told, model_folder):
    (model_folder / "pytorch_model.bin").write_bytes(b"pickle")
    (line,) = told(write({"model.base": {"kind": "folder", "path": "model"}}))
    assert "holds its weights as a pickle only (pytorch_model.bin)" in line


def test_a_folder_without_weights_is_refused(write, told, model_folder):
    (line,) = told(write({"model.base": {"kind": "folder", "path": "model"}}))
    assert "holds no weights" in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"seed = \n", "bad.toml: is not TOML"),
        (b"name = '\xff'\n", "bad.toml: is not UTF-8 text at byte 8"),
    ],
)
def test_a_file_that_is_no_scenario_is_one_line(content, expected, told, tmp_path):
    (tmp_path / "bad.toml").write_bytes(content)
    (line,) = told(tmp_path / "bad.toml")
    assert expected in line


def test_a_file_that_is_not_there_is_one_line(told, tmp_path):
    (line,) = told(tmp_path / "gone.toml")
    assert line == f"{tmp_path / 'gone.toml'}: there is no such file."


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("radio.bandwith_hz=1", "--set: radio.bandwith_hz: no such setting"),
        ("lora.rank=0", "--set: lora.rank: should be greater than 0, got 0"),
        ("lora.rank", "--set lora.rank: must be path=value"),
    ],
)
def test_a_bad_change_is_one_line_that_names_the_option(option, expected, write, told):
    (line,) = told(write(), "--set", option)
    assert expected in line


def test_an_existing_run_folder_is_left_as_it_is(write, capsys, tmp_path):
    file = write()
    assert answer(["run", str(file), "--out", str(tmp_path / "run"), "--timing-only"]) == 0
    before = _snapshot(tmp_path)
    capsys.readouterr()
    assert answer(["run", str(file), "--out", str(tmp_path / "run"), "--timing-only"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert "exists already" in lines[0]
    assert _snapshot(tmp_path) == before


def test_a_file_where_the_run_folder_should_be_is_left_as_it_is(write, capsys, tmp_path):
    (tmp_path / "taken").write_text("mine")
    assert answer(["run", str(write()), "--out", str(tmp_path / "taken"), "--timing-only"]) == 2
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["rum", "file.toml"],
        ["run"],
        ["run", "file.toml", "--sed", "3"],
        ["run", "file.toml", "--seed", "three"],
        ["run", "file.toml", "--seed", "-1"],
        ["explain", "folder", "first"],
        ["timeline", "no/such/folder"],
        ["timeline", "no/such/folder", "--rounds", "4:2"],
        ["explain", "no/such/folder", "3"],
        ["parts", "fadding"],
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_is_one_line_and_status_2(arguments, capsys):
    assert answer(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
