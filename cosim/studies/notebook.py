"""A study as a notebook shows it."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any


def as_html(path: Path, manifest: Mapping[str, Any]) -> str:
    """Return a small table: which study, how far it came, what failed or diverged.

    Examples
    --------
    >>> "<td>2 cases of 3 replications</td>" in as_html(
    ...     Path("a"), {"name": "x", "status": "complete", "cases": [{}, {}], "replications": 3}
    ... )
    True
    """
    failed, diverged = manifest.get("failed", ()), manifest.get("diverged", ())
    rows = {
        "status": manifest.get("status", ""),
        "runs": f"{len(manifest.get('cases', ()))} cases of {manifest.get('replications', 0)} replications",
        "measures": ", ".join(str(one["name"]) for one in manifest.get("measures", ())),
        "failed": f"{len(failed)} runs, the first: {failed[0]['reason']}" if failed else "",
        "diverged": f"{len(diverged)} trainings, the first: {diverged[0]['reason']}" if diverged else "",
        "took": f"{manifest['wall_s']:g} s" if "wall_s" in manifest else "",
        "folder": path,
    }
    told = "".join(
        f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value != ""
    )
    return f"<table><caption>{escape(str(manifest.get('name', path.name)))}</caption>{told}</table>"
