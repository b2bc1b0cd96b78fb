"""Images: what a model is given of them, and that one learns to tell them apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tiny_bases import tiny_base

from cosim.errors import ScenarioError
from cosim.learning.data.images import Images
from cosim.learning.data.patches import PatchCorpus
from cosim.learning.data.shapes import FORMS, Shapes
from cosim.learning.data.tokenizer import Tokenizer
from cosim.learning.data.tokens import SpecialIds
from cosim.learning.families.hooked import _pixels
from cosim.learning.layers import Patches
from cosim.runs import run
from cosim.scenario.build import prepare_tasks
from cosim.scenario.settings import Scenario

VIT = {"kind": "random", "config": dict(tiny_base("vit").config or {})}


def corpus_of(source: Shapes | Images, patches: Patches) -> PatchCorpus:
    seen = source, Tokenizer(Path()), SpecialIds(None, None, 0), patches.count + 1, "classification"
    return PatchCorpus(*seen, patches=patches)


def test_patches_are_put_together_to_the_image_they_were_cut_from() -> None:
    source, patches = Shapes(side=12, num_train=6, num_test=1), Patches(12, 4, 3)
    tokens = corpus_of(source, patches).train
    assert tokens.input_ids.shape == (6, 10, 48)
    whole = _pixels(torch.tensor(tokens.batch(range(6)).input_ids), patches)
    for one, example in zip(whole, source.load().train, strict=True):
        assert example.image is not None
        levels = np.frombuffer(example.image.levels, dtype=np.uint8).reshape(12, 12, 3)
        assert np.array_equal(((one + 1) * 127.5).round().numpy(), levels.transpose(2, 0, 1))


def test_an_image_of_another_size_is_scaled_and_one_of_a_folder_has_its_class(tmp_path: Path) -> None:
    for name, level in (("cats", 40), ("dogs", 200)):
        (tmp_path / name).mkdir()
        for number in range(2):
            Pillow.new("RGB", (20, 30), (level, level, level)).save(tmp_path / name / f"{number}.png")
    source = Images(train_path=tmp_path, test_fraction=0.5)
    seen = corpus_of(source, Patches(8, 4, 1))
    assert {(int(seen.train.labels[row]), int(seen.train.input_ids[row, 1:].max())) for row in range(2)} <= {
        (0, 40),
        (1, 200),
    }
    with pytest.raises(ScenarioError, match="has a folder of images for each class"):
        Images(train_path=tmp_path / "cats").load()


def test_a_vision_transformer_is_trained_behind_a_cut(
    tiny_scenario: Callable[..., Scenario], tmp_path: Path
) -> None:
    changes = {
        "model.base": VIT,
        "model.task": "classification",
        "data.source": {"kind": "shapes", "side": 8, "num_train": 24, "num_test": 6},
    }
    scenario = tiny_scenario(changes)
    (prepared,) = prepare_tasks(scenario)
    assert prepared.task.data.sequence_length == 5
    assert prepared.task.tokens.corpus.labels == FORMS
    assert (run(scenario, tmp_path / "run") / "manifest.json").is_file()
    every = {**changes, "trainable.kind": "full", "scheme": {"kind": "federated", "num_rounds": 1}}
    saved = run(tiny_scenario(every), tmp_path / "full") / "model"
    assert {path.name for path in saved.iterdir()} >= {"config.json", "model.safetensors"}
    with pytest.raises(ScenarioError, match="gives images, and a gpt2 model reads text"):
        prepare_tasks(tiny_scenario({"data.source": changes["data.source"], "model.task": "classification"}))
