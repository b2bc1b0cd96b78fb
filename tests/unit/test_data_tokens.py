import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Raw
from tokenizers import decoders, models, pre_tokenizers, processors

from cosim.errors import ScenarioError
from cosim.learning.data.batch import IGNORED
from cosim.learning.data.embedded import Embedded
from cosim.learning.data.file import File
from cosim.learning.data.tokenizer import Tokenizer
from cosim.learning.data.tokens import LossOn, SpecialIds, TokenCorpus, TokenSet

SHARED = Path(__file__).resolve().parents[3] / "shared"
real = pytest.mark.skipif(not (SHARED / "models").is_dir(), reason=f"no real models in {SHARED}")

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL = ["[PAD]", "[BOS]", "[EOS]"]
VOCAB = {token: number for number, token in enumerate([*SPECIAL, *BYTES])}
IDS = SpecialIds(bos=1, eos=2, pad=0)

words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip)


def byte_tokenizer(folder: Path) -> Tokenizer:
    """Save a tokenizer with one token per byte, which also asks for cutting and padding of its own."""
    raw = Raw(models.BPE(vocab=VOCAB, merges=[]))
    raw.add_special_tokens(SPECIAL)
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    raw.enable_truncation(3)
    raw.enable_padding(length=50)
    raw.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder)


def ids_of(text: str) -> list[int]:
    return [
        VOCAB[token]
        for token, _ in pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(text)
        for token in token
    ]


def pairs_file(folder: Path, pairs: list[tuple[str, str]], label: str = "x") -> File:
    path = folder / "pairs.jsonl"
    lines = [json.dumps({"prompt": prompt, "text": text, "label": label}) for prompt, text in pairs]
    path.write_text("\n".join(lines))
    return File(train_path=path, test_path=path, prompt_column="prompt", label_column="label")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return byte_tokenizer(folder)


@settings(deadline=None, max_examples=60)
@given(
    pairs=st.lists(st.tuples(st.just("") | words, words), min_size=1, max_size=4),
    length=st.integers(2, 60),
    loss_on=st.sampled_from(["target", "all"]),
)
def test_the_loss_covers_exactly_the_target_and_the_end_and_cutting_spares_them(
    folder: Path, tokenizer: Tokenizer, pairs: list[tuple[str, str]], length: int, loss_on: LossOn
) -> None:
    tokens = TokenCorpus(pairs_file(folder, pairs), tokenizer, IDS, length, loss_on=loss_on).train
    cut = prompts_cut = 0
    for row, (prompt, target) in enumerate(pairs):
        given_ids, learned = ids_of(f"{prompt}\n") if prompt else [], [*ids_of(target), IDS.eos]
        cut += len(learned) > length - 1
        prompts_cut += len(learned) <= length - 1 < len(learned) + len(given_ids)
        learned = learned[: length - 1]
        kept = length - 1 - len(learned)
        begin = [IDS.bos, *given_ids[max(0, len(given_ids) - kept) :]]
        ids = begin + learned
        padding = length - len(ids)
        assert tokens.input_ids[row].tolist() == ids + [IDS.pad] * padding
        assert tokens.attention_mask[row].tolist() == [True] * len(ids) + [False] * padding
        without = [IGNORED] * len(begin) if loss_on == "target" else begin
        assert tokens.labels[row].tolist() == without + learned + [IGNORED] * padding
    assert (tokens.num_truncated, tokens.num_prompts_cut) == (cut, prompts_cut)


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(words, min_size=1, max_size=4), length=st.integers(3, 40))
def test_a_classifier_keeps_its_special_tokens_however_long_the_text(
    folder: Path, tokenizer: Tokenizer, texts: list[str], length: int
) -> None:
    source = pairs_file(folder, [("", text) for text in texts])
    tokens = TokenCorpus(source, tokenizer, IDS, length, task="classification").train
    for row, text in enumerate(texts):
        ids = [1, *ids_of(text)[: length - 2], 2]
        assert tokens.input_ids[row].tolist() == ids + [0] * (length - len(ids))
        assert tokens.attention_mask[row].sum() == len(ids)
    assert tokens.labels.tolist() == [0] * len(texts)
    assert tokens.num_truncated == sum(len(ids_of(text)) > length - 2 for text in texts)


def test_a_batch_has_the_rows_asked_for_in_their_order(folder: Path, tokenizer: Tokenizer) -> None:
    tokens = TokenCorpus(pairs_file(folder, [("", text) for text in "abc"]), tokenizer, IDS, 4).train
    batch = tokens.batch(np.array([2, 0, 2]))
    assert batch.input_ids.tolist() == [tokens.input_ids[row].tolist() for row in (2, 0, 2)]
    assert {batch.input_ids.dtype, batch.labels.dtype} == {np.dtype(np.int64)}
    assert batch.num_targets.tolist() == [2, 2, 2]
    assert tokens.input_ids.dtype == np.int32
    assert len(tokens) == 3


def test_a_token_set_cannot_be_written_to(folder: Path, tokenizer: Tokenizer) -> None:
    tokens = TokenCorpus(pairs_file(folder, [("", "a")]), tokenizer, IDS, 4).train
    for array in (tokens.input_ids, tokens.attention_mask, tokens.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    tokens.batch([0]).input_ids[:] = 7
    assert 7 not in tokens.input_ids


def test_a_model_without_bos_and_eos_gets_neither(folder: Path, tokenizer: Tokenizer) -> None:
    tokens = TokenCorpus(pairs_file(folder, [("p", "ab")]), tokenizer, SpecialIds(None, None, 0), 6).train
    assert tokens.input_ids[0].tolist() == [*ids_of("p\nab"), 0, 0]


def test_an_example_that_leaves_nothing_to_predict_is_a_fault(folder: Path, tokenizer: Tokenizer) -> None:
    corpus = TokenCorpus(pairs_file(folder, [("", "ab"), ("", "a")]), tokenizer, SpecialIds(None, None, 0), 6)
    with pytest.raises(ScenarioError, match="train example 1 leaves no token to predict"):
        _ = corpus.train


def test_a_classifier_needs_labels(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "x.txt").write_text("a\nb\n")
    source = File(train_path=tmp_path / "x.txt", test_fraction=0.5)
    with pytest.raises(ScenarioError, match="name the label_column"):
        _ = TokenCorpus(source, tokenizer, IDS, 8, task="classification").train


def test_a_length_that_only_special_tokens_fill_is_a_fault(folder: Path, tokenizer: Tokenizer) -> None:
    corpus = TokenCorpus(pairs_file(folder, [("", "a")]), tokenizer, IDS, 2, task="classification")
    with pytest.raises(ScenarioError, match="make it 3 or more"):
        _ = corpus.train


def test_a_length_below_two_is_refused(folder: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        TokenCorpus(pairs_file(folder, [("", "a")]), tokenizer, IDS, 1)


def test_an_id_outside_the_vocabulary_is_a_fault(folder: Path, tokenizer: Tokenizer) -> None:
    corpus = TokenCorpus(pairs_file(folder, [("", "a")]), tokenizer, SpecialIds(1, 50_256, 0), 8)
    with pytest.raises(ScenarioError, match="eos_token_id 50256 is outside its vocabulary of 259"):
        _ = corpus.train


def test_special_ids_fall_back_from_pad_to_eos_to_zero() -> None:
    assert SpecialIds.of({"eos_token_id": 5}) == SpecialIds(None, 5, 5)
    assert SpecialIds.of({"pad_token_id": -1, "eos_token_id": None}) == SpecialIds(None, None, 0)
    assert SpecialIds.of({"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}) == SpecialIds(1, 1, 0)


def test_the_content_key_follows_all_that_decides_the_arrays_and_tokenises_nothing(
    folder: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    source = pairs_file(folder, [("p", "a")])
    base = TokenCorpus(source, tokenizer, IDS, 8)
    others = [
        TokenCorpus(source.model_copy(update={"max_train": 1}), tokenizer, IDS, 8),
        TokenCorpus(source, tokenizer, SpecialIds(1, 2, 1), 8),
        TokenCorpus(source, tokenizer, IDS, 9),
        TokenCorpus(source, tokenizer, IDS, 8, task="classification"),
        TokenCorpus(source, tokenizer, IDS, 8, loss_on="all"),
        TokenCorpus(source, tokenizer, IDS, 8, prompt_end=" "),
        TokenCorpus(source, _other_tokenizer(tmp_path), IDS, 8),
    ]
    assert len({one.content_key for one in [base, *others]}) == 8
    assert base.content_key == TokenCorpus(source, Tokenizer(folder), IDS, 8).content_key
    assert "train" not in vars(base)
    assert "_tokenizer" not in vars(Tokenizer(folder))


def _other_tokenizer(folder: Path) -> Tokenizer:
    raw = Raw(models.BPE(vocab=VOCAB, merges=[]))
    raw.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder)


def test_two_files_of_byte_level_bpe_are_enough(tmp_path: Path) -> None:
    vocab = {token: number for number, token in enumerate([*BYTES, "Ġt", "Ġth", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ t\nĠt h\n")
    tokenizer = Tokenizer(tmp_path)
    (ids,) = tokenizer.encode(["a the\nü"])
    assert ids[1] == vocab["Ġth"]
    assert tokenizer.decode([*ids, vocab["<|endoftext|>"]]) == "a the\nü"
    assert tokenizer.vocab_size == len(vocab)


def test_a_folder_without_a_tokenizer_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"needs tokenizer\.json, or vocab\.json and merges\.txt"):
        _ = Tokenizer(tmp_path).key


def test_a_file_that_is_no_tokenizer_is_a_fault_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model":\n 3')
    with pytest.raises(ScenarioError, match="is no tokenizer file") as caught:
        Tokenizer(tmp_path).encode(["a"])
    assert "\n" not in caught.value.args[0]


def test_the_data_side_loads_no_torch() -> None:
    code = (
        "import sys; from cosim.parts import family; from cosim.learning.data import DataSource, tokens;"
        "from cosim.learning.partition import Partition; from cosim.learning.optimizer import Optimizer;"
        "[family(base) for base in (DataSource, Partition, Optimizer)];"
        "from cosim.learning.data.embedded import Embedded; Embedded(num_train=5, num_test=1).load();"
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_embedded_texts_tokenise_and_decode_to_prompt_and_text(tokenizer: Tokenizer) -> None:
    corpus = TokenCorpus(Embedded(num_train=20, num_test=5), tokenizer, IDS, 600)
    for row, example in enumerate(corpus.corpus.train):
        ids = corpus.train.input_ids[row][corpus.train.attention_mask[row]]
        assert tokenizer.decode(ids.tolist()) == f"{example.prompt}\n{example.target}"


@pytest.mark.real
@real
class TestReal:
    def e2e(self, count: int) -> File:
        folder = SHARED / "data" / "e2e_nlg"
        return File(
            train_path=folder / "devset.csv",
            test_path=folder / "testset_w_refs.csv",
            target_column="ref",
            prompt_column="mr",
            max_train=count,
            max_test=count,
        )

    def tokens(self, model: str, config: str, count: int, length: int) -> tuple[TokenCorpus, TokenSet]:
        folder = SHARED / "models" / model
        special = SpecialIds.of(json.loads((folder / config).read_text()))
        corpus = TokenCorpus(self.e2e(count), Tokenizer(folder), special, length)
        return corpus, corpus.train

    def test_stories260k_round_trips_with_its_special_ids(self) -> None:
        corpus, train = self.tokens("stories260k", "config.json", 200, 300)
        assert corpus.special == SpecialIds(bos=1, eos=1, pad=0)
        for row, example in enumerate(corpus.corpus.train):
            learned = train.labels[row] != IGNORED
            ids = train.input_ids[row]
            assert ids[0] == 1
            assert ids[learned][-1] == 1
            assert corpus.tokenizer.decode(ids[learned].tolist()) == example.target
            given_ids = ids[train.attention_mask[row] & ~learned]
            assert corpus.tokenizer.decode(given_ids.tolist()) == f"{example.prompt}\n"
            assert (ids[~train.attention_mask[row]] == 0).all()
        assert train.num_truncated == 0

    def test_gpt2_ids_are_those_of_transformers(self) -> None:
        from transformers import AutoTokenizer

        corpus, train = self.tokens("gpt2-tokenizer", "gpt2-small-config.json", 100, 128)
        theirs = AutoTokenizer.from_pretrained(SHARED / "models" / "gpt2-tokenizer")
        for row, example in enumerate(corpus.corpus.train):
            ids = train.input_ids[row][train.attention_mask[row]].tolist()
            expected = theirs(f"{example.prompt}\n")["input_ids"] + theirs(example.target)["input_ids"]
            assert ids == [50_256, *expected, 50_256]

    def test_gpt2_from_its_two_files_gives_the_ids_of_its_one_file(self, tmp_path: Path) -> None:
        folder = SHARED / "models" / "gpt2-tokenizer"
        for name in ("vocab.json", "merges.txt"):
            (tmp_path / name).symlink_to(folder / name)
        texts = [example.target for example in self.e2e(300).load().train]
        assert Tokenizer(tmp_path).encode(texts) == Tokenizer(folder).encode(texts)

    def test_banking77_becomes_77_classes(self) -> None:
        folder = SHARED / "data" / "banking77"
        source = File(train_path=folder / "train.csv", test_path=folder / "test.csv", label_column="category")
        corpus = TokenCorpus(
            source, Tokenizer(SHARED / "models" / "stories260k"), SpecialIds(1, 1, 0), 64, "classification"
        )
        assert set(corpus.test.labels.tolist()) == set(range(77))
        assert (corpus.test.input_ids[:, 0] == 1).all()
