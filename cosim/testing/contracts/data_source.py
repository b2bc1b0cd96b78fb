"""What every data source keeps, run over each part's examples."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

from cosim.errors import ScenarioError
from cosim.learning.data import Corpus, DataSource, Example
from cosim.parts import make
from cosim.testing.selection import examples_of

CASES = examples_of(DataSource)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out the files the parts' examples name; a source only reads them."""
    folder = tmp_path_factory.mktemp("sources")
    topics = ["sea", "hill", "town"]
    rows = [(f"text {row}", topics[row % 3]) for row in range(30)]
    table = "text,topic\n" + "".join(f"{text},{topic}\n" for text, topic in rows)
    (folder / "examples.csv").write_text(table)
    lines = "".join(f'{{"text": "{text}", "topic": "{topic}"}}\n' for text, topic in rows)
    (folder / "examples.jsonl").write_text(lines)
    turns = [{"role": "user", "content": "where?"}, {"role": "assistant", "content": "there."}]
    chats = [{"messages": turns, "topic": topics[row % 3]} for row in range(8)]
    (folder / "chat.jsonl").write_text("".join(json.dumps(one) + "\n" for one in chats))
    shared = [{"from": "human", "value": "where?"}, {"from": "gpt", "value": "there."}]
    (folder / "sharegpt.json").write_text(json.dumps([{"conversations": shared}] * 3))
    for row in range(8):
        place = folder / "pictures" / topics[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (row, 0, 0)).save(place / f"{row}.png")
    drawn = sorted((folder / "pictures").glob("*/*.png"))
    columns = {
        "img": [{"bytes": one.read_bytes()} for one in drawn],
        "label": [one.parent.name for one in drawn],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "pictures.parquet")
    plain = "".join(f"{topic}||{text}\n" for text, topic in rows)
    (folder / "examples.txt.gz").write_bytes(gzip.compress(plain.encode()))
    (folder / "folder").mkdir()
    for split in ("train", "test"):
        (folder / "folder" / f"{split}.csv").write_text(table)
    return folder


@pytest.fixture(autouse=True)
def _among_them(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


def source_of(settings: dict[str, object]) -> DataSource:
    source = make(DataSource, settings)
    try:
        source.load()
    except ScenarioError as fault:
        if "needs the package" not in str(fault):
            raise
        pytest.skip(str(fault))
    return source


_ELSEWHERE = """
import json, sys
from cosim.errors import ScenarioError
from cosim.learning.data import DataSource
from cosim.parts import make

for settings in json.load(sys.stdin):
    source = make(DataSource, settings)
    try:
        found = [source.load().digest(), source.content_key()]
    except ScenarioError as fault:
        found = [str(fault)]
    print(json.dumps([json.dumps(settings), found]))
"""


@pytest.fixture(scope="module")
def found_elsewhere(files: Path) -> dict[str, list[str]]:
    """Return digest and key of what each source gives in another process, by its settings."""
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        input=json.dumps([case.values[0] for case in CASES]),
        capture_output=True,
        text=True,
        check=True,
        cwd=files,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("settings", CASES)
class TestEveryDataSource:
    def test_gives_examples_to_train_and_to_test_on(self, settings: dict[str, object]) -> None:
        corpus = source_of(settings).load()
        assert isinstance(corpus, Corpus)
        assert corpus.train
        assert corpus.test
        for example in corpus.train + corpus.test:
            assert isinstance(example, Example)
            assert example.target.strip()
            assert all(isinstance(value, str) for value in example.fields.values())

    def test_names_every_label_once_or_none_at_all(self, settings: dict[str, object]) -> None:
        corpus = source_of(settings).load()
        found = {example.label for example in corpus.train + corpus.test}
        assert found == {None} or found <= set(corpus.labels)
        assert len(set(corpus.labels)) == len(corpus.labels)

    def test_gives_the_same_examples_again(self, settings: dict[str, object]) -> None:
        one, two = source_of(settings), source_of(settings)
        assert one.load() == two.load()
        assert one.content_key() == two.content_key()
        assert int(one.content_key(), 16) >= 0

    def test_gives_the_same_examples_in_another_process(
        self, settings: dict[str, object], found_elsewhere: dict[str, list[str]]
    ) -> None:
        source = source_of(settings)
        assert found_elsewhere[json.dumps(settings)] == [source.load().digest(), source.content_key()]

    def test_survives_being_written_to_a_file_and_read(self, settings: dict[str, object]) -> None:
        source = source_of(settings)
        again = make(DataSource, source.model_dump(mode="json", exclude_none=True))
        assert again == source
