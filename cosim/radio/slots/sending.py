"""What one sender does slot after slot: transport blocks, link adaptation, and blocks sent again.

Chance and air are lists that were worked out for many slots at once; what follows on a block that
failed depends on the ones before, so it is a loop, of plain numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import expm1, log1p, log10
from typing import Literal, NamedTuple

from cosim.radio.slots.error_rates import Curves

Combining = Literal["chase", "incremental_redundancy", "none"]
GIVEN_UP = 100_000
"""So many blocks that fail in a row are taken to never arrive."""
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class Rules:
    """How blocks are sent.

    Attributes
    ----------
    curves
        Returns the curves for a number of resource blocks.
    combining
        What the receiver makes of several attempts.
    max_attempts, feedback_slots
        How often a block is sent at most, and after how many slots again.
    step_db, step_down_db
        Of the outer loop, for a block that arrived and for one that failed, dB.
    max_offset_db
        How far the outer loop goes either way, dB.
    """

    curves: Callable[[int], Curves]
    combining: Combining
    max_attempts: int
    feedback_slots: int
    step_db: float
    step_down_db: float
    max_offset_db: float


class Air(NamedTuple):
    """What a sender meets in consecutive slots; lists as long as there are slots.

    Attributes
    ----------
    first_slot
        The number of the first.
    num_blocks
        Resource blocks it has; none in a slot that others use.
    snr, snr_db
        Effective, linear and in dB.
    reported_db
        The one that the scheme is chosen by, dB.
    uniforms
        A number between 0 and 1 for each attempt that may fall into the slot.
    energy_j
        What sending in the slot takes, J.
    """

    first_slot: int
    num_blocks: Sequence[int]
    snr: Sequence[float]
    snr_db: Sequence[float]
    reported_db: Sequence[float]
    uniforms: Sequence[Sequence[float]]
    energy_j: Sequence[float]


class Block(NamedTuple):
    """A transport block that failed and is sent again from slot ``due`` on; ``snr`` is what was received."""

    due: int
    curves: Curves
    scheme: int
    num_blocks: int
    bits: int
    attempts: int
    snr: float


@dataclass
class Sender:
    """A payload on the air.

    Attributes
    ----------
    unsent, missing
        Bits that are in no block yet, and bits that have not arrived.
    offset_db
        Of the outer loop, dB.
    repeats
        Blocks that are sent again, by the slot.
    failed_in_a_row
        Blocks that failed since the last that arrived.
    first_slot
        In which it sent first; None before.
    sent_bits, num_sent, num_failed, energy_j
        Payload bits in all attempts, the attempts, those that failed, and what they took, J.
    num_repeated, num_given_up
        Attempts after a block's first, and blocks that failed at their last.
    num_unscheduled, num_idle
        Slots since the first in which it had no resource block, and nothing to send.
    """

    unsent: int
    missing: int
    offset_db: float = 0.0
    repeats: list[Block] = field(default_factory=list)
    failed_in_a_row: int = 0
    first_slot: int | None = None
    sent_bits: int = 0
    num_sent: int = 0
    num_failed: int = 0
    energy_j: float = 0.0
    num_repeated: int = 0
    num_given_up: int = 0
    num_unscheduled: int = 0
    num_idle: int = 0

    def copy(self) -> "Sender":
        """Return the same, to go on by itself."""
        return replace(self, repeats=list(self.repeats))

    def send(self, air: Air, count: int, rules: Rules) -> int | None:
        """Send in the first slots of what was worked out, ``count`` at most.

        Returns the slot in which the last bit arrived, where it did; nothing is sent after it. It is one loop
        on local names, as it runs for every slot.
        """
        _, num_blocks, snrs, snrs_db, reported_db, uniforms, energies_j = air
        curves_of, step_db, most_db = rules.curves, rules.step_db, rules.max_offset_db
        repeats, unsent, offset_db, energy_j = self.repeats, self.unsent, self.offset_db, self.energy_j
        sent_bits, num_sent, ended = 0, 0, None
        for at in range(count):
            num = num_blocks[at]
            if not num:
                if self.first_slot is not None:
                    self.num_unscheduled += 1
                continue
            if repeats and repeats[0].due <= air.first_slot + at:
                block = repeats.pop(0)
                snr = _combined(rules.combining, block.snr, snrs[at], num / block.num_blocks)
                snr_db = 10.0 * log10(snr) if snr > 0.0 else -400.0
                curves, scheme, bits, attempts = block.curves, block.scheme, block.bits, block.attempts
                self.num_repeated += 1
            elif unsent:
                block, curves, snr, snr_db, attempts = None, curves_of(num), snrs[at], snrs_db[at], 0
                scheme = curves.scheme_at(reported_db[at] + offset_db)
                bits = curves.payload_bits[scheme]
                if bits > unsent:
                    bits = unsent
                unsent -= bits
            else:
                self.num_idle += 1
                continue
            if self.first_slot is None:
                self.first_slot = air.first_slot + at
            energy_j += energies_j[at]
            sent_bits += bits
            num_sent += 1
            if uniforms[at][attempts] >= curves.rate_at(scheme, snr_db):
                if not attempts:
                    offset_db = offset_db + step_db if offset_db < most_db - step_db else most_db
                self.failed_in_a_row = 0
                self.missing -= bits
                if not self.missing:
                    ended = at
                    break
                continue
            self.num_failed += 1
            self.failed_in_a_row += 1
            if not attempts:
                offset_db = max(offset_db - rules.step_down_db, -most_db)
            if attempts + 1 < rules.max_attempts:
                num_first = num if block is None else block.num_blocks
                due = air.first_slot + at + rules.feedback_slots
                repeats.append(Block(due, curves, scheme, num_first, bits, attempts + 1, snr))
            else:
                self.num_given_up += 1
                unsent += bits  # the layer above sends them again
        self.unsent, self.offset_db, self.energy_j = unsent, offset_db, energy_j
        self.sent_bits += sent_bits
        self.num_sent += num_sent
        return ended


def _combined(combining: Combining, before: float, snr: float, share: float) -> float:
    """Return the SNR after one more attempt with ``share`` times the resource elements of the first.

    Chase combining adds the energy of every bit; new redundancy adds information, here Shannon's, which
    is given back as the SNR of the first attempt alone that carries as much.
    """
    if combining == "chase":
        return before + share * snr
    if combining == "none":
        return share * snr
    return expm1(min(log1p(before) + share * log1p(snr), _LARGEST_EXPONENT))
