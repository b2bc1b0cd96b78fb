"""Examples' gradients shortened to a norm, and noise on their sum."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.gradients import Gradients, Tensors, shortened
from cosim.learning.update import Release, with_noise
from cosim.rng import Stream


class DpSgd(Gradients):
    """Clips each example's gradient to ``max_norm`` and adds normal noise once for each mini-batch.

    The noise on each number of the mean over ``n`` examples has the standard deviation
    ``noise_multiplier * max_norm / n``. All examples count alike: a share by targets would depend on
    the other examples, and no limit would bound what one of them changes. Clipping and
    draws are not charged. ``scheme.privacy`` keeps account of what is given away.

    Source
    ------
    M. Abadi et al., "Deep learning with differential privacy", CCS 2016, algorithm 1, with
    mini-batches of one size.
    """

    kind: Literal["dp_sgd"] = "dp_sgd"
    max_norm: float = Field(default=1.0, gt=0.0)
    noise_multiplier: float = Field(default=1.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"max_norm": 0.1, "noise_multiplier": 0.5})

    @property
    def counts_alike(self) -> bool:
        """Always."""
        return True

    @property
    def release(self) -> Release:
        """The limit, and the noise on the sum."""
        return Release(self.max_norm, self.noise_multiplier * self.max_norm)

    def of_example(self, gradient: Tensors) -> Tensors:
        """Return the gradient times the smaller of 1 and ``max_norm`` over its norm."""
        return shortened(gradient, self.max_norm)

    def finished(self, mean: Tensors, num_examples: int, chance: Stream) -> Tensors:
        """Return the mean with noise, drawn in double precision tensor by tensor."""
        return with_noise(mean, self.release.noise_std / num_examples, chance)
