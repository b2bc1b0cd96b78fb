"""A run as a notebook shows it."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any


def as_html(path: Path, manifest: Mapping[str, Any]) -> str:
    """Return a small table: which run, how far it came, how much was recorded.

    Examples
    --------
    >>> shown = as_html(Path("a"), {"name": "a<b", "status": "failed", "reason": "disk full"})
    >>> "a&lt;b" in shown, "<td>failed: disk full</td>" in shown
    (True, True)
    """
    status = str(manifest.get("status", ""))
    reason = manifest.get("reason")
    rows = {
        "status": f"{status}: {reason}" if reason else status,
        "seed": manifest.get("seed", ""),
        "simulated": f"{manifest['simulated_s']:g} s" if "simulated_s" in manifest else "",
        "took": f"{manifest['wall_s']:g} s" if "wall_s" in manifest else "",
        "tensors": "none, timing only" if manifest.get("timing_only") else "",
        **{name: _num_rows(path / f"{name}.parquet") for name in ("spans", "metrics", "grants", "rounds")},
        "folder": path,
    }
    return table(str(manifest.get("name", path.name)), rows)


def table(caption: str, rows: Mapping[str, Any]) -> str:
    """Return a table of names and values; empty ones are left out."""
    told = "".join(
        f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value != ""
    )
    return f"<table><caption>{escape(caption)}</caption>{told}</table>"


def _num_rows(path: Path) -> str:
    """Return how many rows a table has, without reading it; nothing if that cannot be read."""
    from pyarrow import ArrowException, parquet

    try:
        return f"{parquet.read_metadata(path).num_rows} rows"
    except (OSError, ArrowException):
        return ""
