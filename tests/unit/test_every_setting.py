"""Which operations a change moves; that a setting moves any is in ``tests/contracts/test_every_plane.py``."""

import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest
from played_keys import moved, play

NONE: frozenset[str] = frozenset()
TRAINED = frozenset({"client_forward", "server_step", "client_backward", "update", "aggregate", "export"})
LEARNED = TRAINED | {"evaluate"}
ALL = LEARNED | {"start"}
WHOLE = frozenset({"whole_gradient", "update", "evaluate", "export"})
AVERAGED = WHOLE | {"aggregate", "coherence", "covariance", "product_bias"}
MERGED = WHOLE | {"aggregate"}
SUMMED = AVERAGED | {"superpose", "sent_power"}
UNCUT = WHOLE | {"aggregate", "start"}
EXPORT = frozenset({"export"})


def scheme(kind, num_rounds=2, **settings):
    return {"scheme": {"kind": kind, "num_rounds": num_rounds, "local_steps": 2, **settings}}


LINEAR = {"training.optimizer.schedule": "linear"}
BATCHED = {"training.executor": "batched", "training.max_group": 2}
CENTRAL, FEDERATED, ASYNCHRONOUS = scheme("centralized"), scheme("federated"), scheme("asynchronous", 7)
SVD = {"kind": "product_svd"}


@dataclass(frozen=True)
class Case:
    """A change that moves the keys of these operations; ``given`` is what both sides have in common."""

    change: dict[str, Any]
    moves: frozenset[str]
    given: dict[str, Any] = field(default_factory=dict)


def fixed(efficiency):
    name = "fixed_spectral_efficiency_bit_per_s_per_hz"
    return {"radio.medium": {"kind": "fluid", "rate": "fixed", name: efficiency}}


CASES = [
    Case({"seed": 4}, ALL),
    # more rounds move nothing but the end, unless the schedule knows when that is
    Case(CENTRAL, ALL | WHOLE),
    Case({"scheme.num_rounds": 3}, EXPORT, CENTRAL),
    Case({"scheme.num_rounds": 3}, WHOLE, {**CENTRAL, **LINEAR}),
    Case({"scheme.local_steps": 3}, frozenset({"evaluate", "export"}), CENTRAL),
    Case({"scheme.num_rounds": 8}, EXPORT, ASYNCHRONOUS),
    Case({"scheme.num_rounds": 10}, MERGED, {**ASYNCHRONOUS, **LINEAR}),
    Case({"scheme.mixing": 0.5}, MERGED, ASYNCHRONOUS),
    Case({"scheme.num_rounds": 3}, EXPORT, FEDERATED),
    Case({"scheme.num_rounds": 3}, AVERAGED, {**FEDERATED, **LINEAR}),
    Case({"scheme.participation": 0.5}, AVERAGED, FEDERATED),
    Case({"scheme.regularizer": {"kind": "orthogonality"}}, AVERAGED, FEDERATED),
    Case({"scheme.num_rounds": 3}, EXPORT),
    Case({"scheme.num_rounds": 3}, LEARNED, LINEAR),
    Case({"scheme.local_steps": 3}, LEARNED),
    # a deadline that all meet decides nothing
    Case({"scheme.deadline_s": 1e3}, NONE),
    Case({"scheme.deadline_s": 1e-9}, LEARNED),
    # what travels
    Case({"scheme.adapter_codec": {"kind": "float16"}}, MERGED | {"transmit"}, ASYNCHRONOUS),
    Case({"scheme.adapter_codec": {"kind": "float16"}}, AVERAGED | {"transmit"}, FEDERATED),
    Case({"scheme.adapter_codec": {"kind": "float16"}}, LEARNED | {"transmit"}),
    Case({"scheme.activation_codec": {"kind": "float16"}}, LEARNED | {"transmit"}),
    Case({"scheme.gradient_codec": {"kind": "float16"}}, LEARNED | {"transmit"}),
    Case(
        {"scheme.adapter_codec.sparsification_ratio": 0.3},
        AVERAGED | {"transmit", "distribute", "weighted_mean"},
        scheme("federated", adapter_codec={"kind": "svd"}, aggregator=SVD),
    ),
    Case(
        {"scheme.adapter_codec.importance": "norm"},
        AVERAGED | {"transmit", "weighted_mean"},
        scheme("federated", adapter_codec={"kind": "soft"}),
    ),
    # what becomes of it
    *(
        Case({"scheme.aggregator": {"kind": kind}}, learned | more, given)
        for learned, given in ((LEARNED, {}), (AVERAGED, FEDERATED))
        for kind, more in (
            ("fedex", NONE),
            ("flora", frozenset({"distribute"})),
            ("ffa", frozenset({"distribute", "select"})),
        )
    ),
    Case({"scheme.aggregator.client_ranks": [4]}, NONE),
    Case({"scheme.aggregator.client_ranks": [2, 4]}, LEARNED | {"distribute"}, {"scheme.aggregator": SVD}),
    # the model decides the first adapters, texts and batches do not
    Case({"model.base.config.n_embd": 32}, ALL),
    Case({"model.cut_layer": 2}, ALL),
    Case({"lora.rank": 3}, ALL),
    Case({"trainable": {"kind": "full"}}, UNCUT | AVERAGED, FEDERATED),
    Case({"trainable.untie_head": True}, UNCUT, {**FEDERATED, "trainable": {"kind": "full"}}),
    Case({"data.source.seed": 1}, LEARNED),
    Case({"data.partition": {"kind": "size", "spread": 1.0}}, LEARNED),
    Case({"training.batch_size": 3}, LEARNED),
    Case({"clients.count": 2}, LEARNED),
    Case({"training.evaluation_batch_size": 3}, frozenset({"evaluate"})),
    Case({"training.optimizer.learning_rate": 1.1e-3}, ALL),
    Case({"training.executor": "batched"}, ALL),
    Case({"training.max_group": 3}, NONE),  # it means nothing to the sequential executor
    Case({"training.max_group": 3}, ALL, BATCHED),
    # what arrives
    Case({"radio.medium": {"kind": "over_the_air"}}, SUMMED, FEDERATED),
    Case(fixed(11.5), AVERAGED, {**FEDERATED, **fixed(0.001)}),
    Case(fixed(0.002), NONE, {**FEDERATED, **fixed(0.001)}),
]


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.change} beside {case.given}")
def test_a_change_moves_the_keys_of_exactly_these_operations(case, keys_of):
    assert moved(keys_of(case.given), keys_of({**case.given, **case.change})) == case.moves


def test_a_copy_of_a_model_moves_only_the_files_that_name_it(
    tiny_scenario, tokenizer_path, tmp_path, keys_of
):
    model = tiny_scenario().model.base.load("causal_lm", 0, "float32")
    keys = []
    for name in ("model", "copy of model"):
        model.save_pretrained(tmp_path / name)
        shutil.copy(tokenizer_path, tmp_path / name / "tokenizer.json")
        keys.append(keys_of({"model.base": {"kind": "folder", "path": str(tmp_path / name)}}))
    assert moved(*keys) == EXPORT


def test_events_move_no_key(keys_of):
    event = {"at_s": 0.01, "set": {"radio.noise_figure_db": 20.0, "allocator.kind": "time_shared"}}
    assert keys_of({"events": [event]}) == keys_of({})
