"""What schemes have in common whose clients hold the first blocks, and a main server the rest."""

from typing import Annotated

from pydantic import field_validator

from cosim.learning.codec import Codec
from cosim.learning.codec.none import Plain
from cosim.learning.codecs import Codecs
from cosim.parts import OneOf, Part, family
from cosim.schemes import Scheme


class Splits(Scheme):
    """A scheme whose model is cut.

    Attributes
    ----------
    activation_codec, gradient_codec
        What activations and their gradients travel as. The main server computes
        with the activations it decodes, and the client goes back with the gradient
        it decodes. With error feedback the client, and the server for each
        client, hold back; of what comes too late nothing is held back.
    """

    activation_codec: Annotated[Codec, OneOf(Codec)] = Plain.default()
    gradient_codec: Annotated[Codec, OneOf(Codec)] = Plain.default()

    @field_validator("activation_codec", "gradient_codec")
    @classmethod
    def _needs_no_reference(cls, codec: Codec) -> Codec:
        if codec.needs_reference:
            able = ", ".join(repr(kind) for kind, part in family(Codec).items() if not _needs_reference(part))
            raise ValueError(
                f"{codec.kind!r} sends a difference to what both ends have, and they have no activations "
                f"in common; take one of {able}"
            )
        return codec

    @property
    def codecs(self) -> Codecs:
        """As the settings say; what is trained travels as it is."""
        return Codecs(self.activation_codec, self.gradient_codec)


def _needs_reference(part: type[Part]) -> bool:
    return issubclass(part, Codec) and part.needs_reference
