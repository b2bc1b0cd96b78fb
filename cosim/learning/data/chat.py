"""Conversations: messages of several roles, written out by the chat template of the model's tokenizer."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cosim.errors import ScenarioError, quoted
from cosim.learning.data import Corpus, DataSource, Example
from cosim.learning.data.rows import format_of, text_of
from cosim.learning.data.splitting import at_most, split_off
from cosim.learning.data.tables import (
    Entry,
    file_bytes,
    lines_of_json,
    list_of_json,
    rows_of_parquet,
    rows_of_saved,
    unpacked,
)
from cosim.learning.data.tokenizer import Tokenizer
from cosim.rng import stream

Message = Mapping[str, str]
"""A ``role`` and a ``content``."""

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_COLUMNS = ("messages", "conversations", "conversation")


class Chat(DataSource):
    """Conversations; each turn of the assistant is an example, with all before it as its prompt.

    A conversation is an object with a list ``messages`` of ``{"role", "content"}``, or ShareGPT's
    ``conversations`` of ``{"from", "value"}``, in a ``.jsonl``, ``.json`` or ``.parquet`` file or a
    folder that ``datasets`` wrote. The template is the one in the folder of the model's tokenizer
    (``chat_template.jinja`` or ``tokenizer_config.json``), run in a sandbox. A model without one gets
    ``role: content`` lines. Plain entries of a conversation beside its messages are fields that a
    partition may sort by.
    """

    kind: Literal["chat"] = "chat"
    train_path: Path = Field(description="File to train on.")
    test_path: Path | None = Field(None, description="File to test on; leave out to split off test_fraction.")
    test_fraction: float | None = Field(
        None, gt=0.0, lt=1.0, description="Share of the conversations of train_path kept for testing."
    )
    turns: Literal["every", "last"] = Field(
        "every", description="Which turns of the assistant are learned, each as an example."
    )
    template: Path | None = Field(
        None, description="Another template: a .jinja file, or the folder of a tokenizer."
    )
    max_train: int | None = Field(None, ge=1, description="At most this many conversations, drawn by seed.")
    max_test: int | None = Field(None, ge=1, description="At most this many to test on, drawn by seed.")
    seed: int = Field(0, ge=0, description="Decides which conversations are split off or kept.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"train_path": "chat.jsonl", "test_fraction": 0.25},
        {"train_path": "chat.jsonl", "test_path": "sharegpt.json", "turns": "last", "max_train": 4},
    )

    @model_validator(mode="after")
    def _has_one_test(self) -> Self:
        if (self.test_path is None) == (self.test_fraction is None):
            raise ValueError("give either test_path or test_fraction")
        return self

    @property
    def needs_tokenizer(self) -> bool:
        """Always."""
        return True

    def load(self) -> Corpus:
        """Return the turns, written as lines of ``role: content``."""
        return self._corpus(None)

    def load_for(self, tokenizer: Tokenizer, begin: int | None, end: int | None, length: int) -> Corpus:
        """Return the turns as the model's template, or the chosen one, writes them."""
        return self._corpus(_Template.of(self.template or tokenizer.folder))

    def key_beside(self, tokenizer: Tokenizer) -> str:
        """Return a hash of the template."""
        found = _Template.of(self.template or tokenizer.folder)
        return "" if found is None else blake2b(repr(found.parts).encode(), digest_size=16).hexdigest()

    def content_key(self) -> str:
        """Return a hash, hex, of the files' bytes and the settings; where the files lie plays no part."""
        settings = self.model_dump_json(exclude={"train_path", "test_path", "template"})
        digest = blake2b(settings.encode(), digest_size=16)
        for path in (self.train_path, self.test_path):
            if path is not None:
                digest.update(format_of(path).encode() + blake2b(file_bytes(path)).digest())
        return digest.hexdigest()

    def _corpus(self, template: "_Template | None") -> Corpus:
        chance = stream(self.seed, "data", "chat")
        train = _entries(self.train_path)
        if self.test_path is None:
            assert self.test_fraction is not None
            train, test = split_off(train, _numbers(train), self.test_fraction, chance.child("test"))
        else:
            test = _entries(self.test_path)
        train = at_most(train, _numbers(train), self.max_train, chance.child("max_train"))
        test = at_most(test, _numbers(test), self.max_test, chance.child("max_test"))
        sides = [
            tuple(one for entry in entries for one in self._turns(path, entry, template))
            for path, entries in ((self.train_path, train), (self.test_path or self.train_path, test))
        ]
        for name, side in zip(("train on", "test on"), sides, strict=True):
            if not side:
                raise ScenarioError(
                    f"{self.train_path}: no turn of an assistant is left to {name}; give more conversations"
                )
        return Corpus(train=sides[0], test=sides[1])

    def _turns(self, path: Path, entry: Entry, template: "_Template | None") -> Iterator[Example]:
        """Return the examples of a conversation."""
        messages = _messages(path, *entry)
        fields = {name: str(one) for name, one in entry[1].items() if isinstance(one, str | int | float)}
        turns = [place for place, one in enumerate(messages) if one["role"] == "assistant"]
        for place in turns if self.turns == "every" else turns[-1:]:
            before, turn = messages[:place], messages[place]
            if template is None:
                prompt = "\n".join(f"{one['role']}: {one['content']}" for one in before)
                yield Example(f"{prompt}\nassistant:", turn["content"], fields=fields)
                continue
            prompt = template.written(before, asks=True)
            whole = template.written([*before, turn], asks=False)
            if not whole.startswith(prompt):
                raise ScenarioError(
                    f"{path}: the template of {template.place} writes a conversation another way when it "
                    'goes on, so no turn begins where its prompt ends; take turns = "last", or another one'
                )
            yield Example(prompt, whole[len(prompt) :], fields=fields, is_written_out=True)


class _Template:
    """A chat template, as the files beside a tokenizer have it.

    Attributes
    ----------
    place
        Where it was found.
    parts
        All that decides what it writes.
    """

    def __init__(self, place: Path, text: str, tokens: Mapping[str, str]) -> None:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.place, self.parts = place, (text, sorted(tokens.items()))
        room = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        room.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        room.globals["raise_exception"] = _refuse
        self._error = TemplateError
        try:
            self._template = room.from_string(text)
        except TemplateError as fault:
            raise ScenarioError(f"{place}: holds no chat template that can be read ({fault})") from None
        self._tokens = tokens

    @classmethod
    def of(cls, place: Path) -> "_Template | None":
        """Return the template of a file, or of a tokenizer's folder where it has one."""
        if place.is_file():
            return cls(place, text_of(place), {})
        settings: Any = {}
        if (place / "tokenizer_config.json").is_file():
            try:
                settings = json.loads((place / "tokenizer_config.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                settings = {}
        beside = place / "chat_template.jinja"
        text = text_of(beside) if beside.is_file() else settings.get("chat_template")
        if isinstance(text, list):  # several, by name
            text = next((one["template"] for one in text if one.get("name") == "default"), None)
        tokens: dict[str, str] = {}
        for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
            value = settings.get(name)
            value = value.get("content") if isinstance(value, dict) else value
            tokens |= {name: value} if isinstance(value, str) else {}
        return None if text is None else cls(place, text, tokens)

    def written(self, messages: Sequence[Message], *, asks: bool) -> str:
        """Return a conversation as the model reads it; ``asks`` ends it where the assistant begins."""
        try:
            return str(self._template.render(messages=messages, add_generation_prompt=asks, **self._tokens))
        except (self._error, TypeError, ValueError) as fault:
            raise ScenarioError(
                f"{self.place}: its chat template cannot write a conversation ({fault}); name another"
            ) from None


def _refuse(why: str) -> None:
    raise ValueError(why)


def _entries(path: Path) -> list[Entry]:
    kind = format_of(path)
    if path.is_dir():
        found = list(rows_of_saved(path))
    elif kind == ".parquet":
        found = list(rows_of_parquet(path, unpacked(path, file_bytes(path))))
    elif kind in (".jsonl", ".json"):
        found = list((lines_of_json if kind == ".jsonl" else list_of_json)(path, text_of(path)))
    else:
        raise ScenarioError(f"{path}: the ending says no known format; use .jsonl, .json or .parquet")
    if not found:
        raise ScenarioError(f"{path}: the file holds no conversation; give one with at least one")
    return found


def _numbers(entries: Sequence[Entry]) -> list[str]:
    return [str(number) for number in range(len(entries))]


def _messages(path: Path, line: int, entry: Mapping[str, Any]) -> list[Message]:
    """Return the messages of a conversation, in the words of chat templates."""
    name = next((one for one in _COLUMNS if isinstance(entry.get(one), list)), None)
    if name is None:
        raise ScenarioError(
            f"{path}: entry {line} holds no list {quoted('messages')} or {quoted('conversations')}; write "
            '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
        )
    found: list[Message] = []
    for number, one in enumerate(entry[name], start=1):
        one = one if isinstance(one, dict) else {}
        role, content = one.get("role", one.get("from")), one.get("content", one.get("value"))
        if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
            content = "".join(str(part["text"]) for part in content)
        if not isinstance(role, str) or not isinstance(content, str):
            raise ScenarioError(
                f"{path}: message {number} of entry {line} is no role with a text; write "
                '{"role": "user", "content": "..."}'
            )
        found.append({"role": _ROLES.get(role, role), "content": content})
    return found
