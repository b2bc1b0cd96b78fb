"""How soon the command line answers."""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from bench.ratio import Ratio

REPEATS = 7
SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
_BARE = "import pydantic; pydantic.BaseModel"
_COSIM = "import sys; from cosim.cli import main; sys.argv = ['cosim', *{arguments}]; main()"


def measure() -> list[Ratio]:
    """Return the time of a command over that of Python with pydantic imported, medians of pairs."""
    ratios = []
    for arguments in (["--help"], ["check", str(SCENARIO)]):
        _seconds(_COSIM.format(arguments=arguments))
        pairs = []
        for _ in range(REPEATS):
            cosim, bare = _seconds(_COSIM.format(arguments=arguments)), _seconds(_BARE)
            pairs.append((cosim / bare, cosim))
        ratio, cosim = sorted(pairs)[REPEATS // 2]
        name = f"cosim {arguments[0]} / python with pydantic"
        ratios.append(Ratio(name, ratio, 5.0, note=f"{cosim:.2f} s"))
    return ratios


def _seconds(program: str) -> float:
    # what is installed once is compiled once, also where the environment forbids writing that down
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = perf_counter()
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    return perf_counter() - begin
