"""Where the pre-trained weights come from."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.shapes import shape_of
from cosim.parts import Part

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Dtype = Literal["float32", "float64", "bfloat16"]
"""Number format of the frozen weights and of what is computed with them."""


class Base(Part, ABC):
    """A pre-trained model that stays frozen; a part says where its config, tokenizer and weights are.

    Only :meth:`load` needs torch. Every other method reads files, so a scenario
    can be checked, and a run timed, without it.

    Attributes
    ----------
    is_fetched
        Whether the settings are a name that may come to mean other weights.
    """

    is_fetched: ClassVar[bool] = False

    @abstractmethod
    def read_config(self) -> dict[str, Any]:
        """Return the Hugging Face ``config.json`` of the model.

        Raises
        ------
        ScenarioError
            If the model, or its config, is not there or cannot be read.
        """

    @abstractmethod
    def tokenizer_folder(self) -> Path | None:
        """Return the folder of the model's tokenizer files, or None where it has none."""

    @abstractmethod
    def content_key(self) -> str:
        """Return a hash, in hex, of everything that decides the weights: equal keys, equal models.

        Raises
        ------
        ScenarioError
            If the weights are not there or cannot be read.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return what the base is, in a few words."""

    @property
    @abstractmethod
    def name_or_path(self) -> str:
        """What an adapter trained on this base calls it in its ``adapter_config.json``."""

    @property
    def warning(self) -> str | None:
        """A warning for the user before a run, or None."""
        return None

    def weight_notes(self, shape: ModelShape) -> tuple[str, ...]:
        """Hold the weights against the config, and return what a user must know of them, in sentences.

        Raises
        ------
        ScenarioError
            If loading them would.
        """
        return ()

    @abstractmethod
    def load(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "PreTrainedModel":
        """Return the model with its weights, on the CPU, with eager attention, in evaluation mode.

        The head of a classifier is not part of the base: whether the source has
        one or not, the trainer sets its first values. No global random
        state is touched.

        Raises
        ------
        ScenarioError
            If the weights cannot be loaded, or some are missing.
        """

    def pieces(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "nn.Module":
        """Return the same model for kernels that call its modules one by one.

        It has the modules, parameters and ``config`` values of :meth:`load`, under their names, but need
        not be a model of transformers, whose classes take seconds to import.

        Raises
        ------
        ScenarioError
            As :meth:`load`.
        """
        loaded: nn.Module = self.load(task, num_labels, dtype)
        return loaded

    def shape(self, task: ModelTask = "causal_lm", num_labels: int = 0) -> ModelShape:
        """Return the sizes of the model when it is used for this task."""
        return shape_of(self.read_config(), task, num_labels)
