"""The architectures that can be cut, by the ``model_type`` of their config."""

from collections.abc import Mapping

from cosim.learning.architectures.architecture import Architecture as Architecture
from cosim.learning.architectures.architecture import ModelTask as ModelTask
from cosim.learning.architectures.decoders import DECODERS
from cosim.learning.architectures.encoders import ENCODERS
from cosim.learning.architectures.plain import PLAIN

FAMILIES: Mapping[str, Architecture] = dict(sorted({**PLAIN, **DECODERS, **ENCODERS}.items()))
"""The architectures that can be cut, by the ``model_type`` of their config."""

OURS = ", ".join(name for name, one in FAMILIES.items() if one.has_blocks_of_ours)
"""Those whose blocks are computed by bodies of ours, for messages."""
