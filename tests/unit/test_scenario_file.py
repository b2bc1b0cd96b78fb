"""The scenario file: every fault told at once, changes by path, and a file that comes back as it was."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.errors import ScenarioError
from cosim.scenario.after_events import becomes
from cosim.scenario.build import check, prepare
from cosim.scenario.catalogue import families
from cosim.scenario.inputs import paths_in
from cosim.scenario.load import change, load, parse_change, run_hash, to_dict, to_toml
from cosim.scenario.settings import Scenario

PLAIN = Scenario(name="plain")
SCENARIOS = Path(__file__).parents[2] / "scenarios"

EVERY_PART = [
    pytest.param(family.place, {**example, "kind": kind}, id=f"{family.place}-{kind}-{number}")
    for family in families()
    for kind, part in family.parts.items()
    for number, example in enumerate(part.examples)
]


@pytest.fixture
def written(tmp_path):
    """Write a scenario file and return its path."""

    def write(text, name="bad.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path):
    """Return what is told of a file, line by line, without its name."""
    with pytest.raises(ScenarioError) as told:
        load(path)
    lines = str(told.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


# Faults


def test_every_fault_of_a_file_is_told_at_once_with_place_value_and_way_out(written):
    path = written(
        """
        seed = -1
        nmae = "x"
        [scheme]
        kind = "split_federatd"
        [clients]
        count = 0
        clok_hz = 1
        clock_hz = -3
        [main_server]
        clock_hz = { kind = "uniform", low = 3, high = 1 }
        [radio]
        noise_figure_db = "loud"
        fading = { kind = "rician", k_facto = 3.0 }
        [radio.main_uplink]
        bandwith_hz = 3
        num_subchannels = 2.5
        [data]
        source = { kind = "embedded", num_trian = 3 }
        partition = 3
        [model]
        base = { kind = "folder" }
        [training]
        optimizer = { learning_rate = 1 }
        """
    )
    assert sorted(faults_of(path)) == [
        "clients.clock_hz: should be greater than 0, got -3",
        "clients.clok_hz: no such setting; did you mean 'clock_hz'?",
        "clients.count: should be greater than 0, got 0",
        "data.partition: must be a table, got 3",
        "data.source.num_trian: no such setting; did you mean 'num_train'?",
        "main_server.clock_hz: low <= high must hold, got low = 3.0 and high = 1.0",
        "model.base.path: must be given",
        "nmae: no such setting; did you mean 'name'?",
        "radio.fading.k_facto: no such setting; did you mean 'k_factor'?",
        "radio.fading.k_factor: must be given",
        "radio.main_uplink.bandwith_hz: no such setting; did you mean 'bandwidth_hz'?",
        "radio.main_uplink.num_subchannels: should be a valid integer, got 2.5",
        "radio.noise_figure_db: should be a valid number, got 'loud'",
        "scheme: no kind 'split_federatd'; known: asynchronous, buffered_asynchronous, centralized, "
        "federated, parallel_split, pruned_federated, sequential_split, split_federated; did you mean "
        "'split_federated'?",
        "seed: should be greater than or equal to 0, got -1",
        'training.optimizer: needs a kind, such as { kind = "..." }; `cosim parts` lists them',
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("seed = true", "seed: should be a valid integer, got True"),
        ("training.workers = 0", "training.workers: should be greater than 0 or 'auto', got 0"),
        (
            'allocator = { kind = "equal", reallocate = 2 }',
            "allocator.reallocate: should be 'once', 'every_round' or 'every_block' or a table, got 2",
        ),
        (
            'allocator = { kind = "equal", reallocate = { gain_change_db = 0 } }',
            "allocator.reallocate.gain_change_db: should be greater than 0, got 0",
        ),
        ('seed = "5"', "seed: should be a valid integer, got '5'"),
        ("seed = 5.0", "seed: should be a valid integer, got 5.0"),
        ("radio.noise_figure_db = true", "radio.noise_figure_db: should be a valid number, got True"),
        ("radio.noise_figure_db = inf", "radio.noise_figure_db: should be a finite number, got inf"),
        ("radio.noise_figure_db = nan", "radio.noise_figure_db: should be a finite number, got nan"),
        (
            "radio.main_downlink.modelled = 1",
            "radio.main_downlink.modelled: should be a valid boolean, got 1",
        ),
        (
            "radio.antenna_gain_db = 1e6",
            "radio.antenna_gain_db: should be less than or equal to 400, got 1000000.0",
        ),
        (
            "clients.max_tx_power_dbm = -1e5",
            "clients.max_tx_power_dbm: should be greater than or equal to -400, got -100000.0",
        ),
        (
            "radio.fading = { kind = 'rayleigh_block', coherence_time_s = 1e300 }",
            "radio.fading.coherence_time_s: should be less than or equal to 1000000000, got 1e+300",
        ),
        ("clients = []", "clients: must have at least 1 entry, got []"),
        ("clients = [{ count = 1 }, 3]", "clients.1: must be a table, got 3"),
        (
            "scheme = { kind = 'federated', update = { kind = 'clip' } }",
            "scheme.update: must be a list, got {'kind': 'clip'}",
        ),
        (
            "clients = [{ count = 1 }, { conut = 3 }]",
            "clients.1.conut: no such setting; did you mean 'count'?",
        ),
        ("radio = 3", "radio: must be a table, got 3"),
        ("zzz = 3", "zzz: no such setting"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_and_never_guessed_at(written, line, told):
    assert faults_of(written(line)) == [told]


def test_a_whole_number_may_stand_where_a_number_is_asked_for(written):
    assert load(written("radio.noise_figure_db = 7")).radio.noise_figure_db == 7.0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"seed = ", "is not TOML"),
        (b"seed = 1\nseed = 2", "is not TOML"),
        (b'description = "\xff"', "is not UTF-8 text at byte 15"),
    ],
)
def test_a_file_that_is_no_toml_is_told_in_one_line(tmp_path, content, told):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    (line,) = faults_of(path)
    assert told in line


def test_a_missing_file_and_a_folder_are_told_in_one_line(tmp_path):
    assert faults_of(tmp_path / "none.toml") == ["there is no such file."]
    (line,) = faults_of(tmp_path)
    assert line.startswith("cannot be read")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.cut_layer": 3}, "model.cut_layer: 3 leaves nothing for the main server"),
        ({"lora.target_modules": ["c_atn"]}, "did you mean 'c_attn'?"),
        ({"data.sequence_length": 100}, "data.sequence_length: 100 tokens are more than the model's 64"),
        ({"clients.count": 30}, "radio.main_uplink.num_subchannels: 20 cannot serve 30 clients"),
        ({"clients.count": 41}, "there are 40"),
        ({"clients.memory_bytes": 10.0}, "client-0: training with cut_layer 1 and rank 4 needs"),
        ({"main_server.memory_bytes": 10.0}, "main-server: training with"),
        (
            {"radio.placement": {"kind": "given", "positions_m": [[1.0, 2.0]]}},
            "1 position(s) for 3 client(s)",
        ),
        ({"model.base.config": {"model_type": "gpt3"}}, "a model_type 'gpt3' is known neither here"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_the_run(tiny_scenario, changes, told):
    scenario = tiny_scenario(changes)
    faults = check(scenario)
    assert any(told in fault for fault in faults)
    with pytest.raises(ScenarioError):
        prepare(scenario)


def test_a_scenario_without_fault_has_nothing_told(tiny_scenario):
    assert check(tiny_scenario()) == []


# Changes


def test_a_change_is_checked_as_a_file_would_be():
    with pytest.raises(ScenarioError, match=r"^--set: radoi: no such setting; did you mean 'radio'\?$"):
        change(PLAIN, {"radoi.noise_figure_db": 3.0})
    with pytest.raises(ScenarioError, match="should be greater than 0, got -1"):
        change(PLAIN, {"clients.count": -1})


def test_a_change_leaves_the_scenario_it_began_with_alone():
    before = to_dict(PLAIN)
    change(PLAIN, {"radio.noise_figure_db": 3.0, "clients.count": 9})
    assert to_dict(PLAIN) == before


def test_a_new_kind_starts_a_fresh_table_whatever_the_order_of_the_changes():
    changes = {"training.optimizer.momentum": 0.5, "training.optimizer.kind": "sgd"}
    for some in (changes, dict(reversed(changes.items()))):
        optimizer = change(PLAIN, some).training.optimizer
        assert optimizer.kind == "sgd"
        assert optimizer.momentum == 0.5


def test_the_same_kind_again_keeps_the_settings():
    slower = change(PLAIN, {"training.optimizer.learning_rate": 0.5})
    assert change(slower, {"training.optimizer.kind": "adamw"}) == slower


def test_a_group_of_clients_is_changed_by_its_number():
    two = change(PLAIN, {"clients": [{"count": 2}, {"count": 3}]})
    assert change(two, {"clients.1.count": 7}).num_clients == 9
    with pytest.raises(ScenarioError, match="'2' must be a number from 0 to 1"):
        change(two, {"clients.2.count": 7})
    with pytest.raises(
        ScenarioError, match=r"'clients' is a list; name one of its tables, such as clients\.0\.count\.$"
    ):
        change(two, {"clients.count": 7})


def test_a_path_through_a_plain_value_is_refused():
    with pytest.raises(ScenarioError, match=r"^--set seed\.x"):
        change(PLAIN, {"seed.x": 1})


def test_a_setting_is_left_out_again_by_giving_it_nothing():
    widths = {"radio.main_uplink.subchannel_bandwidths_hz": [1e5] * 20}
    path, nothing = parse_change("radio.main_uplink.bandwidth_hz=")
    assert change(PLAIN, {**widths, path: nothing}).radio.main_uplink.bandwidth_hz is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=3", 3),
        ("a.b=3.5", 3.5),
        ("a.b=true", True),
        ("a.b=rician", "rician"),
        ("a.b='3'", "3"),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b={ kind = 'x', y = 1 }", {"kind": "x", "y": 1}),
        ("a.b=x=y", "x=y"),
        (" a.b = 3 ", 3),
    ],
)
def test_a_change_on_the_command_line_has_the_values_of_toml(text, value):
    assert parse_change(text) == ("a.b", value)


@pytest.mark.parametrize("text", ["a.b", "=3", "  =3"])
def test_a_change_without_path_or_value_is_refused(text):
    with pytest.raises(ScenarioError, match="must be path=value"):
        parse_change(text)


# Paths


def test_relative_paths_count_from_the_file_and_are_written_out_whole(written, tmp_path, monkeypatch):
    folder = tmp_path / "deep"
    folder.mkdir()
    path = folder / "x.toml"
    path.write_text('[data.source]\nkind = "file"\ntrain_path = "../texts/a.csv"\ntest_fraction = 0.1\n')
    monkeypatch.chdir("/")
    scenario = load(path)
    assert scenario.data.source.train_path == tmp_path / "texts" / "a.csv"
    again = load(written(to_toml(scenario), "elsewhere.toml"))
    assert again.data.source.train_path == tmp_path / "texts" / "a.csv"


def test_a_path_given_on_the_command_line_counts_from_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = change(PLAIN, {"model.base": {"kind": "folder", "path": "models/x"}}).model.base
    assert base.path == tmp_path / "models" / "x"


# There and back


def assert_comes_back(scenario, tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(to_toml(scenario), encoding="utf-8")
    again = load(path)
    assert again == scenario
    assert to_toml(again) == to_toml(scenario)
    assert run_hash(again) == run_hash(scenario)


def test_a_run_is_another_when_a_file_it_names_is_written_anew(tmp_path):
    table = tmp_path / "rounds.json"
    changes = {"allocator": {"kind": "fedsllm", "rounds_table": str(table)}}
    scenario = change(PLAIN, changes)
    hashes = [run_hash(scenario)]
    for content in ("{}", "[]", "{}"):
        table.write_text(content)
        os.utime(table, ns=(len(hashes), len(hashes)))
        hashes.append(run_hash(scenario))
    assert len(set(hashes)) == 3
    assert hashes[1] == hashes[3]
    assert [str(path) for path in paths_in(scenario)] == [str(table)]
    assert list(paths_in(PLAIN)) == []


@pytest.mark.parametrize(("place", "part"), EVERY_PART)
def test_every_part_comes_back_from_its_file_as_it_was(place, part, tmp_path):
    assert_comes_back(change(PLAIN, {place: part}), tmp_path)


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_scenario_of_the_project_comes_back_from_its_file(path, tmp_path):
    scenario = load(path)
    assert scenario.name == path.stem
    assert scenario.description
    assert_comes_back(scenario, tmp_path)


numbers = st.floats(min_value=1e-9, max_value=1e15, allow_nan=False)
values = st.one_of(
    numbers,
    st.builds(lambda low, wide: {"kind": "uniform", "low": low, "high": low + wide}, numbers, numbers),
    st.builds(lambda median: {"kind": "log_normal", "median": median, "sigma": 0.5}, numbers),
    st.builds(lambda some: {"kind": "choice", "values": some}, st.lists(numbers, min_size=1, max_size=3)),
)
groups = st.fixed_dictionaries(
    {"count": st.integers(1, 50), "clock_hz": values}, optional={"memory_bytes": values}
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
some_changes = st.fixed_dictionaries(
    {},
    optional={
        "description": texts,
        "data.prompt_end": texts,
        "seed": st.integers(0, 2**63 - 1),
        "clients": st.lists(groups, min_size=1, max_size=3),
        "main_server.clock_hz": values,
        "radio.noise_psd_dbm_per_hz": st.floats(-200, -100),
        "radio.main_uplink": st.lists(numbers, min_size=1, max_size=4).map(
            lambda widths: {"subchannel_bandwidths_hz": widths}
        ),
        "lora.target_modules": st.lists(st.sampled_from(["c_attn", "c_fc"]), min_size=1, max_size=2),
        "model.base": st.dictionaries(st.sampled_from(["n_layer", "x y", "ä.b"]), st.integers(1, 9)).map(
            lambda config: {"kind": "random", "config": {"model_type": "gpt2", **config}}
        ),
        "events": st.lists(
            st.fixed_dictionaries(
                {"at_s": st.floats(1e-9, 1e9), "set": st.just({"radio.noise_figure_db": 3.5})}
            ),
            max_size=2,
        ),
    },
)


@settings(deadline=None, max_examples=80)
@given(changes=some_changes)
def test_any_scenario_comes_back_from_its_file_as_it_was(changes, tmp_path_factory):
    assert_comes_back(change(PLAIN, changes), tmp_path_factory.mktemp("file"))


def test_the_resolved_file_has_every_setting_that_is_not_left_out(tmp_path):
    resolved = tomllib.loads(to_toml(PLAIN))
    assert resolved["radio"]["main_downlink"]["modelled"] is False
    assert resolved["training"]["optimizer"]["kind"] == "adamw"
    assert "alpha" not in resolved["lora"]


def test_the_hash_of_a_run_moves_with_every_setting():
    hashes = {
        run_hash(scenario)
        for scenario in (
            PLAIN,
            change(PLAIN, {"seed": 1}),
            change(PLAIN, {"radio.noise_figure_db": 9.5}),
            change(PLAIN, {"clients.count": 6}),
        )
    }
    assert len(hashes) == 4


# Events


def test_an_event_changes_what_it_names_and_nothing_else():
    event = {"at_s": 2.0, "set": {"radio.noise_figure_db": 3.0}}
    begun = change(PLAIN, {"radio.antenna_gain_db": 4.0, "events": [event]})
    ((at_s, after),) = becomes(begun)
    assert at_s == 2.0
    assert after.radio == begun.radio.model_copy(update={"noise_figure_db": 3.0})


def test_a_path_without_quotes_in_an_event_means_the_same(written):
    text = "[radio]\nantenna_gain_db = 4\n[[events]]\nat_s = 2\nset = { {} = 3.0 }\n"
    quoted = load(written(text.replace("{}", '"radio.noise_figure_db"'), "x.toml"))
    bare = load(written(text.replace("{}", "radio.noise_figure_db"), "x.toml"))
    assert quoted == bare
    assert becomes(bare)[0][1].radio.antenna_gain_db == 4.0


def test_an_event_that_changes_what_is_learned_is_refused():
    begun = change(PLAIN, {"events": [{"at_s": 2.0, "set": {"lora.rank": 3}}]})
    with pytest.raises(ScenarioError, match=r"events\.0\.set: lora\.rank cannot change during a run"):
        becomes(begun)
