"""Which codec each kind of payload goes through."""

from dataclasses import dataclass

from cosim.learning.codec import Codec, Encoding
from cosim.learning.codec.none import Plain

_PLAIN = Plain.default()


@dataclass(frozen=True)
class Codecs:
    """What each kind of payload goes through; the adapter's is for its way up."""

    activation: Codec = _PLAIN
    gradient: Codec = _PLAIN
    adapter: Encoding = _PLAIN


NO_CODECS = Codecs()
"""Everything travels as it is computed."""
