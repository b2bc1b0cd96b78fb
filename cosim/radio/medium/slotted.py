"""A slotted medium: transport blocks slot by slot, some of which fail and are sent again."""

from collections.abc import Collection
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.kernel.clock import Clock
from cosim.parts import OneOf
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.link import Link
from cosim.radio.medium import Medium
from cosim.radio.medium.slotting import Slotting
from cosim.radio.rate import RateModel
from cosim.radio.scheduler import Scheduler
from cosim.radio.scheduler.granted import Granted
from cosim.radio.slots.ahead import Grid
from cosim.radio.slots.constellation import SNR_DB, betas
from cosim.radio.slots.error_rates import Curves, ErrorRates, all_schemes, sionna_folder
from cosim.radio.slots.modulation_and_coding import TableName
from cosim.radio.slots.sending import Combining, Rules
from cosim.record.grants import GrantLog
from cosim.units import NS_PER_S, Floats

SYMBOLS_OF_SLOT = 14
SUBCARRIERS_OF_BLOCK = 12
MOST_ELEMENTS = 156
"""Resource elements of a resource block that carry data at most, TS 38.214, clause 5.1.3.2."""


class Slotted(Medium):
    """Transport blocks of 5G NR in slots of 14 symbols, with link adaptation, block errors and HARQ.

    In each slot a scheduler says who has which subchannel; as many whole resource blocks
    as fit into those of a client carry one transport block, on one layer. Each slot meets the
    block of the channel that it begins in. A transfer begins at the first slot edge after it is
    asked for and ends with the slot in which its last bit arrives: everything arrives, later.

    Who leaves does so with the slot under way; blocks that failed are kept until it is back.

    A decision of an allocator and its closed form go by ``radio.rate``; here the air goes by blocks.

    Attributes
    ----------
    scheduler
        Who has what in which slot; ``granted`` keeps to the allocator's grants.
    subcarrier_spacing_hz
        A slot lasts 1 ms at 15 kHz, and half as long at twice the spacing.
    mcs_table
        Modulation and coding schemes: up to 64-QAM or 256-QAM, or those of low spectral efficiency.
    lower_rates
        Below the lowest scheme of the table are those of ``qam64_low_se``, so that a client at a cell
        edge of -9 dB and less still carries something.
    error_rates
        Block error rates: ``normal``, our own approximation for finite block length, at ``snr_gap_db``,
        the default of which is the mean of Sionna's curves; or ``sionna``, the tables of the package
        sionna-no-rt (extra ``radio``).
    target_error_rate, outer_loop_step_db
        The scheme is the highest that keeps to this error rate at the SNR plus an offset, which rises
        by the step when a block arrives at first, and falls by step (1 - target) / target when it does
        not; 0: no outer loop. It is known at once.
    report_delay_slots
        The scheme is chosen by the channel of so many slots ago.
    combining
        What the receiver makes of all attempts at a block: ``chase`` adds their SNRs,
        ``incremental_redundancy`` their information, ``none`` has the last alone.
    max_attempts, feedback_slots
        A block that failed is sent again after so many slots, so many times in all; then the layer above
        sends its bits again in new blocks.
    pilot_elements
        Of the 168 resource elements of a resource block in a slot, those that are pilots and control;
        12: one symbol. At most 156 carry data.
    protocol_overhead
        Share of a transport block that is headers of MAC, RLC, PDCP and above.

    Source
    ------
    3GPP TS 38.214, clauses 5.1.3 and 6.1.4 (schemes, block sizes). Effective SNR: K. Brueninghaus et
    al., "Link performance models for system level simulations of broadband radio access systems", PIMRC
    2005. Outer loop: A. Sampath, P. S. Kumar and J. M. Holtzman, "On setting reverse link target SIR in
    a CDMA system", VTC 1997. Chase combining: D. Chase, IEEE Trans. Commun. 33(5), 1985. No part of
    the processing time, of the control channel, and of reports of the channel is modelled.
    """

    kind: Literal["slotted"] = "slotted"
    scheduler: Annotated[Scheduler, OneOf(Scheduler)] = Granted.default()
    subcarrier_spacing_hz: Literal[15_000, 30_000, 60_000, 120_000] = 15_000
    mcs_table: TableName = "qam64"
    lower_rates: bool = True
    error_rates: ErrorRates = "normal"
    snr_gap_db: float = Field(default=1.0, ge=0.0, le=20.0)
    target_error_rate: float = Field(default=0.1, gt=0.0, le=0.5)
    outer_loop_step_db: float = Field(default=0.1, ge=0.0, le=10.0)
    report_delay_slots: int = Field(default=0, ge=0, le=1000)
    combining: Combining = "chase"
    max_attempts: int = Field(default=4, ge=1, le=16)
    feedback_slots: int = Field(default=8, ge=1, le=1000)
    pilot_elements: int = Field(default=12, ge=12, le=144)
    protocol_overhead: float = Field(default=0.03, ge=0.0, lt=1.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "subcarrier_spacing_hz": 30_000,
            "mcs_table": "qam256",
            "combining": "incremental_redundancy",
            "report_delay_slots": 4,
        },
    )
    drains: ClassVar[bool] = False
    carries_split_bands: ClassVar[bool] = False
    lets_leave: ClassVar[bool] = True

    @property
    def slot_ns(self) -> int:
        """How long a slot lasts, ns."""
        return NS_PER_S // 1000 * 15_000 // self.subcarrier_spacing_hz

    @property
    def block_hz(self) -> float:
        """How wide a resource block is, Hz."""
        return float(SUBCARRIERS_OF_BLOCK * self.subcarrier_spacing_hz)

    @property
    def elements_of_block(self) -> int:
        """Resource elements of a resource block that carry data in a slot."""
        return min(MOST_ELEMENTS, SUBCARRIERS_OF_BLOCK * SYMBOLS_OF_SLOT - self.pilot_elements)

    def curves(self, num_blocks: int, data_share: float = 1.0) -> Curves:
        """Return sizes and error rates of the transport blocks of so many resource blocks."""
        return _curves(
            self.mcs_table,
            self.lower_rates,
            self.error_rates,
            self.snr_gap_db,
            num_blocks * self.elements_of_block,
            (1.0 - self.protocol_overhead) * data_share,
            self.target_error_rate,
        )

    def grid(self) -> Grid:
        """Return the slots, with the betas at the SNRs where schemes begin."""
        thresholds = np.maximum.accumulate(self.curves(10).thresholds_db)
        schemes = all_schemes(self.mcs_table, self.lower_rates)
        return Grid(
            self.slot_ns,
            self.block_hz,
            self.report_delay_slots,
            self.max_attempts,
            thresholds,
            np.array(
                [
                    np.interp(threshold, SNR_DB, betas(scheme.bits_per_symbol))
                    for scheme, threshold in zip(schemes, thresholds, strict=True)
                ]
            ),
        )

    def rules(self, data_share: float) -> Rules:
        """Return how blocks are sent where ``data_share`` of the air is left for data."""
        return Rules(
            cache(lambda num_blocks: self.curves(num_blocks, data_share)),
            self.combining,
            self.max_attempts,
            self.feedback_slots,
            self.outer_loop_step_db,
            self.outer_loop_step_db * (1.0 - self.target_error_rate) / self.target_error_rate,
            max_offset_db=10.0,
        )

    def open(
        self, clock: Clock, channel: Channel, access: Access, log: GrantLog, links: Collection[Link]
    ) -> Slotting:
        """Return transfers in slots."""
        return Slotting(clock, channel, access, log, links, self)

    @property
    def uses_access(self) -> bool:
        """Whether the scheduler keeps grants, which an access may lend."""
        return self.scheduler.keeps_grants

    def rung(self, link: Link, rate: RateModel) -> str:
        """Return that rates come from blocks."""
        curves = "Sionna's block error rates" if self.error_rates == "sionna" else "own block error rates"
        return f"slotted, scheduler {self.scheduler.kind}, {self.mcs_table}, {curves}"

    def misfit(self, link: Link, bandwidths_hz: Floats) -> str | None:
        """Return that a subchannel has no resource block, or that there are no tables."""
        if self.error_rates == "sionna" and sionna_folder() is None:
            return (
                "error_rates = 'sionna' reads the tables of the package sionna-no-rt, which is not "
                "installed; install cosim with the extra 'radio', or take error_rates = 'normal'."
            )
        if bandwidths_hz.min() * (1.0 + 1e-12) >= self.block_hz:
            return None
        return (
            f"a subchannel of {link.name} is {bandwidths_hz.min():g} Hz wide, and a resource block of "
            f"{self.kind!r} {self.block_hz:g} Hz; take wider subchannels"
            + (", or a smaller subcarrier_spacing_hz." if self.subcarrier_spacing_hz > 15_000 else ".")
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Which curves these are, and what an allocator goes by."""
        told = "radio.medium: allocators decide by the rates of radio.rate; transfers take slots of blocks."
        if self.scheduler.keeps_grants:
            return (told,)
        return (
            f"radio.medium: the scheduler {self.scheduler.kind!r} shares out the band; of the allocator's "
            "decision it takes the power of each client alone.",
        )


@cache
def _curves(
    table: TableName,
    lower_rates: bool,
    error_rates: ErrorRates,
    snr_gap_db: float,
    num_elements: int,
    payload_share: float,
    target: float,
) -> Curves:
    return Curves(table, lower_rates, error_rates, snr_gap_db, num_elements, payload_share, target)
