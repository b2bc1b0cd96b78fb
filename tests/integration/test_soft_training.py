"""Rank pairs in real training: what is pushed apart, sent and averaged, and what that does to the model."""

import pytest
import torch
from safetensors.torch import load_file

from cosim.errors import CosimError
from cosim.learning.codec.pairs import pairs_of
from cosim.learning.pair_energy import coherence
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}, "lora.rank": 4}


@pytest.fixture(scope="module")
def trained(tiny_scenario, tmp_path_factory):
    """Run the tiny scenario, federated and in float64, with these changes; return its record."""
    known, place = {}, tmp_path_factory.mktemp("trained")

    def train(changes, again=False):
        """Return the record; each is run once, unless it is wanted again."""
        scenario = tiny_scenario({"model.dtype": "float64", **FEDERATED, **changes})
        name = scenario.model_dump_json()
        if again or name not in known:
            known[name] = Record.open(run(scenario, place / f"run-{len(list(place.iterdir()))}"))
        return known[name]

    return train


def adapter_of(record):
    return load_file(record.path / "adapter" / "adapter_model.safetensors")


def coherence_of(record):
    adapter = adapter_of(record)
    return coherence(pairs_of(adapter), adapter)


@pytest.mark.parametrize("form", ["cos", "off"])
def test_pairs_are_pushed_apart(trained, form):
    told = {"training.optimizer": {"kind": "adamw", "learning_rate": 5e-3}, "scheme.local_steps": 8}
    plain = coherence_of(trained(told))
    weight = {"cos": 0.1, "off": 10.0}[form]
    regular = {"kind": "orthogonality", "form": form, "weight": weight}
    assert coherence_of(trained({**told, "scheme.regularizer": regular})) < 0.7 * plain


def test_the_recorded_loss_is_that_of_the_data(trained):
    def first_loss(changes):
        rows = trained(changes).metrics.to_pylist()
        return next(row["value"] for row in rows if row["name"] == "train_loss")

    heavy = {"kind": "orthogonality", "form": "id", "weight": 100.0}
    assert first_loss({"scheme.regularizer": heavy}) == first_loss({})


def figures_of(record, name):
    return {row["round"]: row["value"] for row in record.metrics.to_pylist() if row["name"] == name}


def test_every_round_says_how_coherent_its_average_is(trained):
    record = trained({})
    found = figures_of(record, "coherence")
    assert list(found) == [1, 2]
    assert found[2] == pytest.approx(coherence_of(record))
    assert all(0.0 < value < 1.0 for value in figures_of(record, "covariance_error").values())


@pytest.mark.parametrize("kind", ["ffa", "rolora"])
def test_with_one_factor_frozen_averages_are_exact(trained, kind):
    """Acceptance test 12: FFA-LoRA, and any other that averages one factor at a time."""
    record = trained({"scheme.aggregator": {"kind": kind}})
    assert max(figures_of(record, "covariance_error").values()) < 1e-12


def test_more_local_steps_make_the_covariance_grow(trained):
    def errors(local_steps):
        told = {"scheme.local_steps": local_steps, "scheme.num_rounds": 1}
        return figures_of(trained(told), "covariance_error")[1]

    assert errors(1) < errors(8)


def test_models_of_their_own_have_no_average_to_measure(trained):
    assert not figures_of(trained({"scheme.aggregator": {"kind": "fedsa"}}), "coherence")


# What travels


SOFT = {"kind": "soft", "sparsification_ratio": 0.5}


@pytest.mark.parametrize("importance", ["delta", "norm"])
@pytest.mark.parametrize("unsent", ["update", "masked", "zerofill"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_pairs_without_a_memory_are_what_dense_training_learns_bit_for_bit(
    trained, importance, unsent, dtype
):
    """Acceptance test 4; with masks every sum is divided by a sum of weights, which is one up to rounding."""
    codec = {"kind": "soft", "sparsification_ratio": 1.0, "importance": importance, "unsent": unsent}
    sent = trained({"scheme.adapter_codec": {**codec, "error_feedback": False}, "model.dtype": dtype})
    dense = trained({"model.dtype": dtype})
    one, two = adapter_of(sent), adapter_of(dense)
    if unsent == "masked":
        assert all(torch.allclose(one[name], two[name], rtol=1e-5, atol=1e-7) for name in two)
    else:
        assert all(torch.equal(one[name], two[name]) for name in two)
        for name in ("eval_loss", "train_loss", "covariance_error", "coherence"):
            assert figures_of(sent, name) == figures_of(dense, name)
    assert figures_of(sent, "dropped_energy") == {1: 0.0, 2: 0.0}


@pytest.mark.parametrize("codec", [SOFT, {"kind": "random_ranks"}, {"kind": "soft", "scope": "module"}])
def test_a_transfer_is_charged_the_bits_of_its_payload(trained, codec):
    """Acceptance test 6, in a run: half the pairs, and a bit for each of all."""
    dense = uploaded_bits(trained({}))
    (bits,) = uploaded_bits(trained({"scheme.adapter_codec": codec}))
    (whole,) = dense
    num_pairs = 3 * 4  # 3 blocks of one matrix, of rank 4
    assert bits == whole / 2 + 1 + num_pairs


def uploaded_bits(record):
    return {row["bits"] for row in record.spans.to_pylist() if row["name"] == "adapter_upload"}


def test_what_is_dropped_is_known_of_each_client_and_on_average(trained):
    rows = trained({"scheme.adapter_codec": SOFT}).metrics.to_pylist()
    dropped = {(row["round"], row["actor"]): row["value"] for row in rows if row["name"] == "dropped_energy"}
    assert len(dropped) == 2 * (3 + 1)
    for round_ in (1, 2):
        each = [dropped[round_, f"client-{client}"] for client in range(3)]
        assert min(each) > 0.0
        assert min(each) <= dropped[round_, "federated-server"] <= max(each)


def test_a_regulariser_of_none_moves_no_key(tiny_scenario, play):
    def works(changes):
        spans = play(tiny_scenario({**FEDERATED, **changes})).log.spans
        spans.settle()
        columns = (spans.round, spans.local_step, spans.name, spans.actor, spans.peer)
        return dict(zip(zip(*columns, strict=True), spans.node, strict=True))

    plain, regular = works({}), works({"scheme.regularizer": {"kind": "none"}})
    assert plain == regular


@pytest.mark.parametrize("aggregator", ["product_svd", "fedex", "flora"])
def test_singular_vectors_are_averaged_as_products(trained, aggregator):
    told = {"scheme.adapter_codec": {"kind": "svd", "sparsification_ratio": 1.0}}
    told |= {"scheme.aggregator": {"kind": aggregator}}
    dense = trained({"scheme.aggregator": {"kind": aggregator}})
    after = figures_of(trained(told), "eval_loss")
    # all singular values are the whole product; later steps see other factors of it
    assert after[1] == pytest.approx(figures_of(dense, "eval_loss")[1], rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"scheme.adapter_codec": {"kind": "svd"}},
            "'fedavg' would average those of one number; take one of 'fedex', 'flora', 'product_svd'",
        ),
        (
            {"scheme.adapter_codec": SOFT, "scheme.aggregator": {"kind": "ffa"}},
            "'soft' cannot send what the aggregator 'ffa' averages",
        ),
        (
            {"scheme.adapter_codec": {**SOFT, "unsent": "masked"}, "scheme.aggregator": {"kind": "fedex"}},
            "'soft' says what it did not send, and the aggregator 'fedex' cannot leave that out",
        ),
        (
            {"scheme.adapter_codec": {"kind": "soft", "sparsification_ratio": 0.01}},
            "'soft' sends nothing with sparsification_ratio 0.01",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_runs(tiny_scenario, changes, told):
    (fault,) = check(tiny_scenario({**FEDERATED, **changes}))
    assert told in fault


def test_pairs_made_equally_long_are_not_told_apart_by_length(tiny_scenario):
    told = {
        "scheme.regularizer": {"kind": "orthogonality", "form": "id"},
        "scheme.adapter_codec": {"kind": "soft", "importance": "norm"},
    }
    with pytest.raises(CosimError, match=r"form = 'cos', or importance = 'delta'"):
        tiny_scenario({**FEDERATED, **told})
    tiny_scenario({**FEDERATED, **told, "scheme.adapter_codec": {"kind": "soft"}})


# What an allocator is told


TSFA = {
    "scheme.adapter_codec": {"kind": "soft"},
    "radio.federated_uplink.num_subchannels": 6,
    "allocator": {"kind": "tsfa", "latency_limit_s": 4e-4},
}


def test_an_allocator_decides_by_what_each_client_has_learned_this_round(trained):
    record = trained(TSFA)
    ratios = {
        (row["round"], row["actor"]): row["value"]
        for row in record.metrics.to_pylist()
        if row["name"] == "sparsification_ratio"
    }
    assert {round_ for round_, _ in ratios} == {1, 2}
    assert len(set(ratios.values())) > 1
    rows = record.spans.to_pylist()
    sent = {(row["round"], row["actor"]): row["bits"] for row in rows if row["name"] == "adapter_upload"}
    (pair_bits,) = {64 * (16 + 48)}
    for at, ratio in ratios.items():
        pairs = round(ratio * 12)
        assert ratio == pytest.approx(pairs / 12)
        assert pairs * pair_bits < sent[at] <= pairs * pair_bits + 13


def test_asking_for_energies_changes_nothing_that_is_learned(trained):
    """Energies are found out in the middle of a round; with all pairs sent, training is as without."""
    codec = {"kind": "soft", "error_feedback": False}
    generous = {**TSFA, "scheme.adapter_codec": codec, "allocator.latency_limit_s": 1e3}
    asked = trained(generous)
    told = {row["value"] for row in asked.metrics.to_pylist() if row["name"] == "sparsification_ratio"}
    assert told == {1.0}
    assert figures_of(asked, "eval_loss") == figures_of(trained({}), "eval_loss")
