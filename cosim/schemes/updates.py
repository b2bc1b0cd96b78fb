"""What schemes have in common whose clients send updates of what they trained."""

from typing import Annotated, Self

from pydantic import model_validator

from cosim.learning.chain import encoding, why_unfit
from cosim.learning.codec import Codec, Encoding
from cosim.learning.codec.none import Plain
from cosim.learning.update import UpdateStep
from cosim.parts import OneOf
from cosim.schemes import Scheme


class SendsUpdates(Scheme):
    """A scheme whose clients send what they trained.

    Attributes
    ----------
    update
        What happens to a client's update before it leaves, in this order, ahead of the codec. What
        comes after a step that changes the layout works on that layout's numbers.
    adapter_codec
        What adapters go up as.
    """

    update: Annotated[tuple[UpdateStep, ...], OneOf(UpdateStep)] = ()
    adapter_codec: Annotated[Codec, OneOf(Codec)] = Plain()

    @model_validator(mode="after")
    def _steps_and_codec_go_together(self) -> Self:
        why = why_unfit(self.update, self.adapter_codec)
        if why is not None:
            raise ValueError(f"update: {why}")
        return self

    @property
    def adapter_encoding(self) -> Encoding:
        """What adapters go up as: the codec, with what happens before it."""
        return encoding(self.update, self.adapter_codec)
