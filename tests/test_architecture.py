"""The rooms and who may know whom, read off the imports; style guide, section 2."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

PACKAGE = Path(__file__).parent.parent / "cosim"

LINES = (
    ("errors", "units", "leaves", "words", "visible", "distribution", "cores"),
    ("files", "locks", "columns"),
    ("rng", "parts", "arrays"),
    ("plugins",),
    ("distributions", "statistics"),
    ("kernel", "record", "graph"),
    ("tracking",),
    ("radio", "compute", "learning"),
    ("control",),
    ("allocation", "measuring", "site"),
    ("attendance",),
    ("transmissions", "granting"),
    ("world",),
    ("schemes",),
    ("scenario",),
    ("origin", "messaging"),
    ("tensor",),
    ("timed_runs",),
    ("runs",),
    ("whatifs",),
    ("calibrate", "explain", "rank_choice", "channel_replay", "studies"),
    ("audits",),
    ("interface", "tuning", "flower", "envs"),
    ("cli", "plot"),
    ("testing",),
    ("__init__",),
)
"""A room imports only from lines above its own; rooms on one line do not know each other."""

REPORT_KNOWS = {"errors", "files", "units", "leaves", "words", "visible", "record", "statistics"}
KNOW_REPORT = {"channel_replay", "interface", "plot", "cli"}

LINE = {room: number for number, rooms in enumerate(LINES) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports_of(file):
    """Return every module a file names, wherever in it and for whatever reason."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found.add(node.module)
            if node.module == "cosim":
                found.update(f"cosim.{alias.name}" for alias in node.names)
    return found


def may_import(room, other):
    if room == other:
        return True
    if room == "report":
        return other in REPORT_KNOWS
    if other == "report":
        return room in KNOW_REPORT
    return room in LINE and other in LINE and LINE[other] < LINE[room]


def violations(allowed):
    return [
        f"{file.relative_to(PACKAGE)} imports {module}"
        for file in FILES
        for module in sorted(imports_of(file))
        if not allowed(room_of(file), module)
    ]


def test_every_room_has_its_line():
    rooms = {room_of(file) for file in FILES} - {"__init__", "report"}
    assert rooms - LINE.keys() == set()


def test_a_room_imports_only_from_lines_above_its_own():
    def allowed(room, module):
        top, _, rest = module.partition(".")
        return top != "cosim" or not rest or may_import(room, rest.split(".")[0])

    assert violations(allowed) == []


def running_imports_of(file):
    """Return what a file imports when it runs, within functions too; not what type checkers alone import."""
    open_, found = [ast.parse(file.read_text(encoding="utf-8"))], set()
    while open_:
        node = open_.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            open_ += node.orelse
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
        open_ += ast.iter_child_nodes(node)
    return found


def test_no_files_import_each_other_in_a_circle_lazily_either():
    names = {".".join(("cosim", *file.relative_to(PACKAGE).with_suffix("").parts)): file for file in FILES}
    names = {name.removesuffix(".__init__"): file for name, file in names.items()}
    graph = nx.DiGraph(
        (name, other) for name, file in names.items() for other in running_imports_of(file) if other in names
    )
    assert [sorted(some) for some in nx.strongly_connected_components(graph) if len(some) > 1] == []


def test_the_time_plane_never_names_torch():
    rooms = {"kernel", "record", "radio", "compute", "control", "site"}
    rooms |= {"granting", "world", "schemes", "scenario", "report"}
    tensors = {"torch", "transformers", "peft", "safetensors"}
    assert violations(lambda room, module: room not in rooms or module.split(".")[0] not in tensors) == []


def test_control_knows_neither_learning_nor_the_world():
    """It is built from plain numbers and functions; radio and compute do not know it, as they lie above."""
    unknown = ("cosim.learning", "cosim.graph", "cosim.kernel", "cosim.world", "cosim.schemes")
    assert violations(lambda room, module: room != "control" or not module.startswith(unknown)) == []


def test_learning_holds_no_clock():
    clocks = {"simpy", "time", "datetime"}

    def allowed(room, module):
        return room not in ("learning", "graph") or module.split(".")[0] not in clocks

    # the store's packs have an age on the host, which is no simulated time
    known = ["graph/store.py imports time"]
    assert [one for one in violations(allowed) if one not in known] == []


def test_nobody_draws_from_global_chance():
    def allowed(room, module):  # flower seeds the generators that applications of others draw from
        return module.split(".")[0] not in ("random", "secrets") or (room, module) == ("flower", "random")

    assert violations(allowed) == []


@pytest.mark.parametrize(
    "steps",
    [
        "from cosim.scenario.load import load; load('scenarios/quickstart.toml')",
        "from cosim.scenario.load import load; from cosim.scenario.build import prepare; "
        "prepare(load('scenarios/quickstart.toml'))",
    ],
    ids=["reading", "checking"],
)
def test_no_heavy_library_is_needed_before_a_run(steps):
    heavy = "{'torch', 'transformers', 'peft', 'matplotlib', 'pyarrow', 'pandas', 'datasets', 'cvxpy'}"
    script = f"{steps}; import sys; print(sorted({heavy} & sys.modules.keys()))"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=PACKAGE.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "[]"
