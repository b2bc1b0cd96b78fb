"""The timeline of one Flower application under two channels: ``python two_channels.py OUT``."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import cosim
import cosim.flower

HERE = Path(__file__).parent
out = Path(sys.argv[1])
narrow = cosim.flower.run_directory(HERE / "cell.toml", HERE, out=out / "narrow")
wide = cosim.whatif(narrow, {"radio.federated_uplink.bandwidth_hz": 3e6}, out=out / "wide")
for run in (narrow, wide):
    cosim.plot.timeline(run).figure.savefig(out / f"{run.path.name}.png")
    plt.close()
    print(f"{run.path.name}: {run.manifest['simulated_s']:.3f} s")
