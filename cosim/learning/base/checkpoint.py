"""A folder of Hugging Face files: checking it, hashing it, loading it.

Weights are read from safetensors only: a pickle runs code when it is opened.
Code that a folder brings along is never run. What is loaded is ``config.json``
and the files of :func:`weight_files`, the same that the key of a model hashes:
transformers gets their tensors, never the folder, where it would look for more.
"""

import json
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cosim.errors import ScenarioError
from cosim.learning.base.weights import compare, read_tensor, refuse_unfit, stored_tensors, unused_note
from cosim.learning.config_values import shown
from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.shapes import shape_of
from cosim.learning.transformers_models import model_class, one_line, quiet, transformers_config

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

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
    except NotADirectoryError:
        raise ScenarioError(f"model: {path.parent} is a file; the folder of a model is needed") from None
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
        files = [folder / name for name in _shards(index)]
    else:
        raise ScenarioError(_no_weights(folder))
    for file in files:
        _check_safetensors(file)
    return tuple(files)


def _shards(index: Path) -> list[str]:
    """Return the files that an index names, each in the folder of the index or below it."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ScenarioError(f"model: {index} names no weight_map; download the model again")
    for name in shards.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or "\0" in name:
            raise ScenarioError(
                f"model: weight_map in {index} names {shown(name)}, which is no safetensors file; "
                "download the model again"
            )
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ScenarioError(
                f"model: weight_map in {index} names {shown(name)}, which is outside its folder; "
                "download the model again"
            )
    return sorted(set(shards.values()))


def weight_notes(folder: Path, config: dict[str, Any], shape: ModelShape) -> tuple[str, ...]:
    """Hold the weights of a folder against its config, and return what of them is left out.

    Raises
    ------
    ScenarioError
        If loading them would.
    """
    fit = compare(stored_tensors(weight_files(folder)), shape)
    refuse_unfit(folder, fit, shape)
    return unused_note(fit)


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
    """Return a config as bytes that do not depend on the order of its keys."""
    return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()


def load_folder(folder: Path, task: ModelTask, num_labels: int, dtype: str) -> "PreTrainedModel":
    """Return the model of a folder; see :meth:`cosim.learning.base.Base.load`.

    Raises
    ------
    ScenarioError
        If a weight is missing or has another shape than the config says; the
        head of a classifier alone may.
    """
    import torch

    config = read_json(folder / "config.json")
    shape = shape_of(config, task, num_labels)
    weight_notes(folder, config, shape)
    labels = {"num_labels": num_labels} if task == "classification" else {}
    settings = transformers_config(config, **labels)
    with quiet(), torch.random.fork_rng(devices=[]):
        try:
            model, info = model_class(settings, task).from_pretrained(
                None,
                config=settings,
                state_dict=_tensors(weight_files(folder)),
                dtype=getattr(torch, dtype),
                attn_implementation="eager",
                ignore_mismatched_sizes=True,  # they are told apart below: a classifier may be another one
                output_loading_info=True,
            )
        except Exception as fault:  # building a model raises errors of many unrelated classes
            raise ScenarioError(f"model: {folder} cannot be loaded: {one_line(fault)}") from None
    wrong = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    wrong = {name for name in wrong if name.partition(".")[0] not in _heads(shape)}
    if wrong:
        raise ScenarioError(
            f"model: the weights in {folder} do not fit its config.json: {len(wrong)} missing or of another "
            f"shape, the first {min(wrong)}; use a {shape.family} checkpoint that is whole"
        )
    return model.eval()


def load_pieces(folder: Path, task: ModelTask, num_labels: int, dtype: str) -> "nn.Module":
    """Return the model of a folder without transformers, where we know all its config asks for.

    See :meth:`cosim.learning.base.Base.pieces`.

    Raises
    ------
    ScenarioError
        As :func:`load_folder`.
    """
    import torch

    from cosim.learning.families.modules import build, can_build

    config = read_json(folder / "config.json")
    shape = shape_of(config, task, num_labels)
    if not can_build(config):
        loaded: nn.Module = load_folder(folder, task, num_labels, dtype)
        return loaded
    fit = compare(stored_tensors(weight_files(folder)), shape)
    refuse_unfit(folder, fit, shape)
    wanted = getattr(torch, dtype)
    try:
        return build(config, shape, {name: read_tensor(one).to(wanted) for name, one in fit.used.items()})
    except Exception as fault:  # building a model raises errors of many unrelated classes
        raise ScenarioError(f"model: {folder} cannot be loaded: {one_line(fault)}") from None


def _tensors(files: tuple[Path, ...]) -> "dict[str, Tensor]":
    """Return the tensors of some files, in memory: a file may be replaced while a run goes on."""
    from safetensors.torch import load_file

    return {name: tensor.clone() for file in files for name, tensor in load_file(file).items()}


def _heads(shape: ModelShape) -> tuple[str, ...]:
    if shape.task != "classification":
        return ()
    return tuple(name.partition(".")[0] for name in shape.names.classifier)


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
