"""A model from the Hugging Face hub."""

from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError, quoted
from cosim.learning.base.in_folder import InFolder
from cosim.learning.transformers_models import one_line

_WANTED = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


class HubBase(InFolder):
    """A model of the Hugging Face hub by name, downloaded once and then taken from the hub's local cache.

    Only safetensors are downloaded. A revision that is a commit hash always
    means the same weights; a branch such as ``main`` may move, and then the
    content key moves with it.
    """

    is_fetched: ClassVar[bool] = True
    kind: Literal["hub"] = "hub"
    name: str = Field(min_length=1)
    revision: str = "main"
    examples = ({"name": "openai-community/gpt2"},)

    def describe(self) -> str:
        return f"{self.name} at {self.revision} from the hub"

    @property
    def name_or_path(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        return _snapshot(self.name, self.revision)


@lru_cache(maxsize=32)
def _snapshot(name: str, revision: str) -> Path:
    """Return the folder a model was downloaded to; one process sees one state of a branch."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_WANTED)))
    except GatedRepoError:
        fault = "asks for its licence to be accepted; accept it on the hub and log in with `hf auth login`"
    except RepositoryNotFoundError:
        fault = "is not on the hub, or is private; check the name"
    except RevisionNotFoundError:
        fault = f"has no revision {quoted(revision)} on the hub; name a branch, a tag or a commit"
    except HFValidationError as error:
        fault = f"is no name of a model: {one_line(error)}"
    except LocalEntryNotFoundError:
        fault = (
            "is not in the hub's local cache, and the hub cannot be reached; "
            "go online once, or use kind 'folder'"
        )
    except OSError as error:
        fault = f"cannot be downloaded: {one_line(error)}"
    raise ScenarioError(f"model: {quoted(name)} {fault}")
