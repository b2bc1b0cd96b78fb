"""Models and configs of transformers: the class for a task, what a config becomes, and no noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cosim.errors import ScenarioError
from cosim.learning.architectures import FAMILIES, ModelTask
from cosim.learning.config_values import deciding

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def model_class(config: "PretrainedConfig", task: ModelTask) -> Any:
    """Return the class of transformers that does a task with a model of this config.

    Raises
    ------
    ScenarioError
        If there is none.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    )

    classes = (
        MODEL_FOR_CAUSAL_LM_MAPPING if task == "causal_lm" else MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    )
    if config.model_type in FAMILIES and FAMILIES[config.model_type].reads_images:
        classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    if type(config) not in classes:
        raise ScenarioError(f"model config: transformers has no {config.model_type} model for {task}")
    return classes[type(config)]


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
        return known.from_dict({**deciding(config), **overrides})
    except Exception as fault:  # transformers validates with errors of several unrelated classes
        raise ScenarioError(f"model config: transformers refuses it: {one_line(fault)}") from None


def meta_model(config: dict[str, Any], task: ModelTask, num_labels: int) -> "nn.Module":
    """Return a model without its numbers, on torch's meta device, in evaluation mode.

    Raises
    ------
    ScenarioError
        If none can be built, or it is no list of dense blocks.
    """
    import torch

    labels = {"num_labels": num_labels} if task == "classification" else {}
    with quiet(), torch.device("meta"):
        settings = transformers_config(config, **labels)
        if any(getattr(settings, name, None) for name in _EXPERTS):
            raise ScenarioError(
                f"model config: a model of {config['model_type']!r} is a mixture of experts, and which of "
                "them a token meets depends on its values; take a dense model"
            )
        if getattr(settings, "is_encoder_decoder", False):
            raise ScenarioError(
                f"model config: a model of {config['model_type']!r} has an encoder and a decoder; take one "
                "of them"
            )
        kind = model_class(settings, task)
        try:
            model: nn.Module = kind._from_config(settings, attn_implementation="eager")
        except Exception as fault:  # building a model raises errors of many unrelated classes
            raise ScenarioError(f"model config: no model can be built from it: {one_line(fault)}") from None
    return model.eval()


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
    """Return the first line of a foreign error, with the next behind a colon, without its full stop."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()] or [type(fault).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said.rstrip(".")
