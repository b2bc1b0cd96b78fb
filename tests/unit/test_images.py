"""Images: what a model is given of them, and that one learns to tell them apart."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.ipc
import pyarrow.parquet
import pytest
import torch
from PIL import Image as Pillow

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
from tests.tiny_bases import tiny_base

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


def test_images_of_a_column_are_those_of_a_folder_and_classes_have_their_names(tmp_path: Path) -> None:
    stored = []
    for number in range(6):
        place = tmp_path / "folder" / ("cats", "dogs")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Pillow.new("RGB", (5, 4), (number, 9, 90)).save(place / f"{number}.png")
        stored.append({"bytes": (place / f"{number}.png").read_bytes(), "path": None})
    features = {"img": {"_type": "Image"}, "kind": {"names": ["cats", "dogs"], "_type": "ClassLabel"}}
    table = pyarrow.table({"img": stored, "kind": [number % 2 for number in range(6)]})
    kept = {"huggingface": json.dumps({"info": {"features": features}})}  # as `datasets` 4 has it
    pyarrow.parquet.write_table(table.replace_schema_metadata(kept), tmp_path / "table.parquet")
    (tmp_path / "saved").mkdir()
    with pyarrow.ipc.new_stream(tmp_path / "saved" / "data.arrow", table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (tmp_path / "saved" / "dataset_info.json").write_text(json.dumps({"features": features}))
    columns = {"image_column": "img", "label_column": "kind", "test_path": tmp_path / "table.parquet"}
    folder = Images(train_path=tmp_path / "folder").load()
    expected = {(one.label, one.image.levels) for one in (*folder.train, *folder.test) if one.image}
    for name in ("table.parquet", "saved"):
        found = Images.model_validate({"train_path": tmp_path / name, **columns}).load()
        assert found.labels == ("cats", "dogs")
        assert {(one.label, one.image.levels) for one in found.train if one.image} == expected
    with pytest.raises(ScenarioError, match=r"row 1: no column 'image'.*set image_column"):
        Images(train_path=tmp_path / "table.parquet").load()
    with pytest.raises(ScenarioError, match="row 1: 'kind' holds no image"):
        Images(train_path=tmp_path / "saved", image_column="kind", label_column="kind").load()


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
    with pytest.raises(ScenarioError, match="gives images, and a model of 'gpt2' reads text"):
        prepare_tasks(tiny_scenario({"data.source": changes["data.source"], "model.task": "classification"}))
