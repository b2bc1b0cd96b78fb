"""A model's tokenizer, read from its folder without torch or transformers."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cosim.errors import ScenarioError, quoted

_END_OF_TEXT = (
    "<|endoftext|>"  # the one special token of GPT-2, which its two files do not tell from the others
)


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer in a model's folder: ``tokenizer.json``, or ``vocab.json`` with ``merges.txt``.

    The second pair is byte-level BPE as GPT-2 has it. Lengths are cut and
    padded elsewhere: whatever the file says of that is switched off.
    """

    folder: Path

    @cached_property
    def key(self) -> str:
        """A hash, hex, of the files that decide the ids."""
        digest = blake2b(digest_size=16)
        for path in self._files():
            digest.update(path.name.encode())
            digest.update(blake2b(_content(path)).digest())
        return digest.hexdigest()

    @cached_property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return 1 + max(int(one) for one in self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, with no special token around them."""
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def encode_classified(self, texts: Sequence[str], length: int) -> Iterator[tuple[list[int], bool, bool]]:
        """Return the ids of each text within its special tokens, and two facts of it.

        These are whether all of the text went in, and whether it writes out one of
        the special tokens that it is put between.

        A text that is too long loses its end, never a special token: BERT's
        rows end in ``[SEP]`` all the same.

        Raises
        ------
        ScenarioError
            If ``length`` holds no more than the special tokens.
        """
        room = length - self._tokenizer.num_special_tokens_to_add(False)
        if room < 1:
            raise ScenarioError(
                f"{self.folder}: a sequence_length of {length} holds special tokens only; "
                f"make it {length + 1 - room} or more"
            )
        for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
            whole = len(encoding.ids) <= room
            encoding.truncate(room)
            written = set(encoding.ids)
            done = self._tokenizer.post_process(encoding, None, True)
            added = [
                one for one, is_added in zip(done.ids, done.special_tokens_mask, strict=True) if is_added
            ]
            yield done.ids, whole, not written.isdisjoint(added)

    def known_special(self, name: str) -> str | None:
        """Return which file beside the tokenizer names the special token ``bos`` or ``eos``, and how."""
        for file, key in (
            ("generation_config.json", f"{name}_token_id"),
            ("tokenizer_config.json", f"{name}_token"),
        ):
            value = _entry(self.folder / file, key)
            value = value.get("content") if isinstance(value, dict) else value
            if value is not None:
                return f"{file} has {quoted(value)}"
        return None

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special tokens left out."""
        text: str = self._tokenizer.decode([int(one) for one in ids], skip_special_tokens=True)
        return text

    def _files(self) -> tuple[Path, ...]:
        whole = (self.folder / "tokenizer.json",)
        pair = (self.folder / "vocab.json", self.folder / "merges.txt")
        for files in (whole, pair):
            if all(path.is_file() for path in files):
                return files
        raise ScenarioError(
            f"{self.folder}: holds no tokenizer; it needs tokenizer.json, or vocab.json and merges.txt"
        )

    @cached_property
    def _tokenizer(self) -> Any:
        import tokenizers

        files = self._files()
        try:
            if len(files) == 1:
                tokenizer = tokenizers.Tokenizer.from_file(str(files[0]))
            else:
                tokenizer = tokenizers.Tokenizer(
                    tokenizers.models.BPE.from_file(str(files[0]), str(files[1]))
                )
                tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
                tokenizer.decoder = tokenizers.decoders.ByteLevel()
                if tokenizer.token_to_id(_END_OF_TEXT) is not None:
                    tokenizer.add_special_tokens([_END_OF_TEXT])
        except Exception as fault:  # the library, written in Rust, raises nothing narrower
            why = " ".join(str(fault).split())[:200].rstrip(".")
            raise ScenarioError(
                f"{files[0]}: is no tokenizer file ({why}); copy the model's folder again"
            ) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ScenarioError(
            f"{path}: cannot be read ({fault.strerror or fault}); give a readable file"
        ) from None


def _entry(path: Path, key: str) -> Any:
    """Return an entry of a JSON file that nothing depends on; None where it cannot be had."""
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return entries.get(key) if isinstance(entries, dict) else None
