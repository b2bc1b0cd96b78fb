"""Which codec each kind of payload goes through."""

from typing import NamedTuple

from cosim.learning.codec import Codec, Encoding
from cosim.learning.codec.none import Plain

_PLAIN = Plain.default()


class Codecs(NamedTuple):
    """What each kind of payload goes through; the adapter's is for its way up."""

    activation: Codec = _PLAIN
    gradient: Codec = _PLAIN
    adapter: Encoding = _PLAIN


NO_CODECS = Codecs()
"""Everything travels as it is computed."""
