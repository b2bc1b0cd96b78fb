"""What decisions make of the air: the allocator is asked when it is due, and what it grants holds."""

from collections.abc import Callable, Mapping, Sequence

from cosim.control.conditions import Conditions
from cosim.control.decision import Allocation
from cosim.control.decisions import Decisions
from cosim.control.knobs import SPECTRAL_EFFICIENCY, SURFACE_PHASES, packed_phases
from cosim.control.stages import MAIN_SERVER
from cosim.errors import ScenarioError
from cosim.kernel.clock import Steps
from cosim.measuring import Moment
from cosim.radio.grant import Grant
from cosim.site import Site

MOST_BLOCKS_WITHOUT_SPAN = 1000
"""Decisions for blocks of the channel while nothing ends: after so many, nothing ever will."""


class Granting:
    """Applies the decisions of a task, and sounds the channel for them.

    Parameters
    ----------
    site
        Clock, log and air.
    decisions
        Who is asked what is granted, and the channel as it is now.
    task
        The name of the task that is recorded.
    loses
        Returns whether what is sent over a link may be lost.
    note
        Records a number of an actor at this instant.

    Attributes
    ----------
    round_
        Of decisions that no round begins with: the one after the last that was reported.
    """

    def __init__(
        self,
        site: Site,
        decisions: Decisions,
        task: str,
        loses: Callable[[str], bool],
        note: Callable[[Moment, str, float, str], None],
    ) -> None:
        self._site, self._decisions, self._task = site, decisions, task
        self._clock, self._client_names = site.clock, site.client_names
        self._loses, self._note = loses, note
        self.round_ = 1
        self._is_sounded = False
        self._next_block_ns, self._spans_seen, self._blocks_without_span = 0, 0, 0
        site.join(self._follow)

    def begin(self) -> Allocation:
        """Decide for the first time, apply it and return it.

        Raises
        ------
        AllocationError
            If the decision breaks a limit.
        """
        allocation = self._decisions.decide(self._clock.now, round_=1)
        if self._decisions.follows_rounds:  # asked again before anything is sent, knowing more
            self._decisions.apply(allocation, self._clock.now, self.round_)
        else:
            self._apply(allocation)
        return allocation

    def _apply(self, allocation: Allocation) -> None:
        self._decisions.apply(allocation, self._clock.now, self.round_)
        if SURFACE_PHASES in allocation.knobs:
            self._site.network.change(self._decisions.channel, self._decisions.access)
        self._follow_blocks()
        self._grant(allocation.grants, self.round_)
        predicted_s = self._decisions.predicted_round_s()
        if predicted_s is not None:
            self._note(Moment(self.round_), "predicted_round_s", predicted_s, MAIN_SERVER)
        noted = {
            (MAIN_SERVER, name): value for name, value in {**allocation.memory, **allocation.figures}.items()
        }
        for name, value in allocation.knobs.items():
            if name == SURFACE_PHASES:  # of no client, and many
                levels = value if isinstance(value, tuple) else (value,)
                packed = packed_phases(levels, self._decisions.channel.radio.surface.levels)
                noted.update({(MAIN_SERVER, f"{name}_{number}"): one for number, one in enumerate(packed, 1)})
                continue
            each = value if isinstance(value, tuple) else (value,)
            names = self._client_names if isinstance(value, tuple) else (MAIN_SERVER,)
            noted.update(zip(((one, name) for one in names), each, strict=True))
        for (actor, name), value in noted.items():
            self._note(Moment(self.round_), name, value, actor)

    def _follow(self, conditions: Conditions) -> None:
        """Let other conditions hold; who gets what is decided again, cut layer and rank stay."""
        self._decisions.change(conditions)
        chooses = self._decisions.chooses_clients  # those it chose have begun, and may not lose their grants
        if chooses or self._decisions.soundings:
            self._share_equally(self.round_)
        if not chooses:
            self._decide_for_change()

    def _follow_blocks(self) -> None:
        """Ask the allocator again when the next block of the channel begins, if it wants that."""
        block_ns = self._decisions.channel.block_ns
        if not self._decisions.follows_blocks or block_ns is None:
            return
        due_ns = (self._clock.now // block_ns + 1) * block_ns
        if due_ns > self._next_block_ns:
            self._next_block_ns = due_ns
            self._clock.after(due_ns - self._clock.now, self._begin_block)

    def _begin_block(self) -> None:
        """Decide again for a block that begins."""
        if not self._decisions.follows_blocks:
            return
        num_spans = len(self._site.log.spans)
        self._blocks_without_span = self._blocks_without_span + 1 if num_spans == self._spans_seen else 0
        self._spans_seen = num_spans
        if self._blocks_without_span > MOST_BLOCKS_WITHOUT_SPAN:
            raise ScenarioError(
                "allocator.reallocate: 'every_block' decides for each block of the channel, and nothing has "
                f"ended for {MOST_BLOCKS_WITHOUT_SPAN} of them; take a longer coherence time, or "
                "'every_round'."
            )
        self._decide_for_change()

    def _decide_for_change(self) -> None:
        """Apply a decision about a channel that has changed, once that is known."""
        if self._decisions.soundings:
            self._clock.process(self.decide_again(self.round_), "a decision after a sounding")
        else:
            self._apply_decision(self.round_)

    def decide_again(self, round_: int) -> Steps:
        """Sound the channel, where that is what it takes to know it, then decide; returns the last spans."""
        spans = yield from self._sound(round_)
        self._apply_decision(round_)
        return spans

    def _sound(self, round_: int) -> Steps:
        """Let pilots and reports travel, and know what they say; returns their last spans."""
        decisions = self._decisions
        wanted, radio = decisions.soundings, decisions.channel.radio
        if not wanted:
            return ()
        self._is_sounded = True
        present = [one for one in range(len(self._client_names)) if one not in decisions.heard.absent]
        began_ns, spans = yield from self._site.soundings.sound(
            *(wanted, present, decisions.pilot_powers_w, radio.uplink_energy, radio.duplex),
            *(round_, self._task),
        )
        decisions.sound(began_ns)
        return tuple(spans)

    def _apply_decision(self, round_: int) -> None:
        """Apply a decision, or, while reports are waited for, equal shares under which they travel."""
        if self._decisions.is_waiting:
            self._share_equally(round_)
        else:
            self._apply(self._decisions.decide(self._clock.now, round_))

    def _share_equally(self, round_: int) -> None:
        self._grant(self._decisions.shares_while_waiting(self._clock.now), round_)

    def _grant(self, grants: Mapping[str, Sequence[Grant]], round_: int) -> None:
        """Let grants hold; a rate that was chosen from what is known is recorded."""
        for link, granted in grants.items():
            self._site.network.grant(link, dict(enumerate(granted)), round_)
            is_known = self._decisions.terms.backoff is not None and self._loses(link)
            for name, one in zip(self._client_names, granted if is_known else (), strict=False):
                value = one.spectral_efficiency_bit_per_s_per_hz
                if value is not None:
                    self._note(Moment(round_), SPECTRAL_EFFICIENCY.name, value, name)

    def consult(self, round_: int, taking_part: Sequence[int] | None = None) -> Steps:
        """Ask the allocator again where it is to be asked now that a round, of these clients, begins.

        Where the channel has to be sounded that takes time, also ahead of the first round, though
        cut and rank are decided before; returns its spans.
        """
        everybody = range(len(self._client_names))
        absent = set(everybody).difference(everybody if taking_part is None else taking_part)
        decisions, spans = self._decisions, tuple[int, ...]()
        decisions.heard.start_round(self._clock.now, round_, absent)
        asks = not decisions.is_waiting and (
            decisions.follows_rounds or (round_ > 1 and decisions.may_be_due)
        )
        if asks or not self._is_sounded:
            spans = yield from self._sound(round_)
        if decisions.follows_rounds or (round_ > 1 and decisions.is_due(self._clock.now)):
            self._apply_decision(round_)
        return spans
