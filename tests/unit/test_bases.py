import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.learning.base import Base
from cosim.learning.base import hub as hub_module
from cosim.learning.base.embedded import EmbeddedBase
from cosim.learning.base.folder import FolderBase
from cosim.learning.base.hub import HubBase
from cosim.learning.base.random import RandomBase
from cosim.learning.model import SplitModel
from cosim.learning.shape import ModelTask
from cosim.learning.trainable.lora import Lora
from cosim.parts import family, make
from cosim.testing.tiny_bases import NUM_LABELS, TINY, USES
from tests.tiny_bases import tiny_base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model in a folder."""
    tiny_base("gpt2").load("causal_lm", 0, "float32").save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def same_weights(left: Any, right: Any) -> bool:
    right_weights = dict(right.named_parameters())
    return all(torch.equal(weights, right_weights[name]) for name, weights in left.named_parameters())


def fault(base: Base) -> str:
    """Return the one line a base answers with when it is hashed, and check it answers alike when loaded."""
    with pytest.raises(ScenarioError) as hashing:
        base.content_key()
    with pytest.raises(ScenarioError) as loading:
        base.load("causal_lm", 0, "float32")
    assert str(hashing.value) == str(loading.value)
    assert "\n" not in str(hashing.value)
    return str(hashing.value)


def test_there_are_four_kinds_of_base() -> None:
    assert list(family(Base)) == ["embedded", "folder", "hub", "random"]
    assert make(Base, {"kind": "folder", "path": "x"}) == FolderBase(path=Path("x"))


def test_a_folder_gives_back_the_model_that_was_saved(folder: Path) -> None:
    base = FolderBase(path=folder)
    assert same_weights(
        base.load("causal_lm", 0, "float32"), tiny_base("gpt2").load("causal_lm", 0, "float32")
    )
    assert base.shape().num_layers == 3
    assert base.describe() == f"gpt2 model in {folder}"
    assert base.warning is None
    assert base.tokenizer_folder() == folder


def test_a_relative_folder_counts_from_the_current_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert FolderBase(path=Path("gpt2")).content_key() == FolderBase(path=folder).content_key()


def test_equal_contents_have_equal_keys_and_a_changed_weight_another(folder: Path, tmp_path: Path) -> None:
    key = FolderBase(path=folder).content_key()
    copy = copytree(folder, tmp_path / "copy")
    assert FolderBase(path=copy).content_key() == key
    assert len(bytes.fromhex(key)) == 16
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert FolderBase(path=copy).content_key() != key


def test_a_changed_config_has_another_key_but_not_a_reordered_one(folder: Path) -> None:
    base, file = FolderBase(path=folder), folder / "config.json"
    key, config = base.content_key(), json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(config.items()))))
    assert base.content_key() == key
    file.write_text(json.dumps({**config, "layer_norm_epsilon": 0.1}))
    assert base.content_key() != key


def test_sharded_weights_are_as_good_as_one_file(tmp_path: Path) -> None:
    model = tiny_base("llama").load("causal_lm", 0, "float32")
    model.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    base = FolderBase(path=tmp_path)
    assert same_weights(base.load("causal_lm", 0, "float32"), model)
    key = base.content_key()
    shard = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    shard.rename(tmp_path / "elsewhere")
    message = fault(base)
    assert shard.name in message
    assert "not there" in message
    (tmp_path / "elsewhere").rename(shard)
    assert base.content_key() == key


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_folder_can_be_loaded_in_another_number_format(folder: Path, dtype: Any) -> None:
    model = FolderBase(path=folder).load("causal_lm", 0, dtype)
    assert {weights.dtype for weights in model.parameters()} == {getattr(torch, dtype)}


def test_pickled_weights_are_refused_with_a_way_out(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    message = fault(FolderBase(path=folder))
    assert "as a pickle only (pytorch_model.bin), which runs code when opened" in message
    assert "save_pretrained(folder)" in message


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds no weights; model.safetensors or" in fault(FolderBase(path=folder))


@pytest.mark.parametrize("kept", [0, 5, 100, -10])
def test_truncated_weights_are_refused(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    message = fault(FolderBase(path=folder))
    assert f"{file} is damaged" in message
    assert "download or copy it again" in message


def test_a_missing_config_or_folder_is_told_apart(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "holds no config.json" in fault(FolderBase(path=folder))
    assert fault(FolderBase(path=folder / "nowhere")) == f"model: there is no folder {folder / 'nowhere'}"


@pytest.mark.parametrize(
    ("text", "told"), [("{", "cannot be read as JSON"), ("[1]", "must hold a JSON table")]
)
def test_a_config_that_is_no_table_is_refused(folder: Path, text: str, told: str) -> None:
    (folder / "config.json").write_text(text)
    assert told in fault(FolderBase(path=folder))


@pytest.mark.parametrize("change", [{"n_layer": 4}, {"vocab_size": 41}, {"n_embd": 18}])
def test_weights_that_do_not_fit_the_config_are_refused(folder: Path, change: dict[str, int]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ScenarioError, match="do not fit its config") as caught:
        FolderBase(path=folder).load("causal_lm", 0, "float32")
    assert "\n" not in str(caught.value)


def test_a_value_that_no_model_can_have_is_told_in_one_line(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_epsilon": "tiny"}))
    with pytest.raises(ScenarioError, match="layer_norm_epsilon must be a decimal number") as caught:
        FolderBase(path=folder).load("causal_lm", 0, "float32")
    assert "\n" not in str(caught.value)


def test_code_in_a_folder_never_runs(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    FolderBase(path=folder).load("causal_lm", 0, "float32")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("family_name", ["gpt2", "llama", "bert", "roberta"])
def test_a_classifier_s_own_head_is_no_part_of_the_base(tmp_path: Path, family_name: str) -> None:
    tiny_base(family_name).load("classification", 5, "float32").save_pretrained(tmp_path)
    base = FolderBase(path=tmp_path)
    model = base.load("classification", NUM_LABELS, "float32")
    assert model.config.num_labels == NUM_LABELS
    assert SplitModel.load(base, Lora(), "classification", NUM_LABELS).shape.num_labels == NUM_LABELS


def test_a_causal_model_can_become_a_classifier(folder: Path) -> None:
    before = torch.get_rng_state()
    model = FolderBase(path=folder).load("classification", NUM_LABELS, "float32")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(
        model.transformer.wte.weight, tiny_base("gpt2").load("causal_lm", 0, "float32").transformer.wte.weight
    )


@pytest.mark.parametrize(("family_name", "task"), USES)
def test_random_weights_follow_from_the_seed(family_name: str, task: ModelTask) -> None:
    labels = NUM_LABELS if task == "classification" else 0
    before = torch.get_rng_state()
    first, again = (tiny_base(family_name).load(task, labels, dtype) for dtype in ("float32", "float64"))
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(first.double(), again)
    other = RandomBase(config=TINY[family_name], seed=1).load(task, labels, "float32")
    assert not same_weights(first, other)


def test_a_random_base_warns_loudly_and_names_its_seed() -> None:
    base = RandomBase(config=TINY["gpt2"], seed=3)
    assert base.warning is not None
    assert "RANDOM" in base.warning
    assert base.describe() == "gpt2 model with random weights, seed 3"
    assert base.content_key() != RandomBase(config=TINY["gpt2"]).content_key()
    assert base.content_key() != RandomBase(config=TINY["llama"], seed=3).content_key()


def test_a_random_base_reads_a_config_from_a_file(folder: Path) -> None:
    base = RandomBase(config_path=folder / "config.json", tokenizer_path=folder / "tokenizer.json")
    assert base.shape().hidden_size == 16
    assert base.tokenizer_folder() == folder


@pytest.mark.parametrize("settings", [{}, {"config": {"model_type": "gpt2"}, "config_path": "config.json"}])
def test_a_random_base_has_one_config(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give either config, a table of values, or config_path"):
        RandomBase.model_validate(settings)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub_module._snapshot.cache_clear()
    yield tmp_path / "hub"
    hub_module._snapshot.cache_clear()


def test_a_hub_model_that_is_not_cached_cannot_be_had_offline(offline: Path) -> None:
    message = fault(HubBase(name="somebody/something"))
    assert "'somebody/something' is not in the hub's local cache, and the hub cannot be reached" in message


def test_a_name_the_hub_could_not_have_is_refused(offline: Path) -> None:
    assert "is no name of a model" in fault(HubBase(name="a/b/c"))


def test_a_cached_hub_model_needs_no_network(offline: Path, folder: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = offline / "models--somebody--something"
    copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    base = HubBase(name="somebody/something")
    assert base.content_key() == FolderBase(path=folder).content_key()
    assert base.name_or_path == "somebody/something"
    assert same_weights(
        base.load("causal_lm", 0, "float32"), FolderBase(path=folder).load("causal_lm", 0, "float32")
    )


def test_the_embedded_model_is_whole_and_small() -> None:
    base = EmbeddedBase()
    model = SplitModel.load(base, Lora())
    assert model.shape.num_weights < 10_000_000
    assert (base.tokenizer_folder() / "tokenizer.json").is_file()
    assert base.warning is None


def test_reading_a_base_loads_no_torch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from cosim.parts import family; from cosim.learning.base import Base\n"
        "from cosim.learning.trainable.lora import Lora; from cosim.learning import flop\n"
        "kinds = family(Base); base = kinds['folder'](path=Path(sys.argv[1]))\n"
        "key, shape = base.content_key(), base.shape()\n"
        "kinds['random'](config=base.read_config()).content_key()\n"
        "flop.split_flop(shape, Lora(), 1, 2, 8)\n"
        "heavy = {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
