import csv
import gzip
import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.learning.data import Corpus, DataSource, Example
from cosim.learning.data.embedded import Embedded
from cosim.learning.data.file import File
from cosim.learning.data.hub import Hub
from cosim.learning.data.rows import read_rows
from cosim.learning.partition.group import Group
from cosim.parts import make
from cosim.rng import stream

SHARED = Path(__file__).resolve().parents[3] / "shared"
real = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no real texts in {SHARED}")

words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(str.strip)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def csv_text(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def fault(source: DataSource) -> str:
    with pytest.raises(ScenarioError) as caught:
        source.load()
    (message,) = caught.value.args
    assert "\n" not in message
    return str(message)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.tuples(words, words), min_size=2, max_size=8))
def test_a_csv_file_gives_back_what_a_csv_writer_wrote(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = csv_text([{"text": one, "topic": two} for one, two in rows])
    path = written(tmp_path_factory.mktemp("csv"), "x.csv", text)
    source = File(train_path=path, test_path=path, label_column="topic")
    assert [(one.target, one.label) for one in source.load().train] == rows


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(words, min_size=1, max_size=8))
def test_a_jsonl_file_gives_back_what_a_json_writer_wrote(
    rows: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "".join(json.dumps({"text": one}, ensure_ascii=False) + "\n" for one in rows)
    path = written(tmp_path_factory.mktemp("jsonl"), "x.jsonl", text)
    assert [row.columns["text"] for row in read_rows(path)] == rows


def test_a_line_break_inside_quotes_stays_in_its_text(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", 'text,topic\n"two\nlines",a\nplain,b\n')
    assert [(row.line, row.columns["text"]) for row in read_rows(path)] == [(2, "two\nlines"), (4, "plain")]


def test_every_format_and_its_packed_twin_say_the_same(tmp_path: Path) -> None:
    texts = {
        "x.csv": "prompt,text\na,b c\nd,e\n",
        "x.tsv": "prompt\ttext\na\tb c\nd\te\n",
        "x.jsonl": '{"prompt": "a", "text": "b c"}\n\n{"prompt": "d", "text": "e"}\n',
        "x.txt": "a || b c \n\nd||e\n",
    }
    for name, text in texts.items():
        plain = written(tmp_path, name, text)
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress(text.encode()))
        for path in (plain, packed):
            source = File(
                train_path=path,
                test_path=path,
                prompt_column="prompt",
                separator="||" if ".txt" in name else None,
            )
            assert [(one.prompt, one.target) for one in source.load().train] == [("a", "b c"), ("d", "e")]


def test_a_byte_order_mark_belongs_to_no_column(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", "\ufefftext\na\n")
    assert read_rows(path)[0].columns == {"text": "a"}


def test_slots_of_a_meaning_representation_become_fields(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", 'mr,ref\n"name[The Mill], food[Thai]",It is Thai.\n')
    (one,) = (
        File(train_path=path, test_path=path, target_column="ref", prompt_column="mr", slots_column="mr")
        .load()
        .train
    )
    assert one.fields == {"name": "The Mill", "food": "Thai", "mr": "name[The Mill], food[Thai]"}


def test_numbers_as_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", "".join(f'{{"text": "t", "y": {y}}}\n' for y in (10, 2, 1)))
    assert File(train_path=path, test_path=path, label_column="y").load().labels == ("1", "2", "10")


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 30), fraction=st.floats(0.05, 0.9))
def test_a_group_is_never_on_both_sides_of_the_split(
    seed: int, count: int, fraction: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{"text": f"t{row}", "who": f"w{row % 7}"} for row in range(40)]
    path = written(tmp_path_factory.mktemp("groups"), "x.csv", csv_text(rows))
    source = File(
        train_path=path, test_fraction=fraction, group_column="who", max_train=max(6, count), seed=seed
    )
    corpus = source.load()
    assert not {one.fields["who"] for one in corpus.train} & {one.fields["who"] for one in corpus.test}
    assert 0 < len(corpus.train) <= max(6, count)
    assert len(corpus.test) <= max(6, round(40 * fraction))
    for who in {one.fields["who"] for one in corpus.train}:
        texts = {row["text"] for row in rows if row["who"] == who}
        assert texts <= {one.target for one in corpus.train}


def test_the_seed_decides_which_examples_are_kept_and_the_file_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, "x.txt", "\n".join(f"text {row:03}" for row in range(100)))
    few = [
        [one.target for one in File(train_path=path, test_path=path, max_train=10, seed=seed).load().train]
        for seed in (0, 0, 1)
    ]
    assert few[0] == few[1] != few[2]
    assert all(kept == sorted(kept) and len(kept) == 10 for kept in few)


def test_max_train_leaves_the_labels_and_the_test_set_as_they_are(tmp_path: Path) -> None:
    rows = [{"text": f"t{row}", "topic": f"topic-{row % 5}"} for row in range(50)]
    path = written(tmp_path, "x.csv", csv_text(rows))
    source = File(train_path=path, test_fraction=0.2, label_column="topic")
    whole, few = source.load(), source.model_copy(update={"max_train": 3}).load()
    assert (whole.labels, whole.test) == (few.labels, few.test)
    assert (len(whole.train), len(few.train)) == (40, 3)


def test_a_content_key_follows_bytes_and_settings_and_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = written(tmp_path, "x.txt", "a\nb\n")
    same = written(tmp_path / "other", "y.txt", "a\nb\n")
    other = written(tmp_path, "z.txt", "a\nc\n")

    def key(path: Path, **more: object) -> str:
        return make(
            DataSource, {"kind": "file", "train_path": path, "test_fraction": 0.5, **more}
        ).content_key()

    assert key(one) == key(same)
    assert len({key(one), key(other), key(one, seed=1), key(one, max_train=1)}) == 4


def test_a_corpus_digest_tells_where_a_text_ends() -> None:
    def digest(*pairs: tuple[str, str]) -> str:
        return Corpus(tuple(Example(*pair) for pair in pairs), ()).digest()

    assert (
        len({digest(("a", "b")), digest(("ab", "")), digest(("", "ab")), digest(("a", ""), ("", "b"))}) == 4
    )


FAULTS = {
    "missing": (None, {}, "no such file"),
    "x.xls": ("a", {}, "the ending says no known format; use .csv, .tsv, .jsonl, .txt"),
    "empty.csv": ("", {}, "the file is empty"),
    "blank.jsonl": ("\n  \n", {}, "the file is empty"),
    "header.csv": ("text,topic\n", {}, "holds no example"),
    "column.csv": ("txt,topic\na,b\n", {}, "no column 'text'; known: topic, txt; did you mean 'txt'?"),
    "ragged.csv": ("text,topic\na,b\nc\n", {}, "line 3 has 1 value(s) for the 2 column(s)"),
    "quote.csv": ('text,topic\na,b\n"c,d\ne,f\n', {}, "the row from line 3 on cannot be read"),
    "twice.csv": ("text,text\na,b\n", {}, "two columns are called 'text'"),
    "hole.csv": ("text,topic\na,b\n ,c\n", {}, "line 3 has an empty 'text'"),
    "json.jsonl": ('{"text": "a"}\n{"text": \n', {}, "line 2 is no JSON (Expecting value)"),
    "list.jsonl": ('["a"]\n', {}, "line 1 is no JSON object"),
    "null.jsonl": ('{"text": "a"}\n{"text": null}\n', {}, "line 2 has no value for 'text'"),
    "surrogate.jsonl": ('{"text": "\\ud800"}\n', {}, "line 1 has half a surrogate pair in 'text'"),
    "deep.jsonl": ("[" * 100_000 + "\n", {}, "line 1 is nested too deeply"),
    "bars.txt": ("a||b\nc\n", {"separator": "||"}, "line 2 has no '||'"),
    "packed.csv.gz": ("text\na\n", {}, "is no whole gzip file"),
    "alone.csv": ("text\na\n", {"test_path": None, "test_fraction": 0.5}, "holds one example"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_file_is_answered_in_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    text, more, said = FAULTS[name]
    path = tmp_path / (name if "." in name else f"{name}.csv")
    if text is not None:
        written(tmp_path, path.name, text)
    message = fault(File(**{"train_path": path, "test_path": path, **more}))
    assert message.startswith(f"{path}: ")
    assert said in message


def test_a_byte_that_is_not_utf8_is_named_by_offset_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(b"\xef\xbb\xbftext\nplain\ncaf\xe9\n")
    assert f"{path}: byte 17 (line 3) is not UTF-8" in fault(File(train_path=path, test_path=path))


def test_a_label_that_is_only_tested_is_a_fault(tmp_path: Path) -> None:
    train = written(tmp_path, "train.csv", "text,topic\na,weather\n")
    test = written(tmp_path, "test.csv", "text,topic\na,wether\n")
    message = fault(File(train_path=train, test_path=test, label_column="topic"))
    assert "no training label 'wether'; known: weather; did you mean 'weather'?" in message


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"test_path": "y.csv", "test_fraction": 0.5},
        {"test_fraction": 0.5, "separator": "||"},
        {"train_path": "x.txt", "test_fraction": 0.5, "delimiter": ";"},
    ],
)
def test_settings_that_do_not_go_together_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        File(**{"train_path": "x.csv", **more})


def test_an_unknown_domain_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"no domain 'hotle'; known: .*did you mean 'hotel'"):
        Embedded(domain="hotle")


def test_several_domains_take_turns_and_a_client_of_each_has_its_own_held_out_texts() -> None:
    domains = ("film", "hotel", "job")
    source = Embedded(domains=domains, num_train=4, num_test=2, direction="parse")
    corpus = source.load()
    assert [one.fields["domain"] for one in corpus.train] == list(domains) * 4
    assert corpus.labels == tuple(sorted(domains))
    of_film = Embedded(domain="film", num_train=4, num_test=2).load()
    assert [(one.target, one.prompt) for one in of_film.test] == [
        (one.prompt, one.target) for one in corpus.test if one.label == "film"
    ]
    clients = Group(by="domain", one_group_per_client=True)
    shares = clients.split(corpus.train, 3, stream(1))
    held_out = clients.split_held_out(corpus.train, shares, corpus.test, stream(2))
    assert [{corpus.test[row].label for row in rows} for rows in held_out] == [{"film"}, {"hotel"}, {"job"}]
    with pytest.raises(ValueError, match="names 'film' twice"):
        Embedded(domains=("film", "film"))


def test_embedded_texts_share_no_meaning_between_train_and_test() -> None:
    corpus = Embedded(num_train=150, num_test=40).load()
    assert (len(corpus.train), len(corpus.test)) == (150, 40)
    assert not {one.prompt for one in corpus.train} & {one.prompt for one in corpus.test}
    assert {one.label for one in corpus.train + corpus.test} <= set(corpus.labels)


def test_the_hub_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install cosim-fl[hub]" in fault(Hub(name="nobody/nothing"))


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
@pytest.mark.filterwarnings("ignore")
class TestHub:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        (tmp_path / "texts").mkdir()
        written(tmp_path / "texts", "train.csv", "text,topic\none,a\ntwo,b\nthree,a\n")
        written(tmp_path / "texts", "test.csv", "text,topic\nfour,b\n")
        return tmp_path / "texts"

    def test_a_data_set_of_the_hub_gives_its_splits(self, folder: Path) -> None:
        source = Hub(name=str(folder), label_column="topic")
        corpus = source.load()
        assert [one.target for one in corpus.train] == ["one", "two", "three"]
        assert [one.label for one in corpus.test] == ["b"]
        assert corpus.labels == ("a", "b")
        assert source.content_key() == corpus.digest()

    def test_a_slice_of_a_split_is_understood(self, folder: Path) -> None:
        assert len(Hub(name=str(folder), train_split="train[:2]").load().train) == 2

    def test_faults_are_one_line(self, folder: Path) -> None:
        assert "split 'dev' cannot be loaded" in fault(Hub(name=str(folder), test_split="dev"))
        assert "did you mean 'text'?" in fault(Hub(name=str(folder), target_column="txt"))
        assert "cannot be loaded" in fault(Hub(name=str(folder / "nowhere")))


@pytest.mark.real
@real
class TestReal:
    def test_e2e_reads_whole_and_no_meaning_is_on_both_sides(self) -> None:
        folder = SHARED / "data" / "e2e_nlg"
        source = File(
            train_path=folder / "trainset.csv",
            test_path=folder / "devset.csv",
            target_column="ref",
            prompt_column="mr",
            group_column="mr",
            slots_column="mr",
        )
        corpus = source.load()
        assert (len(corpus.train), len(corpus.test)) == (42_061, 4_672)
        assert len({one.prompt for one in corpus.train}) == 4_862
        assert corpus.train[0].fields["eatType"] == "pub"
        few = source.model_copy(update={"max_train": 500, "max_test": 100}).load()
        assert 450 < len(few.train) <= 500
        kept = {one.prompt for one in few.train}
        assert [one for one in corpus.train if one.prompt in kept] == list(few.train)

    def test_the_lora_format_of_e2e_says_the_same_number_of_examples(self) -> None:
        folder = SHARED / "data" / "e2e_nlg" / "lora_format"
        path = folder / "test.txt.gz"
        corpus = File(train_path=path, test_path=path, separator="||").load()
        assert len(corpus.train) == 4_693
        assert corpus.train[0].prompt.startswith("name : ")

    def test_banking77_has_its_77_intents(self) -> None:
        folder = SHARED / "data" / "banking77"
        corpus = File(
            train_path=folder / "train.csv", test_path=folder / "test.csv", label_column="category"
        ).load()
        names = json.loads((folder / "categories.json").read_text())
        assert (len(corpus.train), len(corpus.test)) == (10_003, 3_080)
        assert corpus.labels == tuple(sorted(names))
        assert any("\n" in one.target for one in corpus.train)
