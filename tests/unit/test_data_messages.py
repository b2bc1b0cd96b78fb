"""What a file of texts that cannot be read is answered with, and what is read after all."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from cosim.errors import ScenarioError
from cosim.learning.data.file import File
from cosim.learning.data.hub import OLDEST_WITHOUT_SCRIPTS, Hub

CHAT = '{"messages": [{"role": "user", "content": "hello"}]}\n'
FAULTS = {
    "chat.jsonl": (
        CHAT,
        {},
        ["lists and tables, as in 'messages', are not read", '{"prompt": "...", "text"'],
    ),
    "list.jsonl": ('{"text": ["a"]}\n', {}, ["column 'text' holds no text", "as in 'text', are not read"]),
    "semicolons.csv": ("text;topic\na;b\n", {}, ["if ';' parts its columns, set delimiter = ';'"]),
    "semicolons.tsv": ("text;topic\na;b\n", {}, ["if ';' parts its columns, set delimiter = ';'"]),
    "commas.csv": ("text;topic\na, and b;c\n", {}, ["line 2 has 2 value(s)", "set delimiter = ';'"]),
    "given.csv": ("text;topic\na;b\n", {"delimiter": "|"}, ["no column 'text'; known: text;topic"]),
    "one.txt": (
        "a long text that has no line break",
        {"test_path": None, "test_fraction": 0.5},
        ["holds one example", "a .txt file has one text per line", "at least two, or name a test_path"],
    ),
    "grouped.csv": (
        "text,topic\na,b\nc,b\n",
        {"test_path": None, "test_fraction": 0.5, "group_column": "topic"},
        ["these settings leave nothing to train on", "group by a finer column"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_in_another_layout_is_answered_with_what_to_write(name: str, tmp_path: Path) -> None:
    text, more, said = FAULTS[name]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        File(**{"train_path": path, "test_path": path, **more}).load()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for words in said:
        assert words in message


def test_a_value_of_a_csv_may_be_longer_than_python_reads_by_default(tmp_path: Path) -> None:
    path, text = tmp_path / "long.csv", "word " * 40_000 + "end"
    path.write_text(f"text\nshort\n{text}\n")
    assert File(train_path=path, test_path=path).load().train[1].target == text


@pytest.mark.parametrize("version", ["2.19.1", "3.6.0"])
def test_a_data_set_library_that_can_run_scripts_is_refused(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, version)
    with pytest.raises(ScenarioError, match=f"datasets {version} can run code of a data set") as caught:
        Hub(name="some/thing").load()
    assert 'pip install "datasets>=4"' in str(caught.value)


def test_a_data_set_is_loaded_with_its_code_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _install(monkeypatch, "4.0.0")
    with pytest.raises(ScenarioError, match="cannot be loaded"):
        Hub(name="some/thing").load()
    assert asked == [False]


def test_the_extra_of_the_hub_asks_for_a_version_without_scripts() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["hub"] == [f"datasets>={OLDEST_WITHOUT_SCRIPTS}.0"]


def _install(monkeypatch: pytest.MonkeyPatch, version: str) -> list[bool | None]:
    """Let a library called datasets be installed, and return what it is told of code it might run."""
    asked: list[bool | None] = []

    def load_dataset(*_given: object, trust_remote_code: bool | None = None, **_more: object) -> None:
        asked.append(trust_remote_code)
        raise OSError("there is none")

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    module.ClassLabel = type("ClassLabel", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == "datasets" else real(name))
    return asked
