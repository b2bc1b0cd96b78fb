"""How far runs that report energies are from what any policy could have left unsent in the same time.

``python -m analysis.soft_tsfa.gap RUN ...`` executes each run again, values recalled from the store, for what
its clients reported, and compares what was left unsent with the bound of ``analysis.soft_tsfa.long_run``
for the channel of the whole run. The energies are those of the run: another policy would have met others.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.drawing import as_command
from analysis.soft_tsfa.long_run import LeastUnsent, Timeline, least_unsent
from cosim.control.allocators.sparsifying import LINK, KeepRatios, Upload
from cosim.control.knobs import SPARSIFICATION_RATIO
from cosim.control.solvers.sparsity.curves import Stepped
from cosim.errors import RecordError
from cosim.graph.store import Store, default_store
from cosim.learning.execution import make_executor
from cosim.record.folder import Record
from cosim.runs import scenario_of
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.prepared import Prepared, recipes, worlds
from cosim.units import NS_PER_S, Floats
from cosim.world import Progress


@dataclass(frozen=True, eq=False)
class LongRun:
    """What the rounds of a run had to send, what they sent, and the air they met.

    Attributes
    ----------
    curves
        What each round leaves unsent by what is sent, as a share of all there was in it.
    bits
        What each client sent, shape (num_rounds, num_clients).
    dense_bits
        What it would have sent dense.
    length_s
        When the last round was over, s.
    """

    timeline: Timeline
    curves: Sequence[Stepped]
    bits: Floats
    dense_bits: float
    length_s: float

    @property
    def unsent(self) -> float:
        """Share of the energy left unsent, mean over rounds."""
        return self.unsent_with(self.bits)

    def unsent_with(self, bits: Floats) -> float:
        """Return that share for other payloads, shape (num_rounds, num_clients)."""
        return float(
            np.mean([one.remaining(sent).sum() for one, sent in zip(self.curves, bits, strict=True)])
        )

    def least(self, steps_per_round: int = 40) -> LeastUnsent:
        """Return what no policy falls below that takes no longer."""
        return least_unsent(self.timeline, self.curves, self.length_s, steps_per_round=steps_per_round)


def long_run(record: Record, store: Store | None) -> LongRun:
    """Play a run again and return its rounds.

    Raises
    ------
    RecordError
        If its allocator asks for no energies, splits no band, or not all clients take part in every round.
    """
    scenario = scenario_of(record)
    allocator = scenario.allocator
    if not isinstance(allocator, KeepRatios) or not allocator.reports or not allocator.splits_bands:
        raise RecordError(
            f"{record.path}: allocator {allocator.kind!r} does not split a band by reported energies; "
            "there is a bound for 'tsfa' and 'round_deadline' with bandwidth = 'continuous'."
        )
    if getattr(scenario.scheme, "participation", 1.0) < 1.0 or record.manifest["timing_only"]:
        raise RecordError(f"{record.path}: a bound needs everybody's energies in every round.")
    prepared = prepare(scenario)
    upload = Upload.of(prepared.decisions().state(0, round_=1))
    sizes = [np.asarray(upload.sparsity.pair_bits, dtype=float)] * len(upload.weights)
    curves: list[Stepped] = []
    bits: list[Floats] = []

    def keep_up(progress: Progress) -> None:
        if progress.round == 0:  # the evaluation ahead of the first
            return
        decisions = learning[0].decisions
        energies = decisions.heard.reported["energies"]
        scale = float(upload.weights @ [one.sum() for one in energies])
        curves.append(Stepped(sizes, energies, upload.weights / scale))
        ratios = [decisions.knob(SPARSIFICATION_RATIO.name, one, 0.0) for one in range(len(energies))]
        bits.append(upload.now.dense_bits * ratios)

    learning = worlds([prepared], lambda one: lambda rank: make_executor(one.task, rank, store), keep_up)
    learning[0].site.play(recipes([prepared], learning))
    length_s = learning[0].clock.now / NS_PER_S
    unreported = {"kind": "fixed_ratio", "latency_limit_s": allocator.latency_limit_s}
    computing = Upload.of(prepare(change(scenario, {"allocator": unreported})).decisions().state(0, round_=1))
    timeline = timeline_of(prepared, computing, length_s)
    return LongRun(timeline, curves, np.array(bits), float(upload.sparsity.dense_bits), length_s)


def timeline_of(prepared: Prepared, upload: Upload, length_s: float) -> Timeline:
    """Return the uplink of a run over some seconds, clients beginning to send as an upload has it."""
    channel = prepared.channel
    block_s = np.inf if channel.block_ns is None else channel.block_ns / NS_PER_S
    num_blocks = 1 if channel.block_ns is None else int(length_s / block_s) + 1
    clients = range(len(upload.weights))
    gains = np.stack([channel.gains(LINK, one, 0, num_blocks).mean(axis=1) for one in clients], axis=1)
    per_gain = upload.now.snr_hz / channel.gain_at(LINK, 0).mean(axis=1)
    # What says which pairs are sent may be as short as nothing.
    none = np.zeros(len(clients))
    return Timeline(gains * per_gain, block_s, upload.now.bandwidth_hz, upload.now.start_s, none)


def main() -> None:
    """Tell the gap of each run."""
    options = argparse.ArgumentParser(prog="python -m analysis.soft_tsfa.gap", description=__doc__)
    options.add_argument("run", nargs="+", type=Path, help="folder of a run by 'tsfa' or 'round_deadline'")
    options.add_argument(
        "--store", type=Path, default=None, metavar="DIR", help="kept values; else the user's"
    )
    told = options.parse_args()
    store = Store(told.store or default_store())
    print(f"{len(told.run)} runs: about {20 * len(told.run)} s if the store has their values", flush=True)
    for folder in told.run:
        found = long_run(Record.open(folder), store)
        least = found.least().mean
        print(
            f"{folder}: {found.unsent:.4f} of the energy left unsent in {found.length_s:.4g} s; no policy "
            f"leaves less than {least:.4f} in that time, though it knew the whole channel: "
            f"{found.unsent / max(least, 1e-12) - 1.0:.2%} above the bound"
        )


if __name__ == "__main__":
    as_command(main)
