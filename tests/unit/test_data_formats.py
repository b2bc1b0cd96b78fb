"""Chats, packed text, tables of other programs: what an example is, and what a model is given of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from cosim.cli.holdings import held
from cosim.errors import ScenarioError
from cosim.learning.data.batch import IGNORED
from cosim.learning.data.chat import Chat
from cosim.learning.data.file import File
from cosim.learning.data.tokenizer import Tokenizer
from cosim.learning.data.tokens import SpecialIds, TokenCorpus
from cosim.scenario.build import prepare_tasks
from cosim.scenario.settings import Scenario

EMBEDDED = Path(__file__).parents[2] / "cosim" / "learning" / "embedded"
SPECIAL = SpecialIds(bos=1, eos=2, pad=0)
ROWS = [{"text": f"text number {row}", "topic": "ab"[row % 2]} for row in range(8)]
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "where?"},
    {"role": "assistant", "content": "there"},
    {"role": "user", "content": "when?"},
    {"role": "assistant", "content": "now"},
]


def corpus_of(source: Any, length: int = 32, folder: Path = EMBEDDED) -> TokenCorpus:
    return TokenCorpus(source, Tokenizer(folder), SPECIAL, length)


def chat_folder(tmp_path: Path) -> Path:
    """Return a tokenizer's folder with a chat template."""
    (tmp_path / "tokenizer.json").write_bytes((EMBEDDED / "tokenizer.json").read_bytes())
    settings = {"chat_template": TEMPLATE, "eos_token": {"content": "|"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet", "saved"])
def test_the_same_rows_are_the_same_examples_in_every_format(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    if ending == "json":
        path.write_text(json.dumps({"data": ROWS}))
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif ending == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.mkdir()
        table = pa.Table.from_pylist([{**row, "topic": "ab".index(row["topic"])} for row in ROWS])
        with pyarrow.ipc.new_stream(path / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
        (path / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
        )
        features = {"topic": {"names": ["a", "b"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
        (path / "dataset_info.json").write_text(json.dumps({"features": features}))
    source = File(train_path=path, test_fraction=0.25, label_column="topic")
    found = source.load()
    assert sorted((one.target, one.label) for one in (*found.train, *found.test)) == [
        (row["text"], row["topic"]) for row in ROWS
    ]
    assert found.labels == ("a", "b")
    assert source.content_key() == source.content_key()


def test_a_folder_that_is_no_table_is_told_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ScenarioError, match="none that datasets wrote with save_to_disk"):
        File(train_path=tmp_path, test_fraction=0.5).content_key()
    (tmp_path / "train" / "state.json").write_text("{}")
    with pytest.raises(ScenarioError, match=r"holds several data sets \(train\); name one"):
        File(train_path=tmp_path, test_fraction=0.5).load()


def test_a_turn_is_learned_as_the_template_of_the_tokenizer_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps({"messages": CHAT, "who": f"w{one}"}) + "\n" for one in range(4)))
    source = Chat(train_path=path, test_fraction=0.25)
    seen = corpus_of(source, 200, chat_folder(tmp_path))
    first, second = seen.corpus.train[:2]
    assert (first.prompt, first.target) == ("<system>be short|<user>where?|<assistant>", "there|")
    assert second.prompt == first.prompt + "there|<user>when?|<assistant>"
    assert (len(seen.corpus.train), len(seen.corpus.test)) == (6, 2)
    assert first.fields == {"who": "w0"}
    tokens = seen.train
    learned = tokens.labels[0][tokens.labels[0] != IGNORED]
    assert seen.tokenizer.decode(learned.tolist()).strip() == "there|"
    assert tokens.input_ids[0, 0] != SPECIAL.bos  # the template has written all there is
    assert len(Chat(train_path=path, test_fraction=0.25, turns="last").load().train) == 3
    before = seen.content_key
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE + " "}))
    assert corpus_of(source, 200, tmp_path).content_key != before


def test_sharegpt_is_the_same_chat_by_other_names(tmp_path: Path) -> None:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    shared = [{"from": names[one["role"]], "value": one["content"]} for one in CHAT]
    (tmp_path / "a.json").write_text(json.dumps([{"messages": CHAT}] * 2))
    (tmp_path / "b.json").write_text(json.dumps([{"conversations": shared}] * 2))
    a, b = (Chat(train_path=tmp_path / f"{one}.json", test_fraction=0.5).load() for one in "ab")
    assert a == b


@pytest.mark.parametrize(
    ("entry", "template", "said"),
    [
        ({"text": "x"}, TEMPLATE, r"entry \d holds no list 'messages' or 'conversations'"),
        ({"messages": [{"role": "user"}]}, TEMPLATE, r"message 1 of entry \d is no role with a text"),
        (
            {"messages": CHAT},
            "{{ raise_exception('no system') }}",
            r"cannot write a conversation \(no system\)",
        ),
        ({"messages": CHAT}, "{% for %}", "holds no chat template that can be read"),
        (
            {"messages": CHAT},
            "{{ messages|length }}{{ ''.__class__.__mro__ }}",
            "cannot write a conversation",
        ),
        ({"messages": CHAT}, "{{ messages|length }}", "writes a conversation another way when it goes on"),
    ],
)
def test_a_chat_that_cannot_be_written_is_one_clear_line(
    entry: dict[str, Any], template: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "chat.json").write_text(json.dumps([entry, entry]))
    (tmp_path / "t.jinja").write_text(template)
    source = Chat(train_path=tmp_path / "chat.json", test_fraction=0.5, template=tmp_path / "t.jinja")
    with pytest.raises(ScenarioError, match=said) as caught:
        _ = corpus_of(source).corpus
    assert "\n" not in str(caught.value)


def test_packed_text_loses_no_token_and_has_no_padding(tmp_path: Path) -> None:
    texts = [f"The {word} is near the sea.\nIt is cheap." for word in ("pub", "inn", "cafe", "bar", "club")]
    (tmp_path / "text.txt").write_text("\n\n".join(texts))
    seen = corpus_of(File(train_path=tmp_path / "text.txt", test_fraction=0.4, packed=True), 12)
    tokens, documents = seen.train, seen.source.load().train
    assert {one.target for one in documents} < set(texts)
    around = [
        [SPECIAL.bos, *ids, SPECIAL.eos] for ids in seen.tokenizer.encode([d.target for d in documents])
    ]
    stream = [one for ids in around for one in ids]
    assert tokens.attention_mask.all()
    assert np.array_equal(tokens.input_ids.ravel(), stream[: tokens.input_ids.size])
    assert len(stream) - tokens.input_ids.size < 12
    assert np.array_equal(tokens.labels, tokens.input_ids)
    with pytest.raises(ScenarioError, match="have fewer tokens than"):
        _ = corpus_of(seen.source, 4000).corpus


def test_the_picture_of_who_holds_what_counts_every_example(tiny_scenario: Callable[..., Scenario]) -> None:
    scenario = tiny_scenario({"data.partition": {"kind": "dirichlet", "alpha": 0.3}})
    (task,) = (one.task for one in prepare_tasks(scenario))
    values, counts = held(task)
    assert counts.sum(axis=1).tolist() == [len(share) for share in task.shares]
    assert len(values) == counts.shape[1] > 1
