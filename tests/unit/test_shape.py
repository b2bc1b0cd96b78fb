from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING

from cosim.errors import ScenarioError
from cosim.learning.architectures import FAMILIES
from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.trainable.lora import Lora
from cosim.testing.tiny_bases import NUM_LABELS, TINY, USES
from tests.tiny_bases import tiny_base

GPT2 = ModelShape.read(TINY["gpt2"])


def labels(task: ModelTask) -> int:
    return NUM_LABELS if task == "classification" else 0


VARIANTS: list[tuple[str, ModelTask, dict[str, Any]]] = [
    *((family, task, {}) for family, task in USES),
    ("gpt2", "causal_lm", {"n_inner": 20, "tie_word_embeddings": False}),
    ("llama", "causal_lm", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    ("llama", "causal_lm", {"attention_bias": True, "mlp_bias": True, "head_dim": 6}),
    ("llama", "classification", {"num_key_value_heads": 4}),
    ("bert", "classification", {"type_vocab_size": 5}),
]


@pytest.mark.parametrize(("family", "task", "changes"), VARIANTS)
def test_sizes_are_those_of_the_torch_model(family: str, task: ModelTask, changes: dict[str, Any]) -> None:
    base = tiny_base(family, **changes)
    shape = base.shape(task, labels(task))
    model = base.load(task, labels(task), "float32")
    assert shape.num_weights == sum(weights.numel() for weights in model.parameters())
    blocks = [
        child for name, child in model.named_modules() if name.endswith((".h.0", ".layers.0", ".layer.0"))
    ]
    assert shape.block_weights == sum(weights.numel() for weights in blocks[0].parameters())
    found = {}
    for name, module in blocks[0].named_modules():
        if type(module).__name__ == "Linear":
            found[name] = (module.in_features, module.out_features, module.bias is not None)
        elif type(module).__name__ == "Conv1D":
            found[name] = (module.nx, module.nf, module.bias is not None)
    assert list(found) == [linear.name for linear in shape.linears] or family == "llama"
    assert found == {linear.name: (linear.d_in, linear.d_out, linear.has_bias) for linear in shape.linears}
    head = [weights for name, weights in model.named_parameters() if name.startswith(("classifier", "score"))]
    assert shape.trained_head_weights == sum(weights.numel() for weights in head)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_config_leaves_out_is_what_transformers_takes(family: str) -> None:
    told = CONFIG_MAPPING[family]().to_dict()
    task: ModelTask = FAMILIES[family].tasks[0]
    assert ModelShape.read({"model_type": family}, task, labels(task)) == ModelShape.read(
        told, task, labels(task)
    )


def test_published_models_have_their_published_size() -> None:
    llama_7b = ModelShape.read({"model_type": "llama"})
    assert llama_7b.num_weights == 6_738_415_616
    assert ModelShape.read({"model_type": "gpt2"}).num_weights == 124_439_808
    bert = ModelShape.read({"model_type": "bert"}, "classification", 2)
    assert bert.num_weights == 109_482_240 + 2 * 769


@given(family_and_task=st.sampled_from(USES), rank=st.integers(1, 8), data=st.data())
@settings(deadline=None)
def test_targets_follow_peft_s_rule_for_names(
    family_and_task: tuple[str, ModelTask], rank: int, data: st.DataObject
) -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    family, task = family_and_task
    shape = ModelShape.read(TINY[family], task, labels(task))
    tails = [".".join(linear.name.split(".")[-k:]) for linear in shape.linears for k in (1, 2)]
    names = tuple(data.draw(st.lists(st.sampled_from(sorted(set(tails))), min_size=1, unique=True)))
    lora = Lora(rank=rank, target_modules=names)
    peft = LoraConfig(**lora.peft_settings(shape, "base"))
    matched = [x.name for x in shape.linears if check_target_module_exists(peft, f"model.layer.0.{x.name}")]
    assert list(lora.targets(shape)) == matched
    assert set(names) <= {name for name in tails if any(x.endswith(name) for x in matched)}


def test_all_linear_means_every_linear_layer_of_a_block() -> None:
    assert GPT2.targets(("all-linear",)) == GPT2.linears


@pytest.mark.parametrize(("family", "task"), USES)
def test_default_targets_are_known(family: str, task: ModelTask) -> None:
    shape = ModelShape.read(TINY[family], task, labels(task))
    expected = {
        "gpt2": ("attn.c_attn",),
        "llama": ("self_attn.q_proj", "self_attn.v_proj"),
        "bert": ("attention.self.query", "attention.self.value"),
        "roberta": ("attention.self.query", "attention.self.value"),
    }
    assert Lora().targets(shape) == expected[family]


def test_alpha_is_eight_times_the_rank_unless_given() -> None:
    assert Lora(rank=3).peft_settings(GPT2, "base")["lora_alpha"] == 24
    assert Lora(rank=3, alpha=5).peft_settings(GPT2, "base")["lora_alpha"] == 5


def test_an_unknown_target_is_named_with_what_there_is() -> None:
    with pytest.raises(
        ScenarioError,
        match="a gpt2 block has no layer 'c_atn'; known: c_attn, c_fc, c_proj, or 'all-linear'; "
        "did you mean 'c_attn'",
    ):
        GPT2.targets(("c_proj", "c_atn"))


def test_a_layer_outside_the_blocks_is_no_target() -> None:
    with pytest.raises(ScenarioError, match="no layer 'lm_head'"):
        GPT2.targets(("lm_head",))


@pytest.mark.parametrize(
    ("config", "task", "message"),
    [
        (
            {"model_type": "mamba"},
            "causal_lm",
            f"a model_type 'mamba' cannot be cut; those that can: {', '.join(FAMILIES)}$",
        ),
        ({"model_type": None}, "causal_lm", "a model_type null cannot be cut; those that can: bert"),
        ({}, "causal_lm", f"names no model_type; it must be one of {', '.join(FAMILIES)}"),
        (
            {"model_type": "bert"},
            "causal_lm",
            "a bert model cannot be used for causal_lm; it can be used for class",
        ),
        (
            {"model_type": "gpt2", "n_embd": 10, "n_head": 4},
            "causal_lm",
            "hidden_size 10 cannot be shared by 4",
        ),
        (
            {"model_type": "gpt2", "n_layer": 0},
            "causal_lm",
            "num_hidden_layers must be a whole number above 0, got 0",
        ),
        (
            {"model_type": "gpt2", "n_embd": "16"},
            "causal_lm",
            "hidden_size must be a whole number above 0, got '16'",
        ),
        (
            {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 3},
            "causal_lm",
            "4 attention heads cannot share 3 key and value heads",
        ),
        ({"model_type": "gpt2", "add_cross_attention": True}, "causal_lm", "add_cross_attention is on"),
    ],
)
def test_a_config_that_cannot_be_cut_says_why(config: dict[str, Any], task: ModelTask, message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        ModelShape.read(config, task, labels(task))
    assert "\n" not in str(caught.value)


def test_labels_and_task_must_agree() -> None:
    with pytest.raises(ValueError, match="a causal_lm model cannot have 2 labels"):
        ModelShape.read(TINY["gpt2"], "causal_lm", 2)
    with pytest.raises(ValueError, match="a classification model cannot have 0 labels"):
        ModelShape.read(TINY["gpt2"], "classification")
