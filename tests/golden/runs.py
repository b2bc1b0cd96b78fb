"""The golden runs: which there are, how they are played, and where their tables are."""

from collections.abc import Mapping
from pathlib import Path

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import load

from .names import METRICS as METRIC_NAMES
from .names import SPANS as SPAN_NAMES
from .tables import LAYOUTS, Row, Tolerance, differences, of_record, read, write

_HERE = Path(__file__).parent
SCENARIOS, TABLES = _HERE / "scenarios", _HERE / "tables"

NAMES = sorted(path.stem for path in SCENARIOS.glob("*.toml"))
TIMING_ONLY = frozenset({"fedsllm", "searching_allocators", "two_tasks"})
_ROUNDED = Tolerance(value_share=1e-3)  # one number rounded the other way moves a loss by more than 1e-5
TOLERANCES: Mapping[str, Tolerance] = {"participation": _ROUNDED, "split_codecs": _ROUNDED}
_TODAY = {"spans": SPAN_NAMES, "metrics": METRIC_NAMES}

Tables = Mapping[str, list[Row]]


def play(name: str, folder: Path) -> Tables:
    """Return the tables of a run of today; ``folder`` takes its record."""
    scenario = load(SCENARIOS / f"{name}.toml")
    record = Record.open(run(scenario, folder / name, timing_only=name in TIMING_ONLY))
    return {layout.name: of_record(record, layout) for layout in LAYOUTS}


def differ(name: str, today: Tables) -> list[str]:
    """Return one line per difference between the tables of a run and those of today."""
    tolerance = TOLERANCES.get(name, Tolerance())
    return [
        line
        for layout in LAYOUTS
        for line in differences(
            layout,
            read(path_of(name, layout.name), layout, _TODAY[layout.name]),
            today[layout.name],
            tolerance,
        )
    ]


def renew(name: str, today: Tables) -> None:
    """Write the tables of a run again."""
    for layout in LAYOUTS:
        write(path_of(name, layout.name), layout, today[layout.name])


def path_of(name: str, table: str) -> Path:
    """Return the file of a table."""
    return TABLES / f"{name}.{table}.csv"
