"""Surfaces that reflect: a second way from sender to receiver."""

from abc import abstractmethod

from cosim.parts import Part
from cosim.radio.path import Path
from cosim.units import Floats


class Surface(Part):
    """Changes the gain of a path; a pure function of path, time and its own settings.

    Settings that change during a run come into force at an instant (``[[events]]``),
    and transfers in flight go on at the rate they then have.
    """

    @property
    def block_ns(self) -> int | None:
        """How long its effect holds while the direct path does, ns; None where it never changes by itself."""
        return None

    @abstractmethod
    def gains(self, path: Path, direct: Floats) -> Floats:
        """Return the linear power gains with the surface, shape (count, num_subchannels).

        The amplitude of the direct path is the root of its gain; its phase is the
        surface's to draw from the path's stream, where it matters.

        Parameters
        ----------
        path
            Whose path it is, where it goes and when.
        direct
            Gains without the surface, large scale times fading, of the same shape.
        """
