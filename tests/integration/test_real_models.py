from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
import torch
from adapters import save_adapter
from tokenizers import Tokenizer

from cosim.errors import ScenarioError
from cosim.learning.base.folder import FolderBase
from cosim.learning.base.random import RandomBase
from cosim.learning.data.batch import IGNORED, Batch
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.outputs import Outputs
from cosim.learning.trainable.lora import Lora

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
STORIES = SHARED / "stories260k"
TEXTS = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
    "One day, a boy named Tim went to the park with his mom. He saw a big dog and was scared.",
    "The cat sat on the mat. It was a sunny day and the cat was happy.",
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not STORIES.is_dir(), reason=f"no real model at {STORIES}"),
    # peft asks transformers a question under a name that newer releases have renamed
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


def story_batch(base: FolderBase) -> Batch:
    folder = base.tokenizer_folder()
    assert folder is not None
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [tokenizer.encode(text).ids for text in TEXTS]
    rows = [row if row[0] == 1 else [1, *row] for row in rows]
    length = max(map(len, rows))
    ids = np.array([row + [0] * (length - len(row)) for row in rows])
    mask = np.arange(length) < np.array([[len(row)] for row in rows])
    return Batch(ids, mask, np.where(mask, ids, IGNORED))


def trainable(model: SplitModel) -> Adapter:
    """Return leaves with B moved off zero, or A would have no gradient to compare."""
    generator = torch.Generator().manual_seed(1)
    adapter = {}
    for name, values in model.initial_adapter().items():
        noise = 0.05 * torch.randn(values.shape, generator=generator)
        adapter[name] = (values + noise.to(values.dtype)).requires_grad_()
    return adapter


def mean_loss(outputs: Outputs) -> torch.Tensor:
    return outputs.loss_sum.sum() / outputs.num_targets.sum()


def test_the_story_model_knows_stories() -> None:
    base = FolderBase(path=STORIES)
    model = SplitModel.load(base, Lora(rank=8))
    assert model.shape.num_weights == 260_032
    assert model.shape.num_layers == 5
    with torch.no_grad():
        outputs = model.whole_outputs(model.initial_adapter(), story_batch(base))
    assert 0.5 < float(mean_loss(outputs)) < 1.8  # 6.24 for a model that knows nothing
    assert float(outputs.num_correct.sum() / outputs.num_targets.sum()) > 0.5


@pytest.mark.parametrize("cut_layer", [1, 2, 3, 4])
def test_the_story_model_trains_cut_as_it_does_whole(cut_layer: int) -> None:
    base = FolderBase(path=STORIES)
    model = SplitModel.load(base, Lora(rank=4, target_modules=("all-linear",)), dtype="float64")
    batch, whole, split = story_batch(base), trainable(model), trainable(model)
    expected = model.whole_outputs(whole, batch)
    mean_loss(expected).backward()
    activations = model.client_forward(split, batch, cut_layer)
    received = activations.detach().requires_grad_()
    outputs = model.server_outputs(split, received, batch, cut_layer)
    mean_loss(outputs).backward()
    activations.backward(received.grad)
    assert torch.equal(outputs.logits, expected.logits)
    for name in model.names:
        assert torch.equal(split[name].grad, whole[name].grad)


def test_a_trained_story_adapter_loads_into_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    base = FolderBase(path=STORIES)
    model = SplitModel.load(base, Lora(rank=4))
    batch, adapter = story_batch(base), model.initial_adapter()
    adapter = {name: values.requires_grad_() for name, values in adapter.items()}
    first = None
    for _ in range(20):
        loss = mean_loss(model.whole_outputs(adapter, batch))
        first = float(loss.detach()) if first is None else first
        step = torch.autograd.grad(loss, list(adapter.values()))
        adapter = {
            name: (values - 0.01 * gradient).detach().requires_grad_()
            for (name, values), gradient in zip(adapter.items(), step, strict=True)
        }
    last = float(mean_loss(model.whole_outputs(adapter, batch)).detach())
    assert last < first - 0.05
    save_adapter(model, tmp_path, adapter)
    loaded = PeftModel.from_pretrained(base.load("causal_lm", 0, "float32"), tmp_path)
    with torch.no_grad():
        result = loaded(
            input_ids=torch.tensor(batch.input_ids),
            attention_mask=torch.tensor(batch.attention_mask).long(),
            labels=torch.tensor(batch.labels),
        )
    assert float(result.loss) == pytest.approx(last, rel=1e-5)


def test_the_real_gpt2_config_is_that_of_its_size() -> None:
    # The file is called small, and its contents are GPT-2 medium.
    base = RandomBase(config_path=SHARED / "gpt2-tokenizer" / "gpt2-small-config.json")
    shape = base.shape()
    assert (shape.num_layers, shape.hidden_size, shape.num_weights) == (24, 1024, 354_823_168)


def broken_copy(tmp_path: Path, *left_out: str) -> Path:
    copy = copytree(STORIES, tmp_path / "broken", ignore=ignore_patterns(*left_out))
    copy.chmod(0o755)
    return copy


def test_only_pickled_real_weights_are_refused(tmp_path: Path) -> None:
    folder = broken_copy(tmp_path, "*.safetensors")
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ScenarioError, match="as a pickle only") as caught:
        SplitModel.load(FolderBase(path=folder), Lora())
    assert "\n" not in str(caught.value)


def test_truncated_real_weights_are_refused(tmp_path: Path) -> None:
    folder = broken_copy(tmp_path, "*.safetensors")
    weights = (STORIES / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ScenarioError, match="is damaged") as caught:
        SplitModel.load(FolderBase(path=folder), Lora())
    assert "\n" not in str(caught.value)


def test_a_real_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="holds no config") as caught:
        SplitModel.load(FolderBase(path=broken_copy(tmp_path, "config.json")), Lora())
    assert "\n" not in str(caught.value)
