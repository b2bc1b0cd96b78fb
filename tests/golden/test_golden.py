"""Small runs over all families give what they gave before.

Where one fails that was not meant to change, the change is a fault. Where it was, renew that table alone,
``python -m tests.golden --renew NAME``, in a commit that says why. The package's docstring says the rest.
"""

import pytest

from .names import SPANS as SPAN_NAMES
from .runs import NAMES, TABLES, differ, path_of, play
from .tables import LAYOUTS, METRICS, SPANS, Tolerance, differences, read

MOST_BYTES = 300_000
MOST_LINES = 20


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_as_it_was(name, tmp_path):
    lines = differ(name, play(name, tmp_path))
    shown = "\n".join(lines[:MOST_LINES])
    assert not lines, f"{len(lines)} differences from tests/golden/tables/{name}.*.csv:\n{shown}"


def test_there_is_a_table_of_every_run_and_no_other():
    expected = {path_of(name, layout.name) for name in NAMES for layout in LAYOUTS}
    assert set(TABLES.iterdir()) == expected


def test_tables_stay_small():
    assert sum(path.stat().st_size for path in TABLES.iterdir()) < MOST_BYTES


# What the net catches and what it lets through


@pytest.fixture(scope="module")
def spans():
    return read(path_of("split_codecs", "spans"), SPANS, {})


@pytest.fixture(scope="module")
def metrics():
    return read(path_of("split_codecs", "metrics"), METRICS, {})


def changed(layout, rows, column, change, which=10):
    """Return the rows with one value changed."""
    at = layout.columns.index(column)
    row = rows[which]
    return [*rows[:which], (*row[:at], change(row[at]), *row[at + 1 :]), *rows[which + 1 :]]


def lines(layout, golden, today):
    return list(differences(layout, golden, today, Tolerance()))


@pytest.mark.parametrize(
    ("column", "change", "is_caught"),
    [
        ("end_ns", lambda ns: ns + 2, False),
        ("end_ns", lambda ns: ns + 3, True),
        ("asked_ns", lambda ns: ns - 3, True),
        ("bits", lambda bits: bits + 1, True),
        ("flop", lambda flop: flop + 1, True),
        ("name", lambda name: name + "s", True),
        ("peer", lambda peer: "client-9", True),
        ("energy_j", lambda joules: joules * 1.001, True),
        ("energy_j", lambda joules: joules * (1 + 1e-7), False),
    ],
)
def test_a_span_may_change_by_rounding_only(spans, column, change, is_caught):
    assert bool(lines(SPANS, spans, changed(SPANS, spans, column, change))) == is_caught


@pytest.mark.parametrize(
    ("column", "change", "is_caught"),
    [
        ("value", lambda value: value * 1.001, True),
        ("value", lambda value: value * (1 + 1e-6), False),
        ("time_ns", lambda ns: ns + 5, True),
        ("actor", lambda actor: "nobody", True),
    ],
)
def test_a_metric_may_change_by_rounding_only(metrics, column, change, is_caught):
    assert bool(lines(METRICS, metrics, changed(METRICS, metrics, column, change))) == is_caught


def test_rows_that_are_missing_or_more_are_caught(spans):
    assert lines(SPANS, spans, spans[1:])
    assert lines(SPANS, spans, [*spans, spans[-1]])


def test_a_metric_that_was_not_measured_before_is_no_difference(metrics):
    assert not lines(METRICS, metrics, sorted([*metrics, (1, 0, "main-server", "delivered", 5, 1.0)]))


def test_a_renaming_needs_no_new_table(spans):
    path = path_of("split_codecs", "spans")
    renamed = read(path, SPANS, {**SPAN_NAMES, "aggregate": "average", "client_forward": None})
    names = {row[SPANS.columns.index("name")] for row in renamed}
    assert "average" in names
    assert not names & {"aggregate", "client_forward"}
    assert len(renamed) < len(spans)
    assert renamed == sorted(renamed)
