"""A folder of Hugging Face files: checking it, hashing it, loading it.

Weights are read from safetensors only: a pickle runs code when it is opened.
Code that a folder brings along is never run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosim.errors import ScenarioError
from cosim.learning.shape import ModelShape, Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CHUNK_BYTES = 1 << 22


def read_json(path: Path) -> dict[str, Any]:
    """Return a config.json.

    Raises
    ------
    ScenarioError
        If the file is not there, or is no JSON table.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScenarioError(
            f"model: {path.parent} holds no {path.name}; a folder of a Hugging Face model is needed"
            if path.parent.is_dir()
            else f"model: there is no folder {path.parent}"
        ) from None
    except (OSError, ValueError) as fault:
        raise ScenarioError(f"model: {path} cannot be read as JSON: {one_line(fault)}") from None
    if not isinstance(config, dict):
        raise ScenarioError(f"model: {path} must hold a JSON table, got a {type(config).__name__}")
    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files that hold the weights, checked to be whole, in a fixed order.

    Raises
    ------
    ScenarioError
        If there are none, only pickles, or a file is missing or damaged.
    """
    index = folder / _INDEX
    if (folder / _WEIGHTS).is_file():
        files = [folder / _WEIGHTS]
    elif index.is_file():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict):
            raise ScenarioError(f"model: {index} names no weight_map; download the model again")
        files = [folder / name for name in sorted(set(shards.values()))]
    else:
        raise ScenarioError(_no_weights(folder))
    for file in files:
        _check_safetensors(file)
    return tuple(files)


def hash_files(config: dict[str, Any], files: tuple[Path, ...]) -> str:
    """Return a hash, in hex, of a config and the contents of its weight files."""
    digest = blake2b(canonical(config), digest_size=16)
    for file in files:
        digest.update(hash_file(file))
    return digest.hexdigest()


def hash_file(file: Path) -> bytes:
    """Return a hash of a file's content; within one process a file that was not touched is read once."""
    stat = file.stat()
    return _hash_file(file, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


def files_read(folder: Path, *, with_weights: bool) -> tuple[Path, ...]:
    """Return the files of a model's folder that decide something: config, tokenizer, weights if wanted."""
    named = [folder / name for name in ("merges.txt", "vocab.txt", "tokenizer.model")]
    found = {path for path in (*folder.glob("*.json"), *named) if path.is_file()}
    if with_weights:
        with suppress(ScenarioError):  # who loads them says what is wrong with them
            found.update(weight_files(folder))
    return tuple(sorted(found))


def canonical(config: dict[str, Any]) -> bytes:
    """Return a config as bytes that do not hang on the order of its keys."""
    return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()


def load_folder(folder: Path, task: Task, num_labels: int, dtype: str) -> "PreTrainedModel":
    """Return the model of a folder; see :meth:`cosim.learning.base.Base.load`.

    Raises
    ------
    ScenarioError
        If a weight is missing or has another shape than the config says; the
        head of a classifier alone may.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = read_json(folder / "config.json")
    shape = ModelShape.read(config, task, num_labels)
    weight_files(folder)
    auto = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
    labels = {"num_labels": num_labels} if task == "classification" else {}
    with quiet(), torch.random.fork_rng(devices=[]):
        try:
            model, info = auto.from_pretrained(
                folder,
                config=transformers_config(config, **labels),
                dtype=getattr(torch, dtype),
                attn_implementation="eager",
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are told apart below: a classifier may be another one
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as fault:
            raise ScenarioError(f"model: {folder} cannot be loaded: {one_line(fault)}") from None
    wrong = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    wrong = {name for name in wrong if name.partition(".")[0] not in _heads(shape)}
    if wrong:
        raise ScenarioError(
            f"model: the weights in {folder} do not fit its config.json: {len(wrong)} missing or of another "
            f"shape, the first {min(wrong)}; use a {shape.family} checkpoint that is whole"
        )
    return model.eval()


def transformers_config(config: dict[str, Any], **overrides: Any) -> "PretrainedConfig":
    """Return a config as transformers has it.

    Raises
    ------
    ScenarioError
        If transformers does not accept a value.
    """
    from transformers import CONFIG_MAPPING

    known = CONFIG_MAPPING[config["model_type"]]
    try:
        return known.from_dict({**config, **overrides})
    except Exception as fault:  # transformers validates with errors of several unrelated classes
        raise ScenarioError(f"model config: transformers refuses it: {one_line(fault)}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and reporting keys, and put its settings back."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def one_line(fault: BaseException) -> str:
    """Return the first line of a foreign error, without its closing full stop."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return (lines[0] if lines else type(fault).__name__).rstrip(".")


def _heads(shape: ModelShape) -> tuple[str, ...]:
    return ("classifier", "score") if shape.task == "classification" else ()


def _no_weights(folder: Path) -> str:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        return (
            f"model: {folder} holds its weights as a pickle only ({pickles[0]}), which runs code when "
            "opened; convert them with transformers, from_pretrained(...).save_pretrained(folder), "
            f"which writes {_WEIGHTS}"
        )
    return f"model: {folder} holds no weights; {_WEIGHTS} or {_INDEX} is needed"


def _check_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            opened.keys()
    except FileNotFoundError:
        raise ScenarioError(
            f"model: {file.parent / _INDEX} names {file.name}, which is not there; download the model again"
        ) from None
    except (OSError, SafetensorError) as fault:
        raise ScenarioError(
            f"model: {file} is damaged ({one_line(fault)}); download or copy it again"
        ) from None


@lru_cache(maxsize=256)
def _hash_file(file: Path, stamp: tuple[int, ...]) -> bytes:
    """Hash a file once per process; its stamp, which nobody can set back, tells when it is another one."""
    digest = blake2b(digest_size=32)
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
