"""What a run was made from is what it goes on with: files and folders count by content."""

import json
import os
import shutil

import pytest

from cosim.distribution import own_version
from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.runs import resume, run
from cosim.scenario.inputs import digests, first_other
from cosim.scenario.load import run_hash, run_hash_by_names, to_dict, to_toml
from cosim.studies.execute import RunRequest, kept, perform
from cosim.studies.load import load_study
from cosim.studies.plan import make_plan, run_folder
from cosim.whatifs import whatif

STUDY = 'name = "exchanged"\nbase = "base.toml"\ntiming_only = true\nmeasures = ["total_s"]\n'


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer_path, tiny_scenario):
    """Return folders of two models that differ in their weights alone."""
    import torch

    folders = []
    for seed in (0, 1):
        base = tiny_scenario({"model.base.seed": seed}).model.base
        folder = tmp_path_factory.mktemp("models") / str(seed)
        with torch.random.fork_rng():
            base.load("causal_lm", 0, "float32").save_pretrained(folder)
        shutil.copy(tokenizer_path, folder / "tokenizer.json")
        folders.append(folder)
    return folders


@pytest.fixture
def model(models, tmp_path):
    """Return a folder with the first model that may be written to."""
    return shutil.copytree(models[0], tmp_path / "model")


@pytest.fixture
def scenario(model, tiny_scenario):
    return tiny_scenario({"model.base": {"kind": "folder", "path": str(model)}, "scheme.num_rounds": 1})


@pytest.fixture
def record(scenario, tmp_path):
    return run(scenario, tmp_path / "run", timing_only=True)


def exchange(model, models):
    """Put other weights in the place of a model's; size and time of change stay."""
    weights = model / "model.safetensors"
    before = weights.stat()
    (model / "other").write_bytes((models[1] / "model.safetensors").read_bytes())
    (model / "other").replace(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_size == before.st_size


def test_a_manifest_holds_the_digest_of_each_file_that_counts(record, scenario, model):
    found = json.loads((record / "manifest.json").read_text())["inputs"]
    assert found == digests(scenario)
    assert set(found) == {
        f"model.base.path/{name}"
        for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    }


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_exchanged_file_of_a_model_is_another_run(record, scenario, model, models, name):
    before = run_hash(scenario)
    if name == "model.safetensors":
        exchange(model, models)
    else:
        (model / name).write_text((model / name).read_text() + "\n")
    assert run_hash(scenario) != before
    assert first_other(scenario, Record.open(record).manifest["inputs"]) == str(model / name)
    line = f"{record}: {model / name} is not the one the run began with; run it as a new one: cosim run "
    with pytest.raises(RecordError) as told:
        whatif(record, {"radio.noise_figure_db": 3.0}, out=record.parent / "other")
    assert str(told.value) == f"{line}{record / 'scenario.toml'}"
    manifest = json.loads((record / "manifest.json").read_text())
    del manifest["digest"], manifest["files"]  # as earlier versions wrote it, without digests of its own
    (record / "manifest.json").write_text(json.dumps(manifest | {"status": "failed"}))
    with pytest.raises(RecordError) as told:
        resume(record)
    assert str(told.value).startswith(line)


def test_files_nobody_reads_change_no_run(record, scenario, model):
    before = run_hash(scenario)
    (model / "README.md").write_text("# A model")
    (model / ".cache").mkdir()
    (model / ".cache" / "config.json").write_text("{}")
    assert run_hash(scenario) == before
    whatif(record, {"radio.noise_figure_db": 3.0}, out=record.parent / "other")


def test_a_missing_or_unreadable_input_is_a_change_like_any_other(record, scenario, model):
    (model / "model.safetensors").unlink()
    other = first_other(scenario, Record.open(record).manifest["inputs"])
    assert other == str(model / "model.safetensors")


def test_a_run_of_an_earlier_version_is_taken_as_it_was(record, scenario, tiny_scenario):
    """Its manifest says nothing of inputs, and its hash counts a folder by name."""
    assert run_hash_by_names(tiny_scenario()) == run_hash(tiny_scenario())
    manifest = json.loads((record / "manifest.json").read_text())
    del manifest["inputs"], manifest["digest"], manifest["files"]
    manifest["scenario"] = run_hash_by_names(scenario)
    (record / "manifest.json").write_text(json.dumps(manifest))
    whatif(record, {"radio.noise_figure_db": 3.0}, out=record.parent / "other")


def test_a_study_recognises_that_its_case_is_not_the_one_that_was_run(scenario, model, models, tmp_path):
    (tmp_path / "base.toml").write_text(to_toml(scenario))
    (tmp_path / "study.toml").write_text(STUDY)

    def planned():
        (case,) = make_plan(load_study(tmp_path / "study.toml")).cases
        folder = run_folder(tmp_path / "study", case, 0)
        request = RunRequest(
            0, 0, to_dict(case.scenario), str(folder), None, True, [], own_version(), dict(case.inputs)
        )
        return folder, request

    folder, request = planned()
    assert perform(request).reason == ""
    assert kept(folder, scenario, True)
    exchange(model, models)
    assert not kept(folder, scenario, True)
    assert f"{model / 'model.safetensors'} has changed since the study began" in perform(request).reason
    again, request = planned()
    assert again != folder
    assert perform(request).reason == ""
    assert kept(again, scenario, True)
    (again / "manifest.json").write_text('{"format')
    assert f"remove {again}, and the study's command makes it again" in perform(request).reason
