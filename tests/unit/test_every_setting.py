"""Every setting of a scenario, changed in turn: exactly those listed here move keys of works, no others."""

import csv
import json
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import pytest

from cosim.control.allocators import Allocator
from cosim.distributions import Constant, Uniform
from cosim.graph.executor import TimingOnly
from cosim.graph.operation import registered
from cosim.learning.aggregator import Aggregator
from cosim.learning.codec import Codec
from cosim.parts import OneOf, Table, family
from cosim.scenario.build import prepare
from cosim.scenario.settings import ClientGroup, Scenario

NONE: frozenset[str] = frozenset()
TRAINED = frozenset({"client_forward", "server_step", "client_backward", "update", "aggregate", "export"})
LEARNED = TRAINED | {"evaluate"}
ALL = LEARNED | {"start"}


@dataclass(frozen=True)
class Case:
    """A change that moves the keys of these operations; ``given`` is what both sides have in common."""

    change: dict[str, Any]
    moves: frozenset[str]
    given: dict[str, Any] = field(default_factory=dict)


def adamw(name, value):
    return Case({f"training.optimizer.{name}": value}, ALL)


def sgd(name, value):
    given = {"training.optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9}}
    return Case({f"training.optimizer.{name}": value}, ALL, given)


def embedded(name, value):
    return Case({f"data.source.{name}": value}, LEARNED)


def partition(change, given=None):
    given = {"data.partition": given or {"kind": next(iter(change.values()))}}
    return Case({f"data.partition.{name}": value for name, value in change.items()}, LEARNED, given)


def from_file(change, **given):
    """Change a setting of texts from a file; the names of files are filled in by the fixture ``files``."""
    source = {"kind": "file", "train_path": "train.csv", "test_path": "test.csv", **given}
    source = {name: value for name, value in source.items() if value is not None}
    return Case(
        {f"data.source.{name}": value for name, value in change.items()}, LEARNED, {"data.source": source}
    )


DIRICHLET = {"kind": "dirichlet", "alpha": 0.5, "by": "label"}
GROUPS = {"kind": "group", "by": "name"}
SIZES = {"kind": "size", "spread": 1.0}
LINEAR = {"training.optimizer.schedule": "linear"}
BATCHED = {"training.executor": "batched", "training.max_group": 2}
CENTRAL = {"scheme": {"kind": "centralized", "num_rounds": 2, "local_steps": 2}}
FULL = {"trainable": {"kind": "full"}}
UNCUT = (ALL - {"client_forward", "server_step", "client_backward"}) | {"whole_gradient"}
FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}}
WHOLE = frozenset({"whole_gradient", "update", "evaluate", "export"})
AVERAGED = WHOLE | {"aggregate", "coherence", "covariance"}


def orthogonality(name, value):
    given = {"scheme": {**FEDERATED["scheme"], "regularizer": {"kind": "orthogonality"}}}
    return Case({f"scheme.regularizer.{name}": value}, AVERAGED, given)


def averaging(scheme, learned, given):
    """Return the settings of the aggregators of a scheme; ranks matter where they may differ."""

    def case(change, moves, kind):
        table = {**given.get("scheme", {}), "aggregator": {"kind": kind}}
        change = {f"scheme.aggregator.{name}": value for name, value in change.items()}
        told = {"scheme": table} if given else {"scheme.aggregator": table["aggregator"]}
        return Case(change, moves, told)

    moved_by = {
        "fedex": learned,
        "flora": learned | {"distribute"},
        "ffa": learned | {"distribute", "select"},
    }
    cases = {
        f"scheme.{scheme}.aggregator.kind": tuple(
            Case({"scheme.aggregator": {"kind": kind}}, moves, given) for kind, moves in moved_by.items()
        ),
        f"scheme.{scheme}.aggregator.hetlora.weighting": (case({"weighting": "data"}, learned, "hetlora"),),
    }
    for kind, part in family(Aggregator).items():
        ranks = {"client_ranks": [2, 4]} if part.takes_ranks else {"client_ranks": [4]}
        moves = learned | {"distribute"} if part.takes_ranks else NONE
        cases[f"scheme.{scheme}.aggregator.{kind}.client_ranks"] = (case(ranks, moves, kind),)
    return cases


CODEC_SETTINGS: dict[str, dict[str, Any]] = {
    "qsgd": {"levels": 7, "bucket_size": 50, "norm": "max"},
    "random_ranks": {"keep_ratio": 0.3, "scope": "module", "unsent": "masked", "error_feedback": False},
    "soft": {
        **{"keep_ratio": 0.3, "scope": "module", "unsent": "masked", "error_feedback": False},
        "importance": "norm",
    },
    "svd": {"keep_ratio": 0.3, "scope": "module"},
    "top_k": {"keep_ratio": 0.3, "ratio_of": "bits", "scope": "global", "error_feedback": False},
}
"""Other values for every setting of the codecs."""


ASYNCHRONOUS = {"scheme": {"kind": "asynchronous", "num_rounds": 7, "local_steps": 2}}
MERGED = WHOLE | {"aggregate"}


def codec(scheme, payload):
    """Return the cases of a codec in one place of a scheme; kinds that cannot stand there have none."""
    place, base = f"scheme.{scheme}.{payload}_codec", FEDERATED
    moves = {"split_federated": LEARNED, "federated": AVERAGED, "asynchronous": MERGED}[scheme] | {"transmit"}
    if scheme == "asynchronous":  # an upload is met again only by a client's second update
        base = ASYNCHRONOUS
    given = {"scheme": {**base["scheme"], "kind": scheme}}
    cases = {f"{place}.kind": (Case({f"scheme.{payload}_codec": {"kind": "float16"}}, moves, given),)}
    for kind, values in CODEC_SETTINGS.items():
        if payload != "adapter" and family(Codec)[kind].needs_reference:
            continue
        part, moved_by = family(Codec)[kind], moves
        if part.turns_factors and scheme == "asynchronous":
            continue
        table = {**given["scheme"], f"{payload}_codec": {"kind": kind}}
        if part.turns_factors:
            table, moved_by = table | {"aggregator": {"kind": "product_svd"}}, moves | {"distribute"}
        if part.figure_names and scheme == "federated":
            moved_by |= {"weighted_mean"}
        for name, value in values.items():
            case = Case({f"scheme.{payload}_codec.{name}": value}, moved_by, {"scheme": table})
            cases[f"{place}.{kind}.{name}"] = (case,)
    return cases


SUMMED = AVERAGED | {"superpose"}
LOST = AVERAGED
FADES = {"radio.fading": {"kind": "rayleigh_block"}}


def fixed(efficiency):
    name = "fixed_spectral_efficiency_bit_per_s_per_hz"
    return {"kind": "fluid", "rate": "fixed", name: efficiency}


def over_the_air(change, moves, given=None):
    """Change a setting of the medium that adds."""
    change = {f"radio.medium.{name}": value for name, value in change.items()}
    return Case(change, moves, {**FEDERATED, "radio.medium": {"kind": "over_the_air"}, **(given or {})})


CASES: dict[str, tuple[Case, ...]] = {
    "name": (Case({"name": "other"}, NONE),),
    "description": (Case({"description": "another one"}, NONE),),
    "seed": (Case({"seed": 4}, ALL),),
    # the scheme: when things are learned, and how many of them
    "scheme.kind": (Case(CENTRAL, ALL | WHOLE),),
    "scheme.centralized.num_rounds": (
        Case({"scheme.num_rounds": 3}, frozenset({"export"}), CENTRAL),
        Case({"scheme.num_rounds": 3}, WHOLE, {**CENTRAL, **LINEAR}),
    ),
    "scheme.centralized.local_steps": (
        Case({"scheme.local_steps": 3}, frozenset({"evaluate", "export"}), CENTRAL),
    ),
    "scheme.centralized.evaluate_every": (Case({"scheme.evaluate_every": 2}, NONE, CENTRAL),),
    "scheme.asynchronous.num_rounds": (
        Case({"scheme.num_rounds": 8}, frozenset({"export"}), ASYNCHRONOUS),
        Case({"scheme.num_rounds": 10}, MERGED, {**ASYNCHRONOUS, **LINEAR}),
    ),
    "scheme.asynchronous.local_steps": (Case({"scheme.local_steps": 3}, MERGED, ASYNCHRONOUS),),
    "scheme.asynchronous.evaluate_every": (Case({"scheme.evaluate_every": 2}, NONE, ASYNCHRONOUS),),
    "scheme.asynchronous.mixing": (Case({"scheme.mixing": 0.5}, MERGED, ASYNCHRONOUS),),
    "scheme.asynchronous.staleness": (Case({"scheme.staleness": "constant"}, MERGED, ASYNCHRONOUS),),
    "scheme.asynchronous.exponent": (Case({"scheme.exponent": 1.0}, MERGED, ASYNCHRONOUS),),
    "scheme.asynchronous.hinge_after": (
        Case({"scheme.hinge_after": 1}, MERGED, {"scheme": {**ASYNCHRONOUS["scheme"], "staleness": "hinge"}}),
    ),
    **codec("asynchronous", "adapter"),
    "scheme.federated.num_rounds": (
        Case({"scheme.num_rounds": 3}, frozenset({"export"}), FEDERATED),
        Case({"scheme.num_rounds": 3}, AVERAGED, {**FEDERATED, **LINEAR}),
    ),
    "scheme.federated.local_steps": (Case({"scheme.local_steps": 3}, AVERAGED, FEDERATED),),
    "scheme.federated.evaluate_every": (Case({"scheme.evaluate_every": 2}, NONE, FEDERATED),),
    "scheme.federated.participation": (Case({"scheme.participation": 0.5}, AVERAGED, FEDERATED),),
    "scheme.federated.regularizer.kind": (
        Case({"scheme.regularizer": {"kind": "orthogonality"}}, AVERAGED, FEDERATED),
    ),
    "scheme.federated.regularizer.orthogonality.form": (orthogonality("form", "off"),),
    "scheme.federated.regularizer.orthogonality.weight": (orthogonality("weight", 0.2),),
    **codec("federated", "adapter"),
    **codec("split_federated", "adapter"),
    **codec("split_federated", "activation"),
    **codec("split_federated", "gradient"),
    "scheme.split_federated.num_rounds": (
        Case({"scheme.num_rounds": 3}, frozenset({"export"})),
        Case({"scheme.num_rounds": 3}, LEARNED, LINEAR),
    ),
    "scheme.split_federated.local_steps": (Case({"scheme.local_steps": 3}, LEARNED),),
    "scheme.split_federated.evaluate_every": (Case({"scheme.evaluate_every": 2}, NONE),),
    "scheme.split_federated.server_batch": (Case({"scheme.server_batch": "per_client"}, NONE),),
    "scheme.split_federated.deadline_s": (
        Case({"scheme.deadline_s": 1e3}, NONE),
        Case({"scheme.deadline_s": 1e-9}, LEARNED),
    ),
    **averaging("split_federated", LEARNED, {}),
    **averaging("federated", AVERAGED, FEDERATED),
    # the model and its adapters
    "model.base.kind": (Case({"model.base": {"kind": "embedded"}}, ALL),),
    "model.base.folder.path": (
        Case({"model.base.path": "other model"}, ALL, {"model.base": {"kind": "folder", "path": "model"}}),
        Case(
            {"model.base.path": "copy of model"},
            frozenset({"export"}),  # its files name the folder
            {"model.base": {"kind": "folder", "path": "model"}},
        ),
    ),
    "model.base.random.config": (Case({"model.base.config.n_embd": 32}, ALL),),
    "model.base.random.config_path": (
        Case({"model.base.config_path": "config.json", "model.base.config": None}, ALL),
    ),
    "model.base.random.tokenizer_path": (Case({"model.base.tokenizer_path": "tokenizer.json"}, LEARNED),),
    "model.base.random.seed": (Case({"model.base.seed": 9}, ALL),),
    "model.task": (Case({"model.task": "classification"}, ALL),),
    "model.cut_layer": (Case({"model.cut_layer": 2}, ALL),),
    "model.dtype": (Case({"model.dtype": "float64"}, ALL),),
    "model.device": (Case({"model.device": "cuda"}, ALL),),
    "lora.rank": (Case({"lora.rank": 3}, ALL),),
    "lora.alpha": (Case({"lora.alpha": 3.0}, ALL),),
    "lora.dropout": (Case({"lora.dropout": 0.1}, ALL),),
    "lora.target_modules": (Case({"lora.target_modules": ["c_attn", "c_fc"]}, ALL),),
    "lora.blocks": (Case({"lora.blocks": [1, 2]}, ALL),),
    "trainable.kind": (
        Case({"trainable": {"kind": "full"}}, UNCUT | {"coherence", "covariance"}, FEDERATED),
    ),
    "trainable.full.untie_head": (Case({"trainable.untie_head": True}, UNCUT, {**FEDERATED, **FULL}),),
    # the data
    "data.source.kind": (
        Case({"data.source": {"kind": "file", "train_path": "train.csv", "test_path": "test.csv"}}, LEARNED),
    ),
    "data.source.embedded.domain": (embedded("domain", "hotel"),),
    "data.source.embedded.num_train": (embedded("num_train", 41),),
    "data.source.embedded.num_test": (embedded("num_test", 7),),
    "data.source.embedded.seed": (embedded("seed", 1),),
    "data.source.file.train_path": (from_file({"train_path": "test.csv"}),),
    "data.source.file.test_path": (from_file({"test_path": "train.csv"}),),
    "data.source.file.test_fraction": (
        from_file({"test_fraction": 0.5}, test_path=None, test_fraction=0.25),
    ),
    "data.source.file.target_column": (from_file({"target_column": "speaker"}),),
    "data.source.file.prompt_column": (from_file({"prompt_column": "speaker"}),),
    "data.source.file.label_column": (from_file({"label_column": "topic"}),),
    "data.source.file.group_column": (from_file({"group_column": "topic"}),),
    "data.source.file.slots_column": (from_file({"slots_column": "slots"}),),
    "data.source.file.separator": (
        from_file({"separator": " is "}, train_path="lines.txt", test_path=None, test_fraction=0.2),
    ),
    "data.source.file.delimiter": (
        from_file(
            {"delimiter": ";"}, train_path="semicolon.csv", test_path="semicolon.csv", target_column="text"
        ),
    ),
    "data.source.file.max_train": (from_file({"max_train": 20}),),
    "data.source.file.max_test": (from_file({"max_test": 5}),),
    "data.source.file.seed": (from_file({"seed": 1}),),
    "data.sequence_length": (Case({"data.sequence_length": 40}, LEARNED),),
    "data.loss_on": (Case({"data.loss_on": "all"}, LEARNED),),
    "data.prompt_end": (Case({"data.prompt_end": " = "}, LEARNED),),
    "data.partition.kind": (Case({"data.partition": DIRICHLET}, LEARNED),),
    "data.partition.dirichlet.alpha": (partition({"alpha": 5.0}, DIRICHLET),),
    "data.partition.dirichlet.by": (partition({"by": "name"}, DIRICHLET),),
    "data.partition.dirichlet.min_examples": (partition({"min_examples": 10}, DIRICHLET),),
    "data.partition.group.by": (partition({"by": "label"}, GROUPS),),
    "data.partition.group.one_group_per_client": (partition({"one_group_per_client": True}, GROUPS),),
    "data.partition.group.min_examples": (
        Case({"data.partition.min_examples": 2}, NONE, {"data.partition": GROUPS}),
    ),
    "data.partition.iid.min_examples": (Case({"data.partition.min_examples": 2}, NONE),),
    "data.partition.size.fractions": (partition({"fractions": [0.4, 0.3, 0.2]}, SIZES),),
    "data.partition.size.skew": (partition({"skew": "zipf"}, SIZES),),
    "data.partition.size.spread": (partition({"spread": 0.5}, SIZES),),
    "data.partition.size.min_examples": (
        Case({"data.partition.min_examples": 2}, NONE, {"data.partition": SIZES}),
    ),
    # how it is trained
    "training.batch_size": (Case({"training.batch_size": 3}, LEARNED),),
    "training.evaluation_batch_size": (Case({"training.evaluation_batch_size": 3}, frozenset({"evaluate"})),),
    "training.executor": (Case({"training.executor": "batched"}, ALL),),
    "training.max_group": (
        Case({"training.max_group": 3}, NONE),  # it means nothing to the sequential executor
        Case({"training.max_group": 3}, ALL, BATCHED),
    ),
    "training.on_divergence": (Case({"training.on_divergence": "continue"}, NONE),),
    "training.optimizer.kind": (Case({"training.optimizer.kind": "sgd"}, ALL),),
    "training.optimizer.adamw.learning_rate": (adamw("learning_rate", 1.1e-3),),
    "training.optimizer.adamw.schedule": (adamw("schedule", "linear"),),
    "training.optimizer.adamw.warmup_steps": (adamw("warmup_steps", 2),),
    "training.optimizer.adamw.max_grad_norm": (adamw("max_grad_norm", 1.0),),
    "training.optimizer.adamw.betas": (adamw("betas", [0.8, 0.999]),),
    "training.optimizer.adamw.eps": (adamw("eps", 1e-7),),
    "training.optimizer.adamw.weight_decay": (adamw("weight_decay", 0.02),),
    "training.optimizer.sgd.learning_rate": (sgd("learning_rate", 0.2),),
    "training.optimizer.sgd.schedule": (sgd("schedule", "cosine"),),
    "training.optimizer.sgd.warmup_steps": (sgd("warmup_steps", 2),),
    "training.optimizer.sgd.max_grad_norm": (sgd("max_grad_norm", 1.0),),
    "training.optimizer.sgd.momentum": (sgd("momentum", 0.5),),
    "training.optimizer.sgd.nesterov": (sgd("nesterov", True),),
    "training.optimizer.sgd.weight_decay": (sgd("weight_decay", 0.02),),
    # the cell: only how many take part
    "clients.count": (Case({"clients.count": 2}, LEARNED),),
    "clients.cut_layer": (Case({"clients.cut_layer": 2}, ALL),),
    "scheme.federated.downlink": (Case({"scheme.downlink": "multicast"}, NONE, FEDERATED),),
    # the medium: what arrives
    "radio.medium.kind": (Case({"radio.medium": {"kind": "over_the_air"}}, SUMMED, FEDERATED),),
    "radio.medium.fluid.rate": (Case({"radio.medium": fixed(11.5)}, LOST, FEDERATED),),
    "radio.medium.fluid.fixed_spectral_efficiency_bit_per_s_per_hz": (
        Case({"radio.medium": fixed(11.5)}, LOST, {**FEDERATED, "radio.medium": fixed(0.001)}),
        Case({"radio.medium": fixed(0.002)}, NONE, {**FEDERATED, "radio.medium": fixed(0.001)}),
    ),
    "radio.medium.over_the_air.max_rms": (over_the_air({"max_rms": 0.2}, SUMMED),),
    "radio.medium.over_the_air.truncation_db": (over_the_air({"truncation_db": -5.0}, SUMMED, FADES),),
    "radio.medium.over_the_air.subcarrier_spacing_hz": (
        over_the_air({"subcarrier_spacing_hz": 7e3}, SUMMED),
    ),
    "radio.medium.over_the_air.cyclic_prefix_s": (over_the_air({"cyclic_prefix_s": 1e-6}, NONE),),
}
"""Every setting that may have to do with learning, and what it moves."""

REFUSED = {
    f"scheme.split_federated.{payload}_codec.{kind}.{name}"
    for payload in ("activation", "gradient")
    for kind, values in CODEC_SETTINGS.items()
    for name in values
    if family(Codec)[kind].needs_reference
} | {
    f"scheme.asynchronous.adapter_codec.{kind}.{name}"
    for kind, values in CODEC_SETTINGS.items()
    for name in values
    if family(Codec)[kind].turns_factors
}
"""Codecs that stand nowhere but with adapters, and those that a merge number by number cannot take."""

FROM_THE_HUB = {
    *("model.base.hub.name", "model.base.hub.revision"),
    *(
        f"data.source.hub.{name}"
        for name in (
            *("name", "config", "revision", "train_split", "test_split"),
            *("target_column", "prompt_column", "label_column"),
        )
    ),
}
"""What they name must be fetched; its content is in the keys, as that of files and folders is."""

TIME_PLANE = ("clients", "main_server", "federated_server", "radio")
"""Rooms none of whose settings moves a key, but for those listed above; each is changed in turn."""

OTHER_VALUES: dict[str, Any] = {
    "radio.placement.given.positions_m": [[10.0, 0.0], [20.0, 0.0], [30.0, 40.0]],
    "radio.placement.annulus.outer_m": 400.0,
    "radio.fading.jakes.doppler_hz": 20.0,
    "radio.fading.jakes.speed_m_per_s": 3.0,
    "radio.fading.jakes.carrier_hz": 3e9,
    "radio.rate.constant_bandwidth.rate_bit_per_s": 2e6,
    "radio.rate.constant_bandwidth.spectral_efficiency_bit_per_s_per_hz": 3.0,
    **{
        f"radio.{link}.subchannel_bandwidths_hz": [1e6, 2e6, 3e6]
        for link in ("main_uplink", "federated_uplink")
    },
    **{
        f"radio.{link}.subchannel_bandwidths_hz": [1e6, 2e6, 3e6]
        for link in ("main_downlink", "federated_downlink")
    },
}
"""Other values for settings for which none can be guessed."""
ABSENT = {"_hz": 1e6, "_dbm": 60.0, "_s": 0.01, "_bytes": 1e9}
"""Values for settings left out, by their unit."""


# What is in a schema


def leaves(table, prefix=""):
    """Return the paths of all settings; a part's go by its kind, and which part it is by ``kind``."""
    for name, info in table.model_fields.items():
        path = f"{prefix}{name}"
        choice = next((one for one in info.metadata if isinstance(one, OneOf)), None)
        inner = ClientGroup if name == "clients" else info.annotation
        if name == "kind" or path == "events":
            continue
        if choice is not None:
            if len(family(choice.base)) > 1:
                yield f"{path}.kind"
            for kind, part in family(choice.base).items():
                yield from leaves(part, f"{path}.{kind}.")
        elif isinstance(inner, type) and issubclass(inner, Table):
            yield from leaves(inner, f"{path}.")
        else:
            yield path


SETTINGS = sorted(set(leaves(Scenario)))
IN_TIME_PLANE = [path for path in SETTINGS if path.split(".")[0] in TIME_PLANE and path not in CASES]


def test_every_setting_is_either_listed_or_of_the_time_plane():
    """A new setting that may decide what is learned must be listed with what it moves."""
    others = {path for path in SETTINGS if path.split(".")[0] not in (*TIME_PLANE, "allocator")}
    others -= {path for path in SETTINGS if path.startswith("trainable.lora.")}  # [lora] is short for it
    seldom = {"clients.count", "clients.cut_layer"}
    seldom |= {path for path in SETTINGS if path.startswith("radio.medium.")}
    assert others | seldom == set(CASES) | FROM_THE_HUB | REFUSED


# What moves


class Listing(TimingOnly):
    """Computes nothing, but asks for all that a full run asks for, and notes the works below it."""

    computes = True

    def __init__(self):
        self.keys = defaultdict(set)

    def materialise(self, keep, read):
        open_ = [ref.node for ref in (*keep, *read)]
        while open_:
            node = open_.pop()
            name = "aggregate" if node.operation.name == "mean" else node.operation.name
            if node.key not in self.keys[name]:
                self.keys[name].add(node.key)
                open_.extend(one.node for one in node.inputs)
        super().materialise(keep, read)
        return [0.0 for _ in read]


def play(scenario):
    """Return a world that was played to the end, and the keys of its works by operation."""
    listing = Listing()
    world = prepare(scenario).world(lambda rank: listing)
    world.clock.run(world.clock.process(scenario.scheme.run(world), "the scheme"))
    listing.materialise((), [world.adapter])
    return world, {
        operation: listing.keys[operation] for operation in registered() if listing.keys[operation]
    }


def moved(before, after):
    """Return the operations of whose works neither run has all of the other's."""
    return {
        operation
        for operation in before.keys() | after.keys()
        if not _one_holds_the_other(before.get(operation), after.get(operation))
    }


def _one_holds_the_other(mine, theirs):
    return mine is not None and theirs is not None and (mine <= theirs or theirs <= mine)


@pytest.fixture(scope="module")
def keys_of(tiny_scenario):
    """Return the keys of a scenario's works; each is played once."""
    known = {}

    def keys(changes):
        name = repr(changes)
        if name not in known:
            known[name] = play(tiny_scenario(changes))[1]
        return known[name]

    return keys


@pytest.fixture(scope="module")
def files(tiny_scenario, tokenizer_path, tmp_path_factory):
    """A folder with texts and models, and what writes its place in front of their names."""
    folder = tmp_path_factory.mktemp("files")
    names = ("text", "topic", "speaker", "slots")
    rows = [
        (f"line {n} is {'long' if n % 3 else 'short'}", "ab"[n % 2], f"speaker {n % 5}", f"place[{n % 4}]")
        for n in range(40)
    ]
    for name, some, delimiter in (
        ("train", rows[:30], ","),
        ("test", rows[30:], ","),
        ("semicolon", rows, ";"),
    ):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(
                [names, *some] if delimiter == "," else [["text"], *[[one[0]] for one in some]]
            )
    (folder / "lines.txt").write_text("\n".join(row[0] for row in rows))
    base = tiny_scenario().model.base
    (folder / "config.json").write_text(json.dumps(base.config | {"n_embd": 32}))
    other = json.loads(tokenizer_path.read_text())
    other["added_tokens"][1]["lstrip"] = True
    (folder / "tokenizer.json").write_text(json.dumps(other))
    for name, seed in (("model", 0), ("other model", 1)):
        model = base.model_copy(update={"seed": seed}).load("causal_lm", 0, "float32")
        model.save_pretrained(folder / name)
        shutil.copy(tokenizer_path, folder / name / "tokenizer.json")
    shutil.copytree(folder / "model", folder / "copy of model")
    there = {path.name for path in folder.iterdir()}

    def placed(value):
        if isinstance(value, dict):
            return {name: placed(inner) for name, inner in value.items()}
        return str(folder / value) if isinstance(value, str) and value in there else value

    return placed


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{path} {number}")
        for path, cases in CASES.items()
        for number, case in enumerate(cases)
    ],
)
def test_a_setting_moves_the_keys_of_exactly_these_operations(case, keys_of, files):
    given = files(case.given)
    assert moved(keys_of(given), keys_of({**given, **files(case.change)})) == case.moves


@pytest.mark.parametrize("path", IN_TIME_PLANE)
def test_no_setting_of_radio_and_devices_moves_a_key(path, tiny_scenario, keys_of):
    given, changes = change_of(path, tiny_scenario)
    before, after = tiny_scenario(given), tiny_scenario({**given, **changes})
    assert before != after
    assert keys_of({**given, **changes}) == keys_of({})


def change_of(path, tiny_scenario):
    """Return what puts the part of a setting in force, and what changes the setting."""
    for base in Scenario.model_fields["radio"].annotation.model_fields.items():
        name, info = base
        choice = next((one for one in info.metadata if isinstance(one, OneOf)), None)
        if choice is None or not path.startswith(f"radio.{name}."):
            continue
        parts = family(choice.base)
        if path == f"radio.{name}.kind":
            now = getattr(tiny_scenario().radio, name).kind
            kind = next(one for one in parts if one != now)
            return {}, {f"radio.{name}": {"kind": kind, **parts[kind].examples[0]}}
        kind, setting = path.split(".")[2:]
        example = next((one for one in parts[kind].examples if setting in one), parts[kind].examples[0])
        part = parts[kind](**example)
        value = other_value(path, type(part).model_fields[setting], getattr(part, setting))
        return {f"radio.{name}": {"kind": kind, **example}}, {f"radio.{name}.{setting}": value}
    here: Any = tiny_scenario()
    for step in path.split("."):
        table, here = here, getattr(here[0] if isinstance(here, tuple) else here, step)
    table = table[0] if isinstance(table, tuple) else table
    value = other_value(path, type(table).model_fields[path.split(".")[-1]], here)
    if path.endswith("subchannel_bandwidths_hz"):
        return {}, {
            path: value,
            f"{path.rpartition('.')[0]}.num_subchannels": None,
            f"{path.rpartition('.')[0]}.bandwidth_hz": None,
        }
    return {}, {path: value}


def other_value(path, info, value):
    """Return another value than this one."""
    if path in OTHER_VALUES:
        return OTHER_VALUES[path]
    if get_origin(info.annotation) is Literal:
        return next(one for one in get_args(info.annotation) if one != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 1.25 * value + (value == 0.0)
    if isinstance(value, Constant | Uniform):
        return 0.9 * value.value if isinstance(value, Constant) else value.high
    unit = next((unit for unit in ABSENT if path.endswith(unit)), None)
    assert unit is not None, f"say in OTHER_VALUES what else {path} can be than {value!r}"
    return ABSENT[unit]


def test_events_move_no_key(keys_of):
    event = {"at_s": 0.01, "set": {"radio.noise_figure_db": 20.0, "allocator.kind": "in_turn"}}
    assert keys_of({"events": [event]}) == keys_of({})


GIVEN = {
    "links": {
        "main_uplink": {"subchannels": [[0, 2], [1], [3]]},
        "federated_uplink": {"subchannels": [[0], [1], [2]]},
    }
}


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        pytest.param(kind, GIVEN if kind == "given" else example, id=f"{kind} {number}")
        for kind, part in family(Allocator).items()
        if not part.sets_knobs  # who takes part, and what is kept of an adapter, is learned from
        for number, example in enumerate(part.examples)
    ],
)
def test_an_allocator_moves_keys_by_cut_layer_and_rank_alone(kind, example, tiny_scenario, keys_of):
    world, keys = play(tiny_scenario({"allocator": {"kind": kind, **example}}))
    metrics = world.log.metrics
    rows = zip(metrics.name, metrics.actor, metrics.value, strict=True)
    decided = {(name, actor): int(value) for name, actor, value in rows if name in ("cut_layer", "lora_rank")}
    same = {"lora.rank": decided["lora_rank", "main-server"]}
    cuts = {actor: cut for (name, actor), cut in decided.items() if name == "cut_layer"}
    if len(cuts) == 1:
        same["model.cut_layer"] = cuts["main-server"]
    else:
        same["clients"] = [{"count": 1, "cut_layer": cuts[name]} for name in world.client_names]
    assert keys == keys_of(same)
