"""Surfaces that reflect: a second way from sender to receiver."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cosim.parts import Part, Plane
from cosim.units import Floats

if TYPE_CHECKING:
    from cosim.radio.path import Path

Complexes = NDArray[np.complex128]


class Surface(Part):
    """Changes the gain of a path; a pure function of path, time and its own settings.

    Settings that change during a run come into force at an instant (``[[events]]``, or
    phases that a decision sets), and transfers in flight go on at the rate they then have.
    """

    plane: ClassVar[Plane] = "time"

    @property
    def block_ns(self) -> int | None:
        """How long its effect holds while the direct path does, ns; None where it never changes by itself."""
        return None

    @property
    def elements(self) -> int:
        """How many elements a decision may set the phase of."""
        return 0

    @property
    def levels(self) -> int:
        """How many phases an element can have, evenly around the circle."""
        return 1

    @property
    def data_share(self) -> float:
        """Share of the air that is left for data once it is known how to set the phases."""
        return 1.0

    def under(self, phases: tuple[int, ...]) -> Self:
        """Return the surface with these phases, a level of each element."""
        return self

    @abstractmethod
    def gains(self, path: "Path", direct: Floats) -> Floats:
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

    def amplitudes(self, path: "Path", direct: Floats) -> tuple[Complexes, Complexes]:
        """Return the complex amplitudes of the direct path and of each element's at phase zero.

        Of shapes (count, num_subchannels) and (count, num_elements).
        """
        return np.sqrt(direct).astype(complex), np.zeros((len(direct), 0), dtype=complex)
