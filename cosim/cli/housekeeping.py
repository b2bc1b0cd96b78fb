"""Looking after the store of learned values."""

from collections.abc import Iterator
from typing import Any

from cosim.graph.store import Store
from cosim.report.quantities import amount, count

_BYTES_PER_MB = 1e6
_SECONDS_PER_DAY = 86400.0


def holding(store: Store) -> dict[str, Any]:
    """Return what the store holds, for JSON."""
    bundles = list(store.bundles())
    return {
        "folder": str(store.root),
        "bundles": len(bundles),
        "namespaces": len({bundle.path.parent for bundle in bundles}),
        "size_bytes": sum(bundle.size_bytes for bundle in bundles),
    }


def housekeeping(store: Store, verify: bool, max_mb: float | None, max_days: float | None) -> Iterator[str]:
    """Check and prune as asked, then say what the store holds, a line at a time."""
    if verify:
        whole, damaged = store.verify()
        yield f"verified: {count(whole)} bundle(s) whole, {count(len(damaged))} damaged and removed"
    if max_mb is not None or max_days is not None:
        removed, removed_bytes = store.prune(
            max_bytes=None if max_mb is None else round(max_mb * _BYTES_PER_MB),
            max_age_s=None if max_days is None else max_days * _SECONDS_PER_DAY,
        )
        yield f"pruned: {count(removed)} bundle(s), {amount(removed_bytes, 'B')}"
    held = holding(store)
    what = f"{count(held['bundles'])} bundle(s) of {count(held['namespaces'])} training namespace(s)"
    yield f"{store.root}: {what}, {amount(held['size_bytes'], 'B')}"
