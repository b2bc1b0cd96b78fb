"""Run every benchmark, or those named: ``python -m bench [NAME ...]``."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line has it
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from importlib import import_module
from pkgutil import iter_modules

import bench


def main() -> int:
    """Run benchmarks one after the other; returns 1 if a ratio misses its limit."""
    names = [module.name for module in iter_modules(bench.__path__)]
    names = [name for name in names if name not in ("__main__", "ratio", "rival", "tool_jobs")]
    missed = 0
    for name in sys.argv[1:] or names:
        print(f"{name}:", flush=True)
        for ratio in import_module(f"bench.{name}").measure():
            print(f"  {ratio}", flush=True)
            missed += not ratio.holds
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
