"""What a user must know of model and texts is in the check, the record, the summary and the page."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig

from cosim.cli.overview import overview
from cosim.cli.studying import check_study
from cosim.errors import ScenarioError
from cosim.record.folder import Record
from cosim.report.page.content import run_content
from cosim.report.summary import summarise
from cosim.report.terminal import PlainConsole, show
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.scenario.settings import Scenario

Tiny = Callable[..., Scenario]
SHORT = {"data.sequence_length": 12, "scheme.num_rounds": 1, "scheme.local_steps": 1}


def texts(folder: Path, *rows: str, **more: Any) -> dict[str, Any]:
    """Return a source of these rows, each a text and its topic."""
    path = folder / "texts.csv"
    path.write_text("\n".join(["text,topic", *rows]) + "\n")
    return {"data.source": {"kind": "file", "train_path": str(path), "test_path": str(path), **more}}


@pytest.fixture(scope="module")
def cut_short(tiny_scenario: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenario, Record]:
    """Return a run whose texts are longer than its sequences."""
    scenario = tiny_scenario(SHORT)
    return scenario, Record.open(run(scenario, tmp_path_factory.mktemp("runs") / "short", timing_only=True))


def test_cut_texts_are_told_everywhere(cut_short: tuple[Scenario, Record]) -> None:
    scenario, record = cut_short
    notes = prepare(scenario).notes
    assert notes[0] == "40 of 40 training targets are cut: they are longer than data.sequence_length = 12."
    assert notes[1] == "8 of 8 held-out targets are cut: they are longer than data.sequence_length = 12."
    assert [line for line in overview(scenario) if line.startswith("  note ")] == [
        f"  note       {note}" for note in notes
    ]
    assert tuple(record.manifest["notes"]) == notes
    assert summarise(record).notes == notes
    shown = PlainConsole(file=io.StringIO(), width=200)
    show(summarise(record), shown)
    assert f"note: {notes[0]}" in shown.file.getvalue()
    assert run_content(record)["run"]["notes"] == list(notes)


def test_a_study_shows_what_is_to_be_known_of_its_first_case(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[data]\nsequence_length = 8\n")
    study = 'base = "base.toml"\n[vary.grid]\n"scheme.num_rounds" = [1, 2]\n'
    (tmp_path / "study.toml").write_text(study)
    notes = [line for line in check_study(tmp_path / "study.toml", None, None) if "note  " in line]
    assert len(notes) == 2
    assert "training targets are cut" in notes[0]


def test_a_study_is_checked_with_each_setting_that_varies(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("")
    (tmp_path / "study.toml").write_text(
        'base = "base.toml"\n[vary.grid]\n"model.cut_layer" = [1, 2, 4]\n"radio.noise_figure_db" = [3.0]\n'
    )
    with pytest.raises(ScenarioError, match=r"^case .*cut_layer.*: .*can be cut at"):
        list(check_study(tmp_path / "study.toml", None, None))


def test_rounds_that_would_begin_beyond_drifting_data_are_told(tiny_scenario: Tiny) -> None:
    lines = list(overview(tiny_scenario({"data.drift": {"duration_s": 1e-3}, "scheme.num_rounds": 3})))
    assert any("warning    data.drift.duration_s: the window has reached" in line for line in lines)


def test_nothing_is_noted_of_a_run_that_loses_nothing(tiny_scenario: Tiny, tmp_path: Path) -> None:
    assert prepare(tiny_scenario(texts(tmp_path, "a,b", "c,d", "e,f"))).notes == ()


def test_prompts_that_lose_their_beginning_are_counted(tiny_scenario: Tiny, tmp_path: Path) -> None:
    rows = ["a,a very long topic indeed with many words", "b,c", "d,e"]
    source = texts(tmp_path, *rows, prompt_column="topic")
    first, _ = prepare(tiny_scenario(source | {"data.sequence_length": 12})).notes
    assert first == "1 of 3 training prompts lose their beginning to fit into data.sequence_length = 12."


def test_special_tokens_written_into_texts_are_counted(tiny_scenario: Tiny, tmp_path: Path) -> None:
    source = texts(tmp_path, "a<|endoftext|>,b", "<|endoftext|>c,d", "e,f", "g<|pad|>,h")
    first, second = prepare(tiny_scenario(source)).notes
    assert first.startswith("2 of 4 training texts write out a special token that is added to every text")
    assert second.startswith("2 of 4 held-out texts")


@pytest.mark.parametrize(
    ("file", "entries", "said"),
    [
        ("generation_config.json", {"eos_token_id": 0}, "generation_config.json has 0"),
        ("tokenizer_config.json", {"eos_token": "</s>"}, "tokenizer_config.json has '</s>'"),
        ("tokenizer_config.json", {"eos_token": {"content": "</s>"}}, "tokenizer_config.json has '</s>'"),
        ("generation_config.json", {"eos_token_id": None}, None),
        ("generation_config.json", [], None),
    ],
)
def test_ends_that_only_other_files_know_are_told(
    tiny_scenario: Tiny, tokenizer_path: Path, tmp_path: Path, file: str, entries: Any, said: str | None
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_path.read_bytes())
    (tmp_path / file).write_text(json.dumps(entries))
    config = {key: value for key, value in tiny_scenario().model.base.config.items() if key != "eos_token_id"}
    base = {"kind": "random", "config": config, "tokenizer_path": str(tmp_path)}
    notes = prepare(tiny_scenario(texts(tmp_path, "a,b", "c,d", "e,f") | {"model.base": base})).notes
    if said is None:
        assert notes == ()
        return
    (note,) = notes
    assert note.startswith("No text ends with a special token: the model's config names no eos_token_id")
    assert said in note


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {"type": "strange"}}'])
def test_a_check_refuses_a_tokenizer_that_a_run_could_not_read(
    tiny_scenario: Tiny, tmp_path: Path, content: str
) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    (told,) = check(tiny_scenario({"model.base.tokenizer_path": str(tmp_path)}))
    assert f"{tmp_path / 'tokenizer.json'}: is no tokenizer file" in told


def test_a_tokenizer_that_may_not_be_read_is_one_line(
    tiny_scenario: Tiny, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_path.read_bytes())
    scenario, read = tiny_scenario({"model.base.tokenizer_path": str(tmp_path)}), Path.read_bytes

    def forbidden(self: Path) -> bytes:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(ScenarioError, match=r"cannot be read \(Permission denied"):
        prepare(scenario)


def test_a_check_refuses_ids_the_model_does_not_have(tiny_scenario: Tiny) -> None:
    (told,) = check(tiny_scenario({"model.base.config.vocab_size": 20}))
    assert "the tokenizer gives id" in told
    assert "the model has 20 tokens" in told


def test_classes_too_few_to_learn_are_told_with_file_and_column(tiny_scenario: Tiny, tmp_path: Path) -> None:
    one = texts(tmp_path, "a,b", "c,b", "d,b", label_column="topic") | {"model.task": "classification"}
    (told,) = check(tiny_scenario(one))
    assert told.startswith(f"data.source: 1 class(es) ('b') in {tmp_path / 'texts.csv'}, column 'topic'; ")
    (told,) = check(tiny_scenario(texts(tmp_path, "a,b", "c,d", "e,f") | {"model.task": "classification"}))
    assert f"0 class(es) in {tmp_path / 'texts.csv'}, where no label_column is named" in told


def test_the_order_of_classes_is_in_the_record_and_in_the_adapter(
    tiny_scenario: Tiny, tmp_path: Path
) -> None:
    rows = ["a,zebra", "b,ant", "c,mole", "d,ant", "e,mole", "f,zebra"]
    source = texts(tmp_path, *rows, label_column="topic") | {"model.task": "classification"}
    record = Record.open(run(tiny_scenario(SHORT | source), tmp_path / "run"))
    assert record.manifest["labels"] == ["ant", "mole", "zebra"]
    config = json.loads((record.path / "adapter" / "adapter_config.json").read_text())
    assert config["auto_mapping"]["id2label"] == {"0": "ant", "1": "mole", "2": "zebra"}
    loaded = PeftConfig.from_pretrained(str(record.path / "adapter"))  # a warning would be an error here
    assert loaded.auto_mapping == config["auto_mapping"]


def test_a_causal_model_has_no_classes_in_its_record(cut_short: tuple[Scenario, Record]) -> None:
    assert "labels" not in cut_short[1].manifest
