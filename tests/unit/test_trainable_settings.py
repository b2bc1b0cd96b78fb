"""``[trainable]`` and its short form ``[lora]``, and what does not go with a trainable without factors."""

import pytest

from cosim.errors import ScenarioError
from cosim.scenario.build import check, prepare
from cosim.scenario.differences import switches
from cosim.scenario.load import change, load, run_hash, to_dict, to_toml

FULL = {"trainable.kind": "full", "scheme": {"kind": "federated", "num_rounds": 1}}


def test_lora_is_short_for_a_trainable_of_that_kind(tmp_path):
    texts = {
        "short": "[lora]\nrank = 8\n",
        "long": '[trainable]\nkind = "lora"\nrank = 8\n',
        "both": '[lora]\nrank = 8\n[trainable]\nkind = "full"\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(f'name = "one"\n{text}')
    short, long_ = load(tmp_path / "short"), load(tmp_path / "long")
    assert short == long_
    assert run_hash(short) == run_hash(long_)
    assert short.trained.lora_rank == 8
    with pytest.raises(ScenarioError, match=r"\[lora\] and \[trainable\] were both given") as fault:
        load(tmp_path / "both")
    assert "\n" not in str(fault.value)


def test_a_trainable_is_changed_by_either_path_and_written_once(tiny_scenario, tmp_path):
    scenario = tiny_scenario({"trainable.rank": 6})
    assert scenario == tiny_scenario({"lora.rank": 6})
    full = change(scenario, {"trainable.kind": "full"})
    assert "lora" not in to_dict(full)
    (tmp_path / "full.toml").write_text(to_toml(full))
    assert load(tmp_path / "full.toml") == full
    (told,) = switches(scenario, full, ["trainable.kind"])
    assert str(told).startswith("trainable: lora -> full; lost rank = 6")
    assert change(full, {"trainable.kind": "lora", "trainable.rank": 6}) == scenario
    with pytest.raises(ScenarioError, match="were both given"):
        change(full, {"lora.rank": 6})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"scheme.aggregator.kind": "fedex"},
            "scheme.aggregator: 'fedex' is about the factors of LoRA adapters, and trainable.kind = 'full' "
            "has none; take one of 'chosen_blocks', 'fedavg', 'personal', 'q_fedavg', or train [lora].",
        ),
        ({"scheme.adapter_codec.kind": "soft"}, "scheme.adapter_codec: 'soft' is about the factors"),
        (
            {"scheme.regularizer.kind": "orthogonality"},
            "scheme.regularizer: 'orthogonality' is about the fact",
        ),
        (
            {"scheme.aggregator": {"kind": "fedavg", "client_ranks": [4]}},
            "scheme.aggregator.client_ranks: are ranks of LoRA adapters",
        ),
        (
            {"allocator": {"kind": "fedsllm", "rounds_to_target": {"1": 60.0, "4": 44.0}}},
            "allocator: 'fedsllm' as it is set chooses the rank of LoRA adapters",
        ),
        ({"model.dtype": "bfloat16"}, "model.dtype: 'bfloat16' rounds an optimiser's steps away"),
        (
            {"scheme": {"kind": "split_federated", "num_rounds": 1}},
            "trainable.kind: 'full' cannot train a head that is tied to the token embedding",
        ),
    ],
    ids=["aggregator", "codec", "regularizer", "client_ranks", "allocator", "dtype", "tied"],
)
def test_what_does_not_go_with_full_is_one_clear_line(changes, told, tiny_scenario):
    (line,) = check(tiny_scenario({**FULL, **changes}))
    assert line.startswith(told)
    assert "\n" not in line
    assert line.endswith(".")


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ({"aggregator.kind": "product_svd"}, "scheme.aggregator: 'product_svd' averages products of factors"),
        ({"kind": "pruned_federated"}, "lora.use_dora: the norms of a pruned layer"),
        ({"stages": [{"num_rounds": 1, "trainable": {"kind": "sparse"}}]}, "scheme.stages: the magnitudes"),
    ],
)
def test_what_does_not_go_with_magnitudes_is_one_clear_line(scheme, told, tiny_scenario):
    changes = {"scheme.kind": "federated", "scheme.num_rounds": 2, "lora.use_dora": True}
    (line,) = check(tiny_scenario(changes | {f"scheme.{name}": one for name, one in scheme.items()}))
    assert line.startswith(told)


@pytest.mark.parametrize("allocator", ["equal", "time_shared", "fedsllm", "nested", "random"])
def test_an_allocator_that_leaves_the_rank_alone_serves_full(allocator, tiny_scenario):
    scheme = {"kind": "split_federated", "num_rounds": 1}
    prepared = prepare(
        tiny_scenario({**FULL, "scheme": scheme, "trainable.untie_head": True, "allocator.kind": allocator})
    )
    assert prepared.allocation is not None
    assert prepared.allocation.lora_rank == prepared.task.trainable.lora_rank


def test_a_device_too_small_for_every_parameter_is_told_so_without_a_rank(tiny_scenario):
    (line,) = check(tiny_scenario({**FULL, "clients.memory_bytes": 1e4}))
    assert "training with cut_layer 3 needs" in line
