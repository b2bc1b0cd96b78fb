"""Compare the golden runs with their tables, or renew tables on purpose; see the package's docstring."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from . import __doc__ as about
from .runs import NAMES, differ, path_of, play, renew


def main() -> int:
    """Return 0 where all is as it was, or was renewed, and 1 where something differs."""
    parser = argparse.ArgumentParser(
        "python -m tests.golden", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all of {', '.join(NAMES)} without it")
    parser.add_argument("--renew", action="store_true", help="write the tables again; names must be given")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(NAMES)):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if given.renew and not given.names:
        parser.error("--renew takes the names of the tables to write again")
    num_differences = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names or NAMES:
            today = play(name, Path(folder))
            is_new = not path_of(name, "spans").exists()
            lines = [] if is_new else differ(name, today)
            print(f"{name}: {'no tables yet' if is_new else f'{len(lines)} difference(s)'}")
            print("".join(f"  {line}\n" for line in lines), end="")
            num_differences += len(lines) + is_new
            if given.renew:
                renew(name, today)
                print("  tables written again")
    return 0 if given.renew or not num_differences else 1


sys.exit(main())
