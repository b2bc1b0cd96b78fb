"""Token ids of a source's texts for one model, as numpy arrays and without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosim.errors import ScenarioError
from cosim.graph.code_identity import code_key, code_of
from cosim.learning.data import Corpus, DataSource, Example
from cosim.learning.data.batch import IGNORED, Batch
from cosim.learning.data.tokenizer import Tokenizer
from cosim.units import Ints

ModelTask = Literal["causal_lm", "classification"]
LossOn = Literal["target", "all"]


class SpecialIds(NamedTuple):
    """Ids a model gives a meaning: begin and end of a text, None where it has none, and padding."""

    bos: int | None
    eos: int | None
    pad: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "SpecialIds":
        """Return the ids a Hugging Face config names; padding falls back to the end id, then to 0.

        Several end ids, as chat models have them, count as their first; a
        negative one as none.

        Examples
        --------
        >>> SpecialIds.of({"bos_token_id": 1, "eos_token_id": [2, 7]})
        SpecialIds(bos=1, eos=2, pad=2)
        """
        found: list[int | None] = []
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = config.get(name)
            first = value[0] if isinstance(value, list | tuple) and value else value
            found.append(first if isinstance(first, int) and first >= 0 else None)
        bos, eos, pad = found
        return cls(bos=bos, eos=eos, pad=next((one for one in (pad, eos) if one is not None), 0))


@dataclass(frozen=True)
class TokenSet:
    """Tokenised examples, padded on the right to one length; the arrays cannot be written to.

    Attributes
    ----------
    input_ids
        int32, shape (num_examples, sequence_length).
    attention_mask
        bool, same shape; False on padding.
    labels
        int32; for a causal model of the same shape, not shifted, ``IGNORED``
        where a token carries no loss; for a classifier the class, shape
        (num_examples,).
    num_truncated
        Examples that lost the end of their target, or, in a classifier, of their text.
    num_prompts_cut
        Examples that lost the beginning of their prompt only.
    num_doubled
        Examples that write out a special token which every text is given anyway.
    """

    input_ids: NDArray[np.int32]
    attention_mask: NDArray[np.bool_]
    labels: NDArray[np.int32]
    num_truncated: int
    num_prompts_cut: int
    num_doubled: int = 0

    def __post_init__(self) -> None:
        for array in (self.input_ids, self.attention_mask, self.labels):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.input_ids)

    def batch(self, rows: Sequence[int] | Ints) -> Batch:
        """Return these rows, in this order; a row may occur more than once."""
        index = np.asarray(rows, dtype=np.int64)
        return Batch(
            input_ids=self.input_ids[index].astype(np.int64),
            attention_mask=self.attention_mask[index],
            labels=self.labels[index].astype(np.int64),
        )


@dataclass(frozen=True)
class TokenCorpus:
    """A source seen through one tokenizer; nothing is read or tokenised before it is asked for.

    For a causal model an example is ``[bos] prompt+prompt_end target [eos]``,
    with bos and eos where the model has them. Prompt and target are encoded
    apart, so that no token reaches across the place where the loss begins. An
    example that is too long loses the beginning of its prompt; one whose
    target alone is too long loses the prompt, the end of the target and eos.
    For a classifier it is the text, after its prompt, with the special tokens
    the tokenizer itself adds.

    Attributes
    ----------
    source, tokenizer, special
        The texts, their encoding and the model's special ids.
    sequence_length
        Tokens in every row, padding included; at least 2.
    task
        What is trained.
    loss_on
        ``target`` for the target and eos alone, ``all`` for the prompt too.
    prompt_end
        Written between prompt and target where there is a prompt.
    """

    source: DataSource
    tokenizer: Tokenizer
    special: SpecialIds
    sequence_length: int
    task: ModelTask = "causal_lm"
    loss_on: LossOn = "target"
    prompt_end: str = "\n"

    def __post_init__(self) -> None:
        if self.sequence_length < 2:
            raise ValueError(f"sequence_length must be at least 2, got {self.sequence_length}")

    @property
    def tokenizer_key(self) -> str:
        """A hash, hex, of the tokenizer."""
        return self.tokenizer.key

    @cached_property
    def content_key(self) -> str:
        """A hash, hex, of everything that decides the arrays, found without tokenising."""
        words = [
            self.source.content_key(),
            self.tokenizer.key,
            (self.special.bos, self.special.eos, self.special.pad),
            (self.sequence_length, self.task, self.loss_on, self.prompt_end),
        ]
        words += [beside] if (beside := self.source.key_beside(self.tokenizer)) else []
        return blake2b(repr(words).encode(), digest_size=16).hexdigest()

    @cached_property
    def key(self) -> str:
        """A hash, hex, of all that, and of the code that reads and tokenises it."""
        words = self.content_key, code_key("cosim.learning.data.tokens"), code_of(self.source)
        return blake2b(repr(words).encode(), digest_size=16).hexdigest()

    @cached_property
    def corpus(self) -> Corpus:
        """The texts."""
        source, special = self.source, self.special
        return source.load_for(self.tokenizer, special.bos, special.eos, self.sequence_length)

    @cached_property
    def train(self) -> TokenSet:
        """Token ids of the training examples, in their order."""
        return self._tokenise("train", self.corpus.train)

    @cached_property
    def test(self) -> TokenSet:
        """Token ids of the test examples, in their order."""
        return self._tokenise("test", self.corpus.test)

    def _tokenise(self, name: str, examples: Sequence[Example]) -> TokenSet:
        self._check_special()
        if self.task == "classification":
            return self._classified(name, examples)
        return self._causal(name, examples)

    def _causal(self, name: str, examples: Sequence[Example]) -> TokenSet:
        n = self.sequence_length
        around = [[] if one is None else [one] for one in (self.special.bos, self.special.eos)]
        prompts = self.tokenizer.encode([self._prompt(example) for example in examples])
        targets = self.tokenizer.encode([example.target for example in examples])
        input_ids, mask = self._empty(len(examples))
        labels = np.full(input_ids.shape, IGNORED, dtype=np.int32)
        num_truncated = num_prompts_cut = num_doubled = 0
        for row, (example, prompt, target) in enumerate(zip(examples, prompts, targets, strict=True)):
            begin, end = ([], []) if example.is_written_out or example.ids is not None else around
            target = target if example.ids is None else list(example.ids)
            added = {*begin, *end}
            num_doubled += not added.isdisjoint(prompt) or not added.isdisjoint(target)
            learned = target + end
            room = n - len(begin) - len(learned)
            if room < 0:
                num_truncated += 1
                learned = learned[: n - len(begin)]
            elif room < len(prompt):
                num_prompts_cut += 1
            given = begin + prompt[max(0, len(prompt) - max(0, room)) :]
            ids = given + learned
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = True
            start = 0 if self.loss_on == "all" else len(given)
            labels[row, start : len(ids)] = input_ids[row, start : len(ids)]
            if len(ids) <= max(start, 1):
                raise ScenarioError(
                    f"{self.source.kind} data: {name} example {row} leaves no token to predict; "
                    "give it a longer text or a prompt"
                )
        return TokenSet(input_ids, mask, labels, num_truncated, num_prompts_cut, num_doubled)

    def _prompt(self, example: Example) -> str:
        """Return what is in front of a target."""
        return example.prompt + ("" if example.is_written_out or not example.prompt else self.prompt_end)

    def _classified(self, name: str, examples: Sequence[Example]) -> TokenSet:
        number = {label: index for index, label in enumerate(self.corpus.labels)}
        labels = np.empty(len(examples), dtype=np.int32)
        for row, example in enumerate(examples):
            if example.label is None:
                raise ScenarioError(
                    f"{self.source.kind} data: {name} example {row} has no class; name the label_column"
                )
            labels[row] = number[example.label]
        texts = [e.prompt + self.prompt_end + e.target if e.prompt else e.target for e in examples]
        input_ids, mask = self._empty(len(examples))
        num_truncated = num_doubled = 0
        encoded = self.tokenizer.encode_classified(texts, self.sequence_length)
        for row, (ids, whole, doubled) in enumerate(encoded):
            if not ids:
                raise ScenarioError(
                    f"{self.source.kind} data: {name} example {row} has no token in it; give it a longer text"
                )
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = True
            num_truncated += not whole
            num_doubled += doubled
        return TokenSet(input_ids, mask, labels, num_truncated, 0, num_doubled)

    def _empty(self, num_examples: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        shape = (num_examples, self.sequence_length)
        return np.full(shape, self.special.pad, dtype=np.int32), np.zeros(shape, dtype=np.bool_)

    def _check_special(self) -> None:
        for name, value in (("bos", self.special.bos), ("eos", self.special.eos), ("pad", self.special.pad)):
            if value is not None and value >= self.tokenizer.vocab_size:
                raise ScenarioError(
                    f"{self.tokenizer.folder}: {name}_token_id {value} is outside its vocabulary of "
                    f"{self.tokenizer.vocab_size}; use the tokenizer that belongs to the model"
                )
