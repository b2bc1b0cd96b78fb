"""The plane that every setting says it is of, those of installed parts too.

A setting of the time plane moves no key of what is computed; one of the value plane moves at
least one. Other values are guessed from the type, and taken from the examples of the part.
"""

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow.parquet
import pytest
from PIL import Image
from played_keys import as_decided, moved, play
from pydantic import ValidationError

from cosim.control.allocators import Allocator
from cosim.distributions import Constant, Uniform
from cosim.errors import CosimError
from cosim.learning.codec import Codec
from cosim.parts import OneOf, Table, family
from cosim.scenario.settings import ClientGroup, Scenario
from cosim.schemes import Scheme
from cosim.schemes.task_policy import TaskPolicy
from cosim.testing.folded import each

SVD = {"aggregator": {"kind": "product_svd"}}
"""Beside a codec after which factors do not go with those of another sender."""

GIVEN: dict[str, list[dict[str, Any]]] = {
    "data.source.file": [
        {"train_path": "train.csv", "test_path": "test.csv"},
        {"train_path": "train.csv", "test_fraction": 0.25},
        {"train_path": "lines.txt", "test_fraction": 0.2},
        {"train_path": "semicolon.csv", "test_path": "semicolon.csv", "target_column": "text"},
    ],
    "data.source.chat": [
        {"train_path": "chat.jsonl", "test_path": "other chat.jsonl"},
        {"train_path": "chat.jsonl", "test_fraction": 0.25, "template": "chat.jinja"},
    ],
    "data.source.images": [
        {"train_path": "pictures"},
        {"train_path": "pictures", "test_path": "others"},
        {"train_path": "pictures.parquet"},
    ],
    "model.base.folder": [{"path": "model"}],
    "model.base.random": [],  # it is the tiny scenario's
    "data.partition.group": [{"by": "name"}],
    "availability.intervals": [{"file": "away.csv", "at_start": "skip"}],
    "radio.mobility.path": [{"file": "path.csv"}],
    **{
        f"radio.trace.{kind}": [{"file": "trace.csv", "at_end": "hold", **more}]
        for kind, more in (
            ("gain", {}),
            ("fading", {}),
            ("snr", {"reference_tx_power_dbm": 23.0}),
            ("rate", {}),
        )
    },
    "allocator.given": [
        {
            "links": {
                "main_uplink": {"subchannels": [[0, 2], [1], [3]]},
                "federated_uplink": {"subchannels": [[0], [1], [2]]},
            }
        }
    ],
}
"""Settings of parts whose examples fit another scenario than the tiny one."""

WALK = {"radio.mobility": {"kind": "constant_velocity", "speed_m_per_s": 3.0}}
"""Clients that move."""

SMALL = {"source": {"kind": "embedded", "num_train": 40, "num_test": 8}}

_IMAGES = {
    "model.task": "classification",
    "model.base": {
        "kind": "random",
        "config": {
            "model_type": "vit",
            **dict.fromkeys(("hidden_size", "intermediate_size"), 16),
            **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), 2),
            "image_size": 8,
            "patch_size": 4,
        },
    },
}

BESIDE: dict[str, dict[str, Any]] = {
    "data.source.shapes": _IMAGES,
    "data.source.images": _IMAGES,
    "availability.": {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}},
    "radio.medium": {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}},
    "radio.medium.fluid.attempts": {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-3}},
    "radio.medium.fluid.backoff_db": {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-3}},
    "clients.battery": {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}},
    "radio.medium.over_the_air.truncation_db": {"radio.fading": {"kind": "rayleigh_block"}},
    "radio.fading.jakes.follow_mobility": WALK,
    "radio.fading.tdl.follow_mobility": WALK,
    "radio.fading.cdl.follow_mobility": WALK,
    "radio.shadowing.tr_38901": {"radio.path_loss": {"kind": "tr_38901_umi"}},
    "scheme.federated.privacy": {"scheme.update": [{"kind": "clip"}, {"kind": "noise", "std": 2.0}]},
    "scheme.federated.local_rule.scaffold": {"training.optimizer": {"kind": "sgd"}},
    "radio.medium.over_the_air.truncation": {"radio.fading": {"kind": "rayleigh_block"}},
    "trainable.": {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}},
    "task_policy.": {
        "scheme": {"kind": "asynchronous", "num_rounds": 7, "local_steps": 2},
        "data": None,
        "tasks.a.data": {**SMALL, "sequence_length": 48, "drift": {"duration_s": 10.0}},
        "tasks.b.data": {**SMALL, "sequence_length": 12, "drift": {"duration_s": 100.0}},
        "clients.clock_hz": 1e7,
    },
    "training.max_group": {"training.executor": "batched"},
}
"""What must be so for a setting to matter."""

FIRST = "scheme.federated."
"""Where lists of parts are tried with all their settings; at other places with each kind alone."""

SHORT = {"trainable.lora"}
"""What another table is short for, and becomes when it is read."""

OTHERS: dict[str, list[Any]] = {
    "adamw.betas": [[0.8, 0.999]],
    "clients.battery": [{"capacity_j": 1e-6}],
    "aggregator.*.client_ranks": [[2, 4], [4]],
    "capacitance_f": [1e-9],
    "chat.template": ["other chat.jinja"],
    "chat.test_path": ["chat.jsonl"],
    "chat.train_path": ["other chat.jsonl"],
    "csi.*.links": [["main_uplink"]],
    "cut_layers": [[1]],
    "data.prompt_end": [" = "],
    "deadline_s": [1e3, 1e-9],
    "data.drift": [{"window": 0.5, "duration_s": 1e3}],
    "description": ["another one"],
    "tdd.pattern": ["DU", "UD"],
    "dirichlet.min_examples": [10],
    "federated.stages": [[{"num_rounds": 1, "trainable": {"kind": "sparse"}}]],
    "track.*.experiment": ["another"],
    "track.*.folder": ["elsewhere"],
    "track.*.project": ["another"],
    "track.*.run_name": ["another"],
    "track.*.uri": ["elsewhere"],
    "fixed.tasks": [["b", "a"], ["a", "b", "a"]],
    "federated.privacy": [{"epsilon": 6.0}],
    "file.delimiter": [";"],
    "file.group_column": ["topic"],
    "file.label_column": ["topic"],
    "file.prompt_column": ["speaker"],
    "file.separator": [" is "],
    "file.slots_column": ["slots"],
    "file.target_column": ["speaker"],
    "file.test_path": ["train.csv"],
    "file.train_path": ["test.csv"],
    "flower.partitioner": ["linear", "iid"],
    "flower.settings": [{"num_classes_per_partition": 2}],
    "folder.path": ["other model"],
    "images.image_column": ["other image"],
    "images.label_column": ["other label"],
    "images.test_path": ["others", "pictures"],
    "images.train_path": ["others"],
    "path.file": ["other path.csv"],
    "intervals.file": ["other away.csv"],
    "main_server.restarts": [[{"at_s": 1e-4, "downtime_s": 0.1}]],
    "federated_server.restarts": [[{"at_s": 1e-4, "downtime_s": 0.1}]],
    "path.max_gap_s": [20.0],
    **{f"trace.{kind}.file": ["other trace.csv"] for kind in ("gain", "fading", "snr", "rate")},
    "given.site_positions_m": [[[10.0, 0.0], [200.0, 0.0]]],
    "given.positions_m": [[[10.0, 0.0], [20.0, 0.0], [30.0, 40.0]]],
    "lora_ranks": [[2]],
    "name": ["other"],
    "lora.blocks": [[1, 2]],
    "lora.target_modules": [["c_attn", "c_fc"]],
    "personal.private": [["lora_A"]],
    "pruned_federated.units": [["columns"]],
    "partition.*.by": ["name", "label"],
    "reflecting.phases": [[1, 0, 1, 1, 0, 1, 0, 0], [1, 1, 1, 1]],
    "reflecting.position_m": [[60.0, 20.0]],
    "random.config": [lambda config: config | {"n_embd": 32}],
    "random.config_path": ["config.json"],
    "random.tokenizer_path": ["tokenizer.json"],
    "slotted.subcarrier_spacing_hz": [15_000],
    "size.fractions": [[0.4, 0.3, 0.2]],
    "clients.table": ["devices.csv"],
    "transport": [{"latency_s": 0.01, "loss": 0.2}],
    "voltages": [[[1e6, 0.6], [1e12, 1.1]]],
    "subchannel_bandwidths_hz": [[1e6, 2e6, 3e6]],
    "task_policy.*.until_s": [5e-4],
    "task_policy.*.evaluate_every_s": [6e-4],
    "tasks": [{"other": {}}],
    "value_per_cost.age_weight": [0.0, 5.0],
    "value_per_cost.drift_weight": [0.0, 50.0],
}
"""Other values of texts, lists and paths, by the end of the setting's name."""

ALONG: dict[str, dict[str, Any]] = {
    "fluid.rate": {"fixed_spectral_efficiency_bit_per_s_per_hz": 11.5},
    "fluid.attempts": {"rate": "known"},
    "fluid.backoff_db": {"rate": "known"},
    "fluid.outage": {"rate": "fixed", "fixed_spectral_efficiency_bit_per_s_per_hz": 11.5},
    "random.config_path": {"config": None},
    "between": {"step_s": 0.01},
    "capacitance_f": {"voltages": [[1e6, 0.6], [1e12, 1.1]]},
    "voltages": {"capacitance_f": 1e-9},
    "follow_mobility": {"doppler_hz": None, "speed_m_per_s": None, "carrier_hz": None},
    "subchannel_bandwidths_hz": {"num_subchannels": None, "bandwidth_hz": None},
}
"""What changes with a setting, by the end of the setting's name."""

OF_EXTRAS = {"radio.medium.slotted.error_rates": "sionna"}
"""Settings that are another value only with a package of an extra."""

HOW_OFTEN = {"training.evaluate_clients"}
"""Settings beside those of schemes that may say how often something is computed."""

ABSENT = {"_hz": 1e6, "_dbm": 60.0, "_s": 0.01, "_bytes": 1e9}
"""Values of settings that are left out, by their unit."""


@dataclass(frozen=True)
class Setting:
    """A setting: its table, where in a file it is, and what puts its table in force; None is a kind."""

    label: str
    table: type[Table]
    path: str
    name: str | None
    given: tuple[dict[str, Any], ...]


def settings_of(table: type[Table], label: str = "", path: str = "", given=({},)) -> Iterator[Setting]:
    """Return all settings in a table and in the parts it may hold."""
    for name, info in table.model_fields.items():
        here, mark = f"{path}{name}", next((one for one in info.metadata if isinstance(one, OneOf)), None)
        inner = ClientGroup if name == "clients" else info.annotation
        if name == "kind" or here == "events":
            continue
        if mark is not None:
            is_list = get_origin(info.annotation) is tuple
            for kind, part in family(mark.base).items():
                below = f"{label}{name}.{kind}"
                if (
                    not getattr(part, "is_fetched", False)
                    and below not in SHORT
                    and (not (package := getattr(part, "package", None)) or find_spec(package))
                ):  # what is fetched is not here
                    found = tries(below, kind, part)
                    filled = [[tried] for tried in found] if is_list else found
                    within = tuple(put(one, here, tried, part) for one in given for tried in filled) or given
                    yield Setting(f"{below} itself", part, here, None, within)
                    if not is_list or label == FIRST:  # the same steps for all
                        inside = f"{here}.0." if is_list else f"{here}."
                        yield from settings_of(part, f"{below}.", inside, within)
        elif isinstance(inner, type) and issubclass(inner, Table):
            yield from settings_of(inner, f"{label}{name}.", f"{here}.", given)
        else:
            yield Setting(f"{label}{name}", table, here, name, given)


def tries(label: str, kind: str, part: type[Table]) -> list[dict[str, Any]]:
    """Return settings of a part to try; a scheme's are few rounds, where uploads meet later ones."""
    given: dict[str, Any] = {"kind": kind}
    if issubclass(part, Scheme):
        given |= {"num_rounds": 2 if part.is_synchronous else 7, "local_steps": 2}
    if "tokenizer_path" in part.model_fields:
        given["tokenizer_path"] = "first tokenizer.json"
    found = [given | example for example in GIVEN.get(label, part.examples)]
    return [given, *found] if issubclass(part, Scheme) else found


def put(given: dict[str, Any], path: str, table: Any, part: type[Table]) -> dict[str, Any]:
    """Return what is given with a part at a place."""
    if not path.startswith("scheme."):
        return {**given, path: table}
    turns = issubclass(part, Codec) and part.turns_factors
    return {"scheme": {**given["scheme"], **(SVD if turns else {}), path.partition(".")[2]: table}}


def without(given: dict[str, Any], path: str) -> dict[str, Any]:
    """Return what is given but for the part at a place."""
    if not path.startswith("scheme."):
        return {name: value for name, value in given.items() if name != path}
    inner = path.partition(".")[2]
    return {"scheme": {name: value for name, value in given["scheme"].items() if name != inner}}


SETTINGS = list(settings_of(Scenario))
TIMED = [one for one in SETTINGS if not issubclass(one.table, Allocator)]
DECIDING = [
    one for one in SETTINGS if issubclass(one.table, Allocator) and not getattr(one.table, "sets_knobs", ())
]


@pytest.fixture(scope="module")
def files(tiny_scenario, tokenizer_path, tmp_path_factory) -> Path:
    """Return a folder with the texts and models that are named above."""
    folder = tmp_path_factory.mktemp("files")
    names = ("text", "topic", "speaker", "slots")
    rows = [
        (f"line {n} is {'long' if n % 3 else 'short'}", "ab"[n % 2], f"speaker {n % 5}", f"place[{n % 4}]")
        for n in range(40)
    ]
    for name, some in (("train", rows[:30]), ("test", rows[30:])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([names, *some])
    (folder / "semicolon.csv").write_text("\n".join(["text", *(row[0] for row in rows)]))
    (folder / "lines.txt").write_text("\n".join(row[0] for row in rows))
    for number in range(24):
        place = folder / ("others" if number < 12 else "pictures") / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (9 * number, 0, 0)).save(place / f"{number}.png")
    files = [one.read_bytes() for one in sorted((folder / "pictures").glob("*/*.png"))]
    columns = {"image": files, "other image": files[::-1], "label": [*"ab"] * 6, "other label": [*"ba"] * 6}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "pictures.parquet")
    for name, word in (("chat", "here"), ("other chat", "there")):
        turns = [{"role": role, "content": word} for role in ("user", "assistant") * 2]
        (folder / f"{name}.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 30)
        (folder / f"{name}.jinja").write_text(
            "{% for m in messages %}{{ m.content }} " + word + "{% endfor %}"
        )
    for name, far_m in (("path", 100), ("other path", 200)):
        (folder / f"{name}.csv").write_text(f"client,time_s,x_m,y_m\n0,0,50,0\n0,9,{far_m},0\n")
    for name, client in (("away", 1), ("other away", 2)):
        (folder / f"{name}.csv").write_text(f"client,away_s,back_s\n{client},0,0.001\n0,5e-6,4e-5\n")
    (folder / "devices.csv").write_text("client,clock_hz,client_forward_s\n0,1e9,\n1,1e9,0.1\n2,2e9,0.2\n")
    for name, least in (("trace", 10), ("other trace", 20)):
        lines = [f"{at},{who},all,{least - 30},{least},{least}e4" for who in range(3) for at in (0, 0.001)]
        head = "time_s,client,link,gain_db,snr_db,rate_bit_per_s"
        (folder / f"{name}.csv").write_text("\n".join([head, *lines]))
    base = tiny_scenario().model.base
    (folder / "config.json").write_text(json.dumps(base.config | {"n_embd": 32}))
    other = json.loads(tokenizer_path.read_text())
    other["added_tokens"][1]["lstrip"] = True
    shutil.copy(tokenizer_path, folder / "first tokenizer.json")
    (folder / "tokenizer.json").write_text(json.dumps(other))
    for name, seed in (("model", 0), ("other model", 1)):
        model = base.model_copy(update={"seed": seed}).load("causal_lm", 0, "float32")
        model.save_pretrained(folder / name)
        shutil.copy(tokenizer_path, folder / name / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def played(tiny_scenario, files):
    """Return scenario, metrics and keys of some changes, each played once; None where they are refused."""
    known: dict[str, Any] = {}
    there = {path.name for path in files.iterdir()}

    def placed(value):
        if isinstance(value, dict):
            return {name: placed(inner) for name, inner in value.items()}
        return str(files / value) if isinstance(value, str) and value in there else value

    def played(changes):
        name = repr(changes)
        if name not in known:
            try:
                scenario = tiny_scenario(placed(changes))
                world, keys = play(scenario)
                noted = world.log.metrics, world.client_names  # hundreds of worlds would fill the memory
                known[name] = scenario, noted, keys
            except (CosimError, ValidationError):
                known[name] = None
        return known[name]

    return played


def pairs(setting: Setting, played) -> Iterator[tuple[Any, Any]]:
    """Return what was played before and after changes of a setting that are not refused."""
    beside = {**_of_place(BESIDE, setting)}
    for given in setting.given:
        base = {**beside, **given}
        if setting.name is None:
            before, after = played(without(base, setting.path)), played(base)
            if before and after and before[0] != after[0]:
                yield before, after
            continue
        before = played(base)
        if before is None:
            continue
        for value in other_values(setting, value_at(before[0], setting.path)):
            along = next((ALONG[end] for end in ALONG if setting.label.endswith(end)), {})
            siblings = {f"{setting.path.rpartition('.')[0]}.{one}": along[one] for one in along}
            after = played({**base, setting.path: value, **siblings})
            if after and before[0] != after[0]:
                yield before, after


def _of_place(known: dict[str, dict[str, Any]], setting: Setting) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, changes in known.items():
        if setting.label.startswith(place):
            found |= changes
    return found


def plane(setting: Setting, before: Any) -> str:
    """Return the plane a setting says it is of; a kind is of the time plane if both parts are."""
    if setting.name is not None:
        return setting.table.plane_of(setting.name)
    field = setting.path.rpartition(".")[2]
    owner = setting.table.plane_of(field) if field in setting.table.model_fields else setting.table.plane
    old = value_at(before[0], setting.path)
    each = old if isinstance(old, tuple) else (old,)
    planes = {owner, *(owner if one is None else getattr(one, "plane", "value") for one in each)}
    return "time" if planes == {"time"} else "value"


def by_place(settings: list[Setting]) -> dict[str, list[Setting]]:
    """Return settings by the part, or other table, that they are of."""
    found = defaultdict(list)
    for one in settings:
        place, _, itself = one.label.partition(" ")
        found[place if itself else place.rpartition(".")[0] or "scenario"].append(one)
    return found


@pytest.mark.parametrize("settings", by_place(TIMED).values(), ids=by_place(TIMED))
def test_a_setting_moves_keys_if_it_is_of_the_value_plane_and_none_else(settings, played):
    each("setting", settings)(moves_keys_if_it_is_of_the_value_plane_and_none_else)(played)


def moves_keys_if_it_is_of_the_value_plane_and_none_else(played, setting):
    tried = 0
    for before, after in pairs(setting, played):
        tried += 1
        moves = moved(before[2], after[2])
        if plane(setting, before) == "time":
            assert not moves, f"{setting.label} says it is of the time plane"
            if not (issubclass(setting.table, Scheme | TaskPolicy) or setting.label in HOW_OFTEN):
                assert before[2] == after[2]
            if tried == 2:
                return
        elif moves:
            assert "start" not in moves or not setting.path.startswith("data."), (
                "texts decide no first adapter"
            )
            return
    if not tried:
        if setting.label in OF_EXTRAS and find_spec(OF_EXTRAS[setting.label]) is None:
            pytest.skip(f"{OF_EXTRAS[setting.label]} is not installed")
        assert is_refused(setting, played), f"say in OTHERS what else {setting.label} can be"
        pytest.skip("nothing else can be there")
    assert plane(setting, before) == "time", (
        f"{setting.label} says it is of the value plane, and moves no key"
    )


def test_every_part_can_be_somewhere(played):
    """So that nothing is skipped above because what the part is tried with is refused everywhere."""
    every = [*TIMED, *DECIDING]
    for table in {one.table for one in every}:
        tried = [(one, given) for one in every if one.table is table for given in one.given]
        assert any(played({**_of_place(BESIDE, one), **given}) for one, given in tried), table


def is_refused(setting: Setting, played) -> bool:
    """Whether the part of a setting cannot be where it is, or is there already."""
    beside = _of_place(BESIDE, setting)
    found = [played({**beside, **given}) for given in setting.given]
    return not any(found) or setting.name is None


@pytest.mark.parametrize("settings", by_place(DECIDING).values(), ids=by_place(DECIDING))
def test_a_setting_of_an_allocator_moves_keys_by_cut_layer_and_rank_alone(settings, played):
    each("setting", settings)(moves_keys_by_cut_layer_and_rank_alone)(played)


def moves_keys_by_cut_layer_and_rank_alone(played, setting):
    beside = _of_place(BESIDE, setting)
    found = [played({**beside, **given}) for given in setting.given]
    found += [after for _, after in islice(pairs(setting, played), 1)]
    assert any(found)
    for _, noted, keys in filter(None, found):
        assert keys == played(as_decided(*noted))[2]


def value_at(scenario: Scenario, path: str) -> Any:
    """Return the value of a setting."""
    here: Any = scenario
    for step in path.split("."):
        here = (
            here[int(step)]
            if step.isdecimal()
            else getattr(here[0] if isinstance(here, tuple) else here, step)
        )
    return here


def other_values(setting: Setting, value: Any) -> list[Any]:
    """Return other values than this one, those the part's examples have included."""
    assert setting.name is not None
    known = next((OTHERS[end] for end in OTHERS if _ends(setting.label, end)), None)
    if known is not None:
        return [one(value) if callable(one) else one for one in known]
    examples = [one[setting.name] for one in getattr(setting.table, "examples", ()) if setting.name in one]
    return [*_guessed(setting, value), *(one for one in examples if one != value)]


def _ends(label: str, end: str) -> bool:
    before, _, name = end.partition(".*")
    return label.endswith(end) or (bool(name) and f"{before}." in label and label.endswith(name))


def _guessed(setting: Setting, value: Any) -> list[Any]:
    assert setting.name is not None
    annotation = setting.table.model_fields[setting.name].annotation
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value, 1]
    if isinstance(value, float):
        return [1.25 * value + (value == 0.0), 0.5 * value + 0.1 * (value == 0.0), 10.0 * value, -value]
    if isinstance(value, Constant | Uniform):
        return [0.9 * value.value if isinstance(value, Constant) else value.high]
    literals = [one for inner in _inner(annotation) for one in _literals(inner) if one != value]
    unit = next((unit for unit in ABSENT if setting.name.endswith(unit)), None)
    if value is not None:
        return literals
    if unit is not None:
        return [*literals, ABSENT[unit]]
    kinds = _inner(annotation)
    return [*literals, *((1, 2, 20) if int in kinds else ()), *((0.5, 1.0) if float in kinds else ())]


def _inner(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [deeper for one in get_args(annotation) for deeper in _inner(one) if one is not NoneType]
    return [annotation]


def _literals(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()
