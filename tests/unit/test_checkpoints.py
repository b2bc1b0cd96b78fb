"""What a check says of a checkpoint, held against what transformers does when it loads it."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
from transformers.activations import ACT2FN

from cosim.errors import ScenarioError
from cosim.learning.base.checkpoint import read_json, weight_files
from cosim.learning.base.folder import FolderBase
from cosim.learning.base.random import RandomBase
from cosim.learning.base.weights import compare, expected_weights, stored_tensors
from cosim.learning.config_values import ACTIVATIONS
from cosim.learning.model import SplitModel
from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.slots import refuse_unannounced
from cosim.learning.trainable.lora import Lora
from cosim.learning.transformers_models import transformers_config
from cosim.testing.tiny_bases import NUM_LABELS, USES
from tests.tiny_bases import tiny_base

HEADS = ("classifier", "score")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, ModelTask], Path]:
    """Return the folder of a tiny model, saved once."""
    folders: dict[tuple[str, ModelTask], Path] = {}

    def folder(family: str, task: ModelTask) -> Path:
        if (family, task) not in folders:
            path = tmp_path_factory.mktemp(f"{family} {task}")
            labels = NUM_LABELS if task == "classification" else 0
            tiny_base(family).load(task, labels, "float32").save_pretrained(path)
            folders[family, task] = path
        return folders[family, task]

    return folder


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> FolderBase:
    """Return the base of a folder whose tensors were changed."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return FolderBase(path=folder)


def fault(base: FolderBase, task: ModelTask = "causal_lm") -> str:
    """Return what a check says of a base, and see that loading says the same."""
    with pytest.raises(ScenarioError) as checked:
        base.weight_notes(base.shape(task))
    with pytest.raises(ScenarioError) as loaded:
        base.load(task, 0, "float32")
    assert str(checked.value) == str(loaded.value)
    assert "\n" not in str(checked.value)
    return str(checked.value)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("family", "task"), USES)
def test_the_tensors_a_config_means_are_those_of_the_model(family: str, task: ModelTask, tied: bool) -> None:
    labels = NUM_LABELS if task == "classification" else 0
    base = tiny_base(family, tie_word_embeddings=tied, **({"head_dim": 6} if family == "llama" else {}))
    model = base.load(task, labels, "float32")
    found = {
        name: tuple(weights.shape) for name, weights in model.named_parameters() if not name.startswith(HEADS)
    }
    assert expected_weights(base.shape(task, labels)) == found


def transformers_says(folder: Path, task: ModelTask) -> tuple[set[str], set[str]]:
    """Return what transformers finds missing or of another shape, and what it does not use."""
    classes = (
        MODEL_FOR_CAUSAL_LM_MAPPING if task == "causal_lm" else MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    )
    config = transformers_config(read_json(folder / "config.json"))
    _, info = classes[type(config)].from_pretrained(
        folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True
    )
    wrong = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    return {name for name in wrong if not name.startswith(HEADS)}, set(info["unexpected_keys"])


@settings(max_examples=5, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize(("family", "task"), USES)
def test_headers_tell_what_transformers_finds_missing_and_does_not_use(
    saved: Callable[[str, ModelTask], Path],
    tmp_path_factory: pytest.TempPathFactory,
    family: str,
    task: ModelTask,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    copytree(saved(family, task), folder, dirs_exist_ok=True)
    tensors = load_file(folder / "model.safetensors")
    names = st.sampled_from(sorted(tensors))
    inner = {"gpt2": "transformer.", "llama": "model."}.get(family, f"{family}.")
    if family == "gpt2" and task == "causal_lm" and data.draw(st.booleans(), label="by its head"):
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    for name in data.draw(st.sets(names, max_size=3), label="gone"):
        del tensors[name]
    for name in data.draw(st.sets(names, max_size=2), label="cut") & tensors.keys():
        tensors[name] = tensors[name][:-1].contiguous()
    if data.draw(st.booleans(), label="bare model"):
        tensors = {name.removeprefix(inner): tensor for name, tensor in tensors.items()}
    if data.draw(st.booleans(), label="old names"):
        for old, new in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
            tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    for name in data.draw(st.sets(st.sampled_from(["extra.weight", f"{inner}layers.9.x", "cls.bias"]))):
        tensors[name] = torch.ones(2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    labels = NUM_LABELS if task == "classification" else 0
    config = read_json(folder / "config.json")
    fit = compare(stored_tensors(weight_files(folder)), ModelShape.read(config, task, labels))
    missing, unused = transformers_says(folder, task)
    if "transformer.wte.weight" in missing:
        missing.discard("lm_head.weight")  # tied to it
    assert set(fit.missing) == missing
    assert {name for name in fit.unused if not name.startswith(HEADS)} == unused


def test_an_adapter_beside_the_weights_is_not_loaded(
    saved: Callable[[str, ModelTask], Path], tmp_path: Path
) -> None:
    clean = FolderBase(path=saved("gpt2", "causal_lm"))
    folder = copytree(clean.path, tmp_path / "stray")
    stray = LoraConfig(r=2, target_modules=["mlp.c_proj"], init_lora_weights=False, fan_in_fan_out=True)
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers something by an old name
        get_peft_model(clean.load("causal_lm", 0, "float32"), stray).save_pretrained(folder)
    base = FolderBase(path=folder)
    assert base.content_key() == clean.content_key()
    assert not [name for name, _ in base.load("causal_lm", 0, "float32").named_modules() if "lora" in name]
    assert SplitModel.load(base, Lora(rank=2)).names == SplitModel.load(clean, Lora(rank=2)).names


@pytest.mark.parametrize("entry", [{"transformers_weights": "other.safetensors"}, {"auto_map": None}])
def test_no_entry_of_a_config_points_the_loader_elsewhere(
    saved: Callable[[str, ModelTask], Path], tmp_path: Path, entry: dict[str, Any]
) -> None:
    clean = FolderBase(path=saved("gpt2", "causal_lm"))
    folder = copytree(clean.path, tmp_path / "copy")
    other = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1.0 for name, tensor in other.items()}, folder / "other.safetensors")
    (folder / "config.json").write_text(json.dumps(clean.read_config() | entry))
    weights = FolderBase(path=folder).load("causal_lm", 0, "float32").transformer.wte.weight
    assert torch.equal(weights, clean.load("causal_lm", 0, "float32").transformer.wte.weight)


def test_a_model_that_trains_more_or_less_than_announced_is_refused() -> None:
    lora, base = Lora(rank=2), tiny_base("gpt2")
    shape = base.shape()
    with warnings.catch_warnings(action="ignore"):
        model = get_peft_model(
            base.load("causal_lm", 0, "float32"), LoraConfig(**lora.peft_settings(shape, "x"))
        )
    announced = {one.name for one in lora.parameters(shape)}
    refuse_unannounced(model, announced)
    with pytest.raises(
        ScenarioError, match=r"1 parameter\(s\) would not be trained that the settings announce"
    ):
        refuse_unannounced(model, {*announced, "more"})
    model.base_model.model.transformer.wte.weight.requires_grad_()
    with pytest.raises(ScenarioError, match=r"would be trained that .* the first .*wte\.weight"):
        refuse_unannounced(model, announced)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(
    saved: Callable[[str, ModelTask], Path], tmp_path: Path, dtype: torch.dtype, value: float
) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].to(dtype)
        tensors["transformer.h.1.mlp.c_fc.bias"][3] = value

    base = changed(copytree(saved("gpt2", "causal_lm"), tmp_path / "spoilt"), spoil)
    assert "holds nan or infinity in transformer.h.1.mlp.c_fc.bias" in fault(base)


def test_weights_of_integers_are_refused(saved: Callable[[str, ModelTask], Path], tmp_path: Path) -> None:
    def quantise(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.0.mlp.c_fc.weight"] = tensors["transformer.h.0.mlp.c_fc.weight"].to(torch.int8)

    base = changed(copytree(saved("gpt2", "causal_lm"), tmp_path / "int8"), quantise)
    assert "holds transformer.h.0.mlp.c_fc.weight as I8, which cannot be trained on" in fault(base)


def test_weights_that_the_config_does_not_use_are_noted(
    saved: Callable[[str, ModelTask], Path], tmp_path: Path
) -> None:
    folder = copytree(saved("gpt2", "causal_lm"), tmp_path / "deep")
    (folder / "config.json").write_text(json.dumps(read_json(folder / "config.json") | {"n_layer": 2}))
    base = FolderBase(path=folder)
    (note,) = base.weight_notes(base.shape())
    assert note.startswith("12 of 40 tensors of the model's checkpoint are not used")
    assert "transformer.h.2.attn.c_attn.bias" in note
    whole = FolderBase(path=saved("gpt2", "causal_lm"))
    assert whole.weight_notes(whole.shape()) == ()


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        (None, "names no weight_map"),
        (["a"], "names no weight_map"),
        ({}, "names no weight_map"),
        ({"a": None}, "names null, which is no safetensors file"),
        ({"a": 3}, "names 3, which is no safetensors file"),
        ({"a": "model.bin"}, "which is no safetensors file"),
        ({"a": "x\0.safetensors"}, "which is no safetensors file"),
        ({"a": "../other.safetensors"}, "which is outside its folder"),
        ({"a": "/etc/other.safetensors"}, "which is outside its folder"),
        ({"a": "gone.safetensors"}, "names gone.safetensors, which is not there"),
    ],
)
def test_an_index_that_names_no_files_of_its_folder_is_refused(
    saved: Callable[[str, ModelTask], Path], tmp_path: Path, weight_map: object, said: str
) -> None:
    folder = copytree(saved("gpt2", "causal_lm"), tmp_path / "indexed")
    (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert said in fault(FolderBase(path=folder))


def test_two_files_with_one_tensor_are_refused(
    saved: Callable[[str, ModelTask], Path], tmp_path: Path
) -> None:
    folder = copytree(saved("gpt2", "causal_lm"), tmp_path / "twice")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    names = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(names))
    assert "and b.safetensors both hold" in fault(FolderBase(path=folder))


FIELDS = {
    "gpt2": ("n_inner", "activation_function", "layer_norm_epsilon", "scale_attn_weights", "n_embd"),
    "llama": ("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "rope_scaling", "hidden_act"),
    "bert": ("hidden_act", "layer_norm_eps", "type_vocab_size"),
    "roberta": ("pad_token_id", "hidden_act", "layer_norm_eps"),
}
OF_ALL = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "initializer_range"),
    *("id2label", "auto_map", "torch_dtype", "num_labels", "hidden_dropout_prob", "use_cache", "layer_types"),
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "quantization_config"),
)
ODD: tuple[Any, ...] = (None, "x", -1, 0, 1.5, True, [], {}, 10**30, [None])


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("family", FIELDS)
def test_a_config_that_passes_a_check_makes_a_model(family: str, odd: Any) -> None:
    task: ModelTask = "causal_lm" if family in ("gpt2", "llama") else "classification"
    labels = NUM_LABELS if task == "classification" else 0
    for name in (*FIELDS[family], *OF_ALL):
        base = tiny_base(family, **{name: odd})
        try:
            base.shape(task, labels)
        except ScenarioError:
            continue
        base.load(task, labels, "float32")


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"rope_type": "linear"}, "rope_scaling.factor must be a number above 0"),
        ({"rope_type": "llama3", "factor": 8.0}, "rope_scaling.low_freq_factor must be"),
        ({"type": "strange"}, "rope_scaling is of type 'strange'; known: default, linear"),
        ({"rope_type": ["linear"]}, "rope_scaling is of type"),
        ("linear", "rope_scaling must be a table or null"),
    ],
)
def test_rotary_positions_that_cannot_be_computed_are_refused(scaling: object, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        tiny_base("llama", rope_scaling=scaling).shape()


def test_every_activation_is_one_of_transformers() -> None:
    assert set(ACT2FN) >= ACTIVATIONS
    assert not [name for name in ACTIVATIONS if list(ACT2FN[name].parameters())]


@pytest.mark.parametrize(
    ("value", "place"), [(float("nan"), "nan"), ({"a": [object]}, r"config.n_layer.a\[0\]")]
)
def test_a_config_in_a_scenario_holds_what_json_can_hold(value: object, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        RandomBase(config={"model_type": "gpt2", "n_layer": value})
