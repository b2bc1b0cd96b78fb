"""What happens to a client's update before it leaves: steps one after the other, then a codec.

An update is what a client changed since its round began, tensors by name. A step turns the
numbers it is given into those that go on, and may pack whole numbers of a fixed width
beside them, such as the places of what it kept; the receiver restores what the step was given as
far as it can. What goes on has a layout known from shapes alone, so bits are counted before any
value is there. Names hold no torch until something is sent.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

from cosim.learning.codec import Layout
from cosim.parts import Part
from cosim.rng import Stream
from cosim.units import Ints

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]

NORMAL_FLOP = 10
"""FLOP charged for drawing one normal number, our choice; a uniform one is charged 1."""


class Applied(NamedTuple):
    """What a step makes of numbers: those that go on, and rows of whole numbers packed beside them."""

    numbers: Tensors
    packed: Sequence[Ints] = ()


class Release(NamedTuple):
    """What a sender gives away of one update, for who keeps account of privacy.

    Attributes
    ----------
    sensitivity
        Largest 2-norm of what the noise is added to; infinite where nothing bounds it.
    noise_std
        Standard deviation of the normal noise on each number.
    """

    sensitivity: float
    noise_std: float


class UpdateStep(Part):
    """One thing that happens to an update.

    Attributes
    ----------
    keeps_layout
        Whether the numbers that go on have the names and shapes of those it is given.
    is_last
        Whether it has said how each number travels: nothing may follow, and no codec.
    holds_back
        Whether what is lost behind it waits for the next update: error feedback.
    less_lost
        The setting with which ``loses_a_part`` holds, where it need not.
    summed_with
        The settings with which ``is_summable`` holds, where it need not.
    """

    keeps_layout: ClassVar[bool] = True
    is_last: ClassVar[bool] = False
    holds_back: ClassVar[bool] = False
    less_lost: ClassVar[str] = ""
    summed_with: ClassVar[str] = ""

    @property
    def chance(self) -> Literal["none", "own", "common", "fixed"]:
        """Whether it draws, and if so each sender its own, all of a round alike, or all of a run."""
        return "none"

    @property
    def takes_bits(self) -> bool:
        """Whether a decision may say with how many bits it sends a number."""
        return False

    def with_bits(self, bits: int) -> Self:
        """Return the step with so many bits a number."""
        return self

    @property
    def is_summable(self) -> bool:
        """Whether the sum of what several senders' numbers become restores to the sum of the updates."""
        return False

    @property
    def is_relayed(self) -> bool:
        """Whether the server hands on what it received, and clients restore the average themselves."""
        return False

    @property
    def loses_a_part(self) -> bool:
        """Whether what it loses is less than what it was given, so that error feedback catches up."""
        return True

    @property
    def noise_std(self) -> float:
        """Standard deviation of the normal noise it adds to each number."""
        return 0.0

    def sensitivity(self, before: float) -> float:
        """Return a bound on the 2-norm of what goes on, from one on what it is given."""
        return inf

    def why_unsendable(self, layout: Layout) -> str | None:
        """Return why it cannot send an update of this layout, with a way out; None where it can."""
        return None

    def layout(self, layout: Layout) -> Layout:
        """Return the layout of the numbers that go on."""
        return layout

    def rows(self, layout: Layout) -> tuple[tuple[int, int], ...]:
        """Return of each packed row how many whole numbers it has, and the bits of each."""
        return ()

    def encode_flop(self, layout: Layout) -> int:
        """Return the FLOP of the sender."""
        return 0

    def decode_flop(self, layout: Layout) -> int:
        """Return the FLOP of the receiver."""
        return 0

    @abstractmethod
    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return what goes on of some numbers; nothing given is written to."""

    def restore(
        self, numbers: "Mapping[str, Tensor]", packed: Sequence[Ints], layout: Layout, chance: Stream | None
    ) -> Tensors:
        """Return what the receiver has for the numbers of ``layout`` that the step was given."""
        return dict(numbers)


def with_noise(numbers: Tensors, std: float, chance: Stream) -> Tensors:
    """Return numbers with normal noise on each, drawn in double precision tensor by tensor."""
    import torch

    generator = chance.generator()
    return {
        name: tensor + torch.from_numpy(generator.normal(0.0, std, tuple(tensor.shape))).to(tensor)
        for name, tensor in numbers.items()
    }


def release_of(steps: Sequence[UpdateStep]) -> Release | None:
    """Return what leaves at the first noise of a chain; None without noise.

    What comes behind it works on what is noisy already, and gives nothing more away.
    """
    sensitivity = inf
    for step in steps:
        if step.noise_std > 0.0:
            return Release(sensitivity, step.noise_std)
        sensitivity = step.sensitivity(sensitivity)
    return None
