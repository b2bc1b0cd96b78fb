"""Running a model piece by piece: embedding, one block after the other, head.

Each family says how the modules of its blocks are called and what lies between them; nothing of
the wrappers of transformers is used, so a cut costs nothing extra.
"""

from collections.abc import Callable

from torch import nn

from cosim.learning.families.bert import BertBody
from cosim.learning.families.body import Body
from cosim.learning.families.gpt2 import GPT2Body
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
    return bodies[shape.family](model, shape)
