"""Play the large-scale calibration of 3GPP TR 38.901: CSV and PNG into one folder, percentiles on stdout."""

import argparse
import csv
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.calibration_38901.setup import PERCENTILES, PUBLISHED, Case, cases
from analysis.drawing import Progress
from cosim.radio.channel import Channel
from cosim.report.span_style import LINE_COLOURS
from cosim.units import Floats, dbm_to_w, linear_to_db

_THERMAL_DBM_PER_HZ = -174.0
_DROP_S = 0.04
"""Users placed once and all their gains, measured on one core, s."""


def main() -> None:
    """Make the table and the figure."""
    parser = argparse.ArgumentParser(prog="python -m analysis.calibration_38901", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/calibration-38901"), metavar="DIR")
    parser.add_argument("--drops", type=int, default=60, help="times that users are placed")
    parser.add_argument("--quick", action="store_true", help="six drops")
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    curves = {}
    num_drops = 6 if told.quick else told.drops
    progress = Progress(scenarios=(len(cases()), num_drops * _DROP_S))
    for case in cases():
        began_s = time.perf_counter()
        gains_db, sinr_db = play(case, num_drops)
        progress.done("scenarios", case.name)
        curves[case.name] = (gains_db, sinr_db)
        _say(case.name, gains_db, sinr_db, time.perf_counter() - began_s)
    _write(told.out / "cdf.csv", curves)
    _draw(told.out / "cdf.png", curves)
    print(f"wrote {told.out / 'cdf.csv'} and {told.out / 'cdf.png'}")


def play(case: Case, num_drops: int) -> tuple[Floats, Floats]:
    """Return coupling gain and SINR of all users, dB, each of shape (num_drops * num_users,).

    The coupling gain is that of the serving sector, the strongest, antennas included. The SINR is that
    of a downlink in which all sectors send, before fading.
    """
    noise_w = dbm_to_w(_THERMAL_DBM_PER_HZ + case.noise_figure_db) * case.bandwidth_hz
    power_w = dbm_to_w(case.tx_power_dbm)
    gains_db, sinr_db = [], []
    for seed in range(num_drops):
        scale = Channel.build(case.radio, case.num_users, seed).large_scale_at(0)
        own = scale.mean_gains[0]
        others = scale.station_gains[0].sum(axis=-1) - own
        gains_db.append(linear_to_db(own))
        sinr_db.append(linear_to_db(power_w * own / (noise_w + power_w * others)))
    return np.concatenate(gains_db), np.concatenate(sinr_db)


def _say(name: str, gains_db: Floats, sinr_db: Floats, lasting_s: float) -> None:
    """Print percentiles, beside the published ones where they are known."""
    known = PUBLISHED.get(name)
    for number, (what, values) in enumerate((("coupling gain", gains_db), ("SINR", sinr_db))):
        found = " / ".join(f"{value:.2f}" for value in np.percentile(values, PERCENTILES))
        beside = "" if known is None else f"; published {' / '.join(map(str, known[number]))}"
        print(f"{name:12} {what:13} at 5 / 50 / 95 %: {found} dB{beside}")
    print(f"{name:12} {len(gains_db)} users in {lasting_s:.1f} s")


def _write(path: Path, curves: dict[str, tuple[Floats, Floats]]) -> None:
    """Write each whole percentile of each scenario."""
    percents = np.arange(101)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scenario", "cdf_percent", "coupling_gain_db", "sinr_db"])
        for name, values in curves.items():
            columns = [np.percentile(one, percents) for one in values]
            writer.writerows(
                [name, int(percent), f"{gain_db:.4f}", f"{sinr_db:.4f}"]
                for percent, gain_db, sinr_db in zip(percents, *columns, strict=True)
            )


def _draw(path: Path, curves: dict[str, tuple[Floats, Floats]]) -> None:
    """Draw the distributions, and the published percentiles as marks."""
    places = list(dict.fromkeys(name.partition("-")[0] for name in curves))
    figure, axes = plt.subplots(2, len(places), figsize=(3.6 * len(places), 5.4), sharey=True)
    percents = np.linspace(0.5, 99.5, 199)
    for (name, values), colour in zip(curves.items(), [*LINE_COLOURS[:3]] * len(places), strict=True):
        place, _, frequency = name.partition("-")
        for row, one in enumerate(values):
            axis = axes[row, places.index(place)]
            axis.plot(np.percentile(one, percents), percents, color=colour, label=frequency)
            if name in PUBLISHED:
                axis.plot(PUBLISHED[name][row], PERCENTILES, "x", color="black", label="R1-165974, 6 GHz")
    for column, place in enumerate(places):
        axes[0, column].set(title=place, xlabel="coupling gain (dB)")
        axes[1, column].set(xlabel="SINR (dB)")
    for axis in axes.flat:
        axis.grid(visible=True, alpha=0.3)
    for row in (0, 1):
        axes[row, 0].set_ylabel("users (%)")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
