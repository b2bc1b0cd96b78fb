"""The radio table of a scenario file, checked and frozen; nothing is drawn here."""

from typing import Annotated

from cosim.parts import OneOf
from cosim.radio.access import Access
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.channel_settings import ChannelSettings
from cosim.radio.medium import Medium
from cosim.radio.medium.fluid import Fluid


class Radio(ChannelSettings):
    """The channel, what the air does with a transmission, and how those who send share what was granted."""

    medium: Annotated[Medium, OneOf(Medium)] = Fluid.default()
    access: Annotated[Access, OneOf(Access)] = Orthogonal.default()
