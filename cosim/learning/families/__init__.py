"""Running a model piece by piece: embedding, one block after the other, head.

Four families say how the modules of their blocks are called and what lies between them; nothing of
the wrappers of transformers is used, so a cut costs nothing extra. Any other is run by its own code.
"""

from collections.abc import Callable

from torch import nn

from cosim.learning.families.bert import BertBody
from cosim.learning.families.body import Body
from cosim.learning.families.gpt2 import GPT2Body
from cosim.learning.families.hooked import HookedBody
from cosim.learning.families.llama import LlamaBody
from cosim.learning.shape import ModelShape


def take_apart(model: nn.Module, shape: ModelShape) -> Body:
    """Return the pieces of a model."""
    bodies: dict[str, Callable[[nn.Module, ModelShape], Body]] = {
        "bert": BertBody,
        "gpt2": GPT2Body,
        "llama": LlamaBody,
        "roberta": BertBody,
    }
    return bodies.get(shape.family, HookedBody)(model, shape)
