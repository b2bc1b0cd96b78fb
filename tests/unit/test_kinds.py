"""Another kind in a table: what both kinds have is kept, the rest is told, in any order of the changes."""

import subprocess
import sys
from itertools import permutations

import pytest

from cosim.cli.listing import every_family
from cosim.errors import ScenarioError
from cosim.leaves import leaves, named, written_long
from cosim.parts import part_of
from cosim.scenario.catalogue import families
from cosim.scenario.differences import event_switches, switches
from cosim.scenario.kinds import is_default
from cosim.scenario.load import change, load, to_dict, to_toml
from cosim.scenario.settings import Scenario
from cosim.studies.paths import at
from cosim.studies.plan import make_plan
from cosim.studies.settings import Study

PLAIN = Scenario(name="plain")
FADING = {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.05, "selectivity": "flat"}}


def switched(before, changes):
    """Return the changed scenario, and the one line told of it."""
    after = change(before, changes)
    told = switches(before, after, named(changes))
    return after, "; ".join(map(str, told))


def written_long_of(scenario):
    """Return a scenario written out, ``[lora]`` as the ``[trainable]`` it is short for."""
    return written_long(to_dict(scenario))


@pytest.mark.parametrize("one", every_family(), ids=lambda one: one.place)
def test_a_part_of_cosim_is_in_the_file_of_its_kind_and_found_by_it(one):
    for kind, part in one.parts.items():
        assert part.__module__ == f"{one.base.__module__}.{kind}"
        assert part_of(one.base, kind) is part
    assert part_of(one.base, "__init__") in (None, *one.parts.values())
    assert part_of(one.base, "x" * 300) in (None, *one.parts.values())


def test_a_scenario_loads_the_parts_it_names_and_no_others():
    code = (
        "import sys; from cosim.scenario.load import change; from cosim.scenario.settings import Scenario;"
        "change(Scenario(name='x'), {'radio.rate': {'kind': 'truncated_shannon'}});"
        "loaded = {one.rpartition('.')[2] for one in sys.modules if one.startswith('cosim.')};"
        "sys.exit(not ('truncated_shannon' in loaded and not {'exact', 'qsgd', 'flora'} & loaded))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("family", families(), ids=lambda one: one.place)
def test_between_any_two_kinds_settings_of_both_are_kept_and_all_others_told(family):
    written = written_long_of if family.place == "trainable" else to_dict
    pairs = list(permutations(family.parts.items(), 2))
    for (_, old), (kind, new) in pairs[:: len(pairs) // 40 + 1]:
        before = change(PLAIN, {family.place: {"kind": old.model_fields["kind"].default, **old.examples[-1]}})
        all_before = written(before)
        was = at(all_before, family.place)
        needed = {
            f"{family.place}.{name}": value
            for name, value in new.examples[0].items()
            if new.model_fields[name].is_required() and name not in was
        }
        changes = {**needed, f"{family.place}.kind": kind}
        try:
            after = change(before, changes)
        except ScenarioError:
            continue  # such as two ways to say one thing, of which neither was given
        all_after = written(after)
        now = at(all_after, family.place)
        told = {one.path: one for one in switches(before, after, named(changes))}
        kept = told[family.place].kept if family.place in told else {}
        lost = told[family.place].lost if family.place in told else {}
        for name, value in was.items():
            if (
                name != "kind"
                and not is_default(old, name, value)
                and f"{family.place}.{name}" not in changes
            ):
                assert name in lost or now[name] == value, (family.place, kind, name)
                assert name not in kept or kept[name] == value
        for path, value in leaves(all_before):
            if not path.startswith(f"{family.place}.") and ".set." not in path:
                assert at(all_after, path) == value, path


def test_a_scheme_keeps_its_rounds_and_a_channel_its_coherence_time():
    before = change(PLAIN, {"scheme.num_rounds": 4, "scheme.local_steps": 4, **FADING})
    after, told = switched(before, {"scheme.kind": "federated"})
    assert (after.scheme.num_rounds, after.scheme.local_steps) == (4, 4)
    assert told.startswith("scheme: split_federated -> federated; kept num_rounds = 4, local_steps = 4")
    after, told = switched(before, {"radio.fading.kind": "nakagami", "radio.fading.m": 2.0})
    assert after.radio.fading.coherence_time_s == 0.05
    assert told == (
        "radio.fading: rayleigh_block -> nakagami; kept selectivity = flat, coherence_time_s = 0.05"
    )
    assert switched(before, {"radio.fading.kind": "none"})[1] == (
        "radio.fading: rayleigh_block -> none; kept selectivity = flat; lost coherence_time_s = 0.05"
    )


def test_an_allocator_keeps_its_limit():
    before = change(PLAIN, {"allocator": {"kind": "tsfa", "latency_limit_s": 0.5}})
    assert change(before, {"allocator.kind": "round_deadline"}).allocator.latency_limit_s == 0.5


def test_a_default_of_the_old_kind_is_none_of_the_new_one():
    before = change(PLAIN, {"allocator.kind": "random"})
    assert (
        change(before, {"allocator.kind": "fedsllm"}).allocator
        == change(PLAIN, {"allocator.kind": "fedsllm"}).allocator
    )
    _, told = switched(PLAIN, {"training.optimizer.kind": "sgd"})
    assert "by default weight_decay = 0" in told


def test_inner_kinds_and_tables_are_kept_with_their_settings():
    codec = {"scheme.adapter_codec": {"kind": "qsgd", "levels": 7}}
    before = change(PLAIN, codec)
    after = change(before, {"scheme.kind": "federated", "scheme.adapter_codec.bucket_size": 64})
    assert (after.scheme.adapter_codec.levels, after.scheme.adapter_codec.bucket_size) == (7, 64)
    assert "lost adapter_codec = qsgd(levels=7" in switched(before, {"scheme.kind": "centralized"})[1]


def test_a_setting_that_the_new_kind_does_not_accept_is_lost():
    before = change(
        PLAIN, {"scheme.adapter_codec": {"kind": "top_k", "scope": "tensor", "sparsification_ratio": 0.3}}
    )
    after, told = switched(before, {"scheme.adapter_codec": {"kind": "soft"}})
    assert (after.scheme.adapter_codec.sparsification_ratio, after.scheme.adapter_codec.scope) == (
        0.3,
        "global",
    )
    assert "kept sparsification_ratio = 0.3" in told


def test_a_kept_setting_gives_way_to_what_was_set():
    before = change(PLAIN, {"radio.fading": {"kind": "jakes", "doppler_hz": 3.0, "num_sinusoids": 9}})
    speed = {"radio.fading": {"kind": "jakes", "speed_m_per_s": 3.0, "carrier_hz": 2e9}}
    after, told = switched(before, speed)
    assert (after.radio.fading.doppler_hz, after.radio.fading.num_sinusoids) == (None, 9)
    assert told == "radio.fading: lost doppler_hz = 3"


def test_changes_mean_the_same_in_any_order_and_as_a_table():
    before = change(PLAIN, FADING)
    changes = {
        "radio.fading.kind": "rician",
        "radio.fading.k_factor": 3.0,
        "scheme.adapter_codec.levels": 5,
        "scheme.kind": "federated",
        "scheme.adapter_codec.kind": "qsgd",
    }
    expected = change(before, changes)
    for some in permutations(changes.items()):
        assert change(before, dict(some)) == expected
    as_tables = {
        "scheme": {"kind": "federated", "adapter_codec": {"kind": "qsgd", "levels": 5}},
        "radio": {"fading": {"kind": "rician", "k_factor": 3.0}},
    }
    assert change(before, as_tables) == expected


def test_a_run_folder_gives_the_same_answer_as_the_file_it_was_made_from(tmp_path):
    file = tmp_path / "short.toml"
    file.write_text(
        "scheme = { kind = 'split_federated', num_rounds = 10, local_steps = 3 }\n"
        "allocator = { kind = 'random' }\n"
    )
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(to_toml(load(file)))
    for changes in ({"scheme.kind": "federated"}, {"allocator.kind": "fedsllm"}):
        assert change(load(file), changes) == change(load(resolved), changes)


def test_an_event_with_a_kind_keeps_and_tells_too():
    event = {"at_s": 2.0, "set": {"radio.fading.kind": "nakagami", "radio.fading.m": 2.0}}
    ((at_s, one),) = event_switches(change(PLAIN, {**FADING, "events": [event]}))
    assert at_s == 2.0
    assert "coherence_time_s = 0.05" in str(one)


def test_an_unknown_kind_is_refused_in_one_line():
    with pytest.raises(ScenarioError, match=r"^--set: scheme: no kind 'x'; known: .*$"):
        change(PLAIN, {"scheme.kind": "x"})


# Studies


@pytest.fixture
def plan(tmp_path):
    """Return what makes a plan of a base with other settings, and of a study."""

    def planned(base=None, **study):
        (tmp_path / "base.toml").write_text(to_toml(change(PLAIN, base or {})))
        return make_plan(Study.model_validate({"name": "s", "base": tmp_path / "base.toml", **study}))

    return planned


def test_schemes_are_compared_with_the_same_rounds(plan):
    made = plan(
        {"scheme.num_rounds": 4, "scheme.local_steps": 4},
        vary={"grid": {"scheme.kind": ["split_federated", "federated"]}},
    )
    assert {(case.scenario.scheme.num_rounds, case.scenario.scheme.local_steps) for case in made.cases} == {
        (4, 4)
    }
    assert all(one.is_default for one in made.unvaried)
    assert str(made.switches[0]).startswith("scheme: split_federated -> federated; kept num_rounds = 4")


def test_set_applies_to_every_case_after_vary(plan):
    made = plan(
        FADING,
        set={"radio.fading.coherence_time_s": 0.2, "radio.fading.k_factor": 3.0},
        vary={"grid": {"radio.fading.kind": ["none", "rayleigh_block", "rician"]}},
    )
    fadings = [case.scenario.radio.fading for case in made.cases]
    assert [getattr(one, "coherence_time_s", None) for one in fadings] == [None, 0.2, 0.2]
    assert fadings[2].k_factor == 3.0
    assert [one.path for one in made.unvaried if not one.is_default] == [
        "radio.fading.coherence_time_s",
        "radio.fading.k_factor",
    ]
    assert str(made.unvaried[1]) == "radio.fading.k_factor not there in fading=none and 1 more, 3 in rician"
    assert any("lost coherence_time_s = 0.2" in str(one) for one in made.switches)


def test_what_a_case_varies_wins_over_set(plan):
    made = plan(
        set={"scheme.num_rounds": 7},
        vary={"cases": [{"name": "a", "set": {"scheme.num_rounds": 3}}, {"name": "b"}]},
    )
    assert [case.scenario.scheme.num_rounds for case in made.cases] == [3, 7]


def test_a_setting_of_set_that_no_case_has_is_refused(plan):
    with pytest.raises(ScenarioError, match=r"^s: set: radio\.fading\.k_factor: no case has such a setting"):
        plan(
            set={"radio.fading.k_factor": 3.0},
            vary={"grid": {"radio.fading.kind": ["none", "rayleigh_block"]}},
        )


def test_a_study_without_kinds_differs_in_nothing_else(plan):
    made = plan(vary={"grid": {"radio.noise_figure_db": [3.0, 9.0]}})
    assert (made.switches, made.unvaried) == ((), ())
