"""Images of a source for one model: patches as positions, as numpy arrays and without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np

from cosim.errors import ScenarioError
from cosim.graph.code_identity import code_key, code_of
from cosim.learning.data import Corpus, Example
from cosim.learning.data.tokens import TokenCorpus, TokenSet
from cosim.learning.layers import Patches
from cosim.units import Ints


@dataclass(frozen=True)
class PatchCorpus(TokenCorpus):
    """A source of images seen through one model; a position is a patch of levels from 0 to 255.

    An image of another size is scaled to the model's, between pixels. The first position is the model's
    own, for the class, and holds zeros.

    Attributes
    ----------
    patches
        How the model takes images.
    """

    patches: Patches = field(kw_only=True)

    @property
    def tokenizer_key(self) -> str:
        """Empty, as images have none."""
        return ""

    @cached_property
    def content_key(self) -> str:
        """A hash, hex, of everything that decides the arrays."""
        return blake2b(repr((self.source.content_key(), self.patches)).encode(), digest_size=16).hexdigest()

    @cached_property
    def key(self) -> str:
        """A hash, hex, of all that, and of the code that reads and cuts it."""
        words = self.content_key, code_key("cosim.learning.data.patches"), code_of(self.source)
        return blake2b(repr(words).encode(), digest_size=16).hexdigest()

    @cached_property
    def corpus(self) -> Corpus:
        """The images."""
        return self.source.load()

    def _tokenise(self, name: str, examples: Sequence[Example]) -> TokenSet:
        number = {label: index for index, label in enumerate(self.corpus.labels)}
        found: Any = np.zeros((len(examples), self.patches.count + 1, self.patches.numbers), dtype=np.uint8)
        for row, example in enumerate(examples):
            if example.image is None:
                raise ScenarioError(
                    f"{self.source.kind} data: {name} example {row} has no image, and the model "
                    "reads images; take data.source.kind = 'shapes' or 'images'"
                )
            found[row, 1:] = self._cut(example.image)
        labels = np.array([number[str(one.label)] for one in examples], dtype=np.int32)
        return TokenSet(found, np.ones(found.shape[:2], dtype=np.bool_), labels, 0, 0)

    def _cut(self, image: "Any") -> Ints:
        """Return the patches of an image, (patches, numbers): row by row, channel by channel inside."""
        levels = np.frombuffer(image.levels, dtype=np.uint8).reshape(image.height, image.width, 3)
        side, patch, channels = self.patches.image_side, self.patches.patch_side, self.patches.num_channels
        if (image.height, image.width) != (side, side):
            from PIL import Image as Pillow

            levels = np.asarray(Pillow.fromarray(levels).resize((side, side), Pillow.Resampling.BILINEAR))
        if channels == 1:
            levels = levels.mean(axis=2, keepdims=True).round().astype(np.uint8)
        across = side // patch
        cut = levels.reshape(across, patch, across, patch, channels).transpose(0, 2, 4, 1, 3)
        return np.asarray(cut.reshape(across * across, -1))
