"""The shape of any model that can be trained: of a family, or found in what transformers builds."""

import json
from collections.abc import Mapping
from typing import Any

from cosim.learning.architectures import FAMILIES
from cosim.learning.shape import ModelShape, ModelTask


def shape_of(config: Mapping[str, Any], task: ModelTask = "causal_lm", num_labels: int = 0) -> ModelShape:
    """Return the sizes of a model that a Hugging Face config describes.

    Where no family describes the model, transformers is imported and builds it without its numbers.

    Parameters
    ----------
    config
        Contents of ``config.json``.
    task, num_labels
        What the model is used for, and among how many labels a classifier chooses.

    Raises
    ------
    ScenarioError
        As :meth:`ModelShape.read` and :func:`cosim.learning.discovery.discover`.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type in FAMILIES:
        return ModelShape.read(config, task, num_labels)
    from cosim.learning.discovery import discover

    return discover(json.dumps(config, sort_keys=True), task, num_labels)
