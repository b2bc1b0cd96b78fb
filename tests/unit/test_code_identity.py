"""A key of code moves with what computes, and with nothing that does not."""

import shutil
import sys
from importlib import import_module, metadata
from itertools import count
from pathlib import Path

import pytest

import cosim
from cosim.graph import code_identity
from cosim.graph.code_identity import code_key, code_of, distributions_of, without_code
from cosim.graph.operation import registered
from cosim.learning import results, split_nodes, whole_nodes  # noqa: F401  they register the operations
from cosim.learning.aggregator import Aggregator
from cosim.learning.base import Base
from cosim.learning.codec import Codec
from cosim.learning.optimizer import Optimizer
from cosim.learning.regularizer import Regularizer
from cosim.learning.trainable.lora import Lora
from cosim.parts import family

OPERATIONS = {n: o for n, o in registered().items() if o.module.startswith("cosim.")}
NUMBERS = count()
PACKAGE = Path(cosim.__file__).parent
TRAINING = sorted({"cosim.learning.learner", *(one.module for one in OPERATIONS.values())})

HELPER = """
def middle(values):
    \"\"\"Return the median.\"\"\"
    return values.median(0).values
"""
PART = """
from typing import TYPE_CHECKING, Literal

from {helper} import middle
from cosim.learning.aggregator import Average
from cosim.parts import Part

if TYPE_CHECKING:
    from cosim.runs import run


class {name}(Part):
    \"\"\"The median of what was sent.\"\"\"

    kind: Literal["{name}"] = "{name}"

    def aggregate(self, uploads, weights, server):
        import {late}
        return Average({{}}, {{}})
"""


@pytest.fixture
def edit():
    """Return what edits a file and lets this process see it as another one would; undone at the end."""
    before: dict[Path, str] = {}

    def edited(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        before.setdefault(path, text)
        path.write_text(text.replace(old, new))
        code_identity._seen.pop(str(path), None)

    yield edited
    for path, text in before.items():
        path.write_text(text)
        code_identity._seen.pop(str(path), None)


def modules_of(*names: str) -> set[str]:
    """Return the files below cosim that a key is of."""
    code_identity._seen.clear()
    code_key(*names)
    return {str(Path(path).relative_to(PACKAGE)) for path in code_identity._seen}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Return a copy of the code of cosim."""
    folder = tmp_path_factory.mktemp("checkout")
    for file in PACKAGE.rglob("*.py"):
        copy = folder / "cosim" / file.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return folder / "cosim"


@pytest.fixture
def tree(copied, monkeypatch):
    """Let keys be of a copy of the code in the place of what is loaded."""
    original, cached = code_identity.find_spec, (code_identity._spec, code_identity._follows)

    def elsewhere(name):
        found = code_identity.PathFinder.find_spec
        return found(name, [str(copied.parent)]) if name == "cosim" else original(name)

    monkeypatch.setattr(code_identity, "find_spec", elsewhere)
    for one in cached:
        one.cache_clear()
    yield copied
    for one in cached:
        one.cache_clear()


def installed(folder: Path, name: str, files: dict[str, str], *, record: bool) -> None:
    """Write a distribution that names its part, as pip or an editable install leaves it."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    module = next(iter(files)).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    (info / "entry_points.txt").write_text(f"[cosim.parts]\nmedian = {module}:{name}\n")
    listed = [*files, f"{info.name}/METADATA"] if record else [f"_{name}.pth", f"{info.name}/METADATA"]
    (info / "RECORD").write_text("".join(f"{one},,\n" for one in listed))


def layouts(name: str) -> dict[str, dict[str, str]]:
    """Return a part as single modules, and in a package: the part, its helper, and what it imports late."""
    module, package = f"{name}_part", f"{name}_package"
    return {
        "modules": {
            f"{module}.py": PART.format(name=name, helper=f"{name}_helper", late=f"{name}_late"),
            f"{name}_helper.py": HELPER,
            f"{name}_late.py": "SCALE = 2\n",
        },
        "package": {
            f"{package}/part.py": PART.format(name=name, helper=".helper", late=f"{package}.late"),
            f"{package}/__init__.py": "",
            f"{package}/helper.py": HELPER,
            f"{package}/late.py": "SCALE = 2\n",
        },
    }


@pytest.fixture(params=["site-packages", "checkout"])
def plugin(request, tmp_path, monkeypatch):
    """Return what installs a part of another distribution, and the folder it is in."""
    folder = tmp_path / request.param
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    distributions_of.cache_clear()

    def install(name, layout):
        files = layouts(name)[layout]
        installed(folder, name, files, record=request.param == "site-packages")
        (folder / "somebody_else.py").write_text("VALUE = 1\n")
        return folder, next(iter(files)).removesuffix(".py").replace("/", ".")

    yield install
    distributions_of.cache_clear()


@pytest.mark.parametrize(
    ("file", "old", "new", "moves"),
    [
        ("learning/aggregator/sums.py", "sum(", "0 + sum(", True),
        ("learning/operations/evaluate.py", "_MOST_LOSS = 709.0", "_MOST_LOSS = 708.0", True),
        ("learning/families/gpt2.py", "return ", "return 0 or ", True),
        ("parts.py", "adapter.validate_python(settings)", "adapter.validate_python({**settings})", True),
        (
            "learning/operations/evaluate.py",
            "_MOST_LOSS = 709.0  #",
            "_MOST_LOSS = (\n    709.0\n)  # it is said that",
            False,
        ),
        ("learning/aggregator/sums.py", '    """Return', '    """It is said to return', False),
        ("learning/aggregator/sums.py", "\n\n\ndef ", "\n\n\n# what follows is a function\ndef ", False),
        ("learning/group_size.py", "_MAX_GROUP = 64", "_MAX_GROUP = 65", False),
        ("learning/aggregator/product_svd.py", "return ", "return 0 or ", False),
        ("radio/medium/draining.py", "return ", "return 0 or ", False),
        ("control/allocators/exact.py", "return ", "return 0 or ", False),
        ("words.py", "return ", "return 0 or ", False),
        ("plugins.py", "return ", "return 0 or ", False),
        ("files.py", "return ", "return 0 or ", False),
    ],
)
def test_the_key_of_training_moves_with_what_computes_it(tree, edit, file, old, new, moves):
    before = code_key(*TRAINING)
    edit(tree / file, old, new)
    assert (code_key(*TRAINING) != before) == moves


def test_an_edited_part_moves_its_own_key_and_that_of_no_other(tree, edit):
    names = [f"cosim.learning.aggregator.{name}" for name in ("product_svd", "fedex")]
    before = [code_key(name) for name in names]
    edit(tree / "learning/aggregator/product_svd.py", "return ", "return 0 or ")
    after = [code_key(name) for name in names]
    assert after[0] != before[0]
    assert after[1] == before[1]


COMPUTING = (Aggregator, Codec, Regularizer, Optimizer, Base)
PARTS = {part.__module__ for base in COMPUTING for part in family(base).values()}


@pytest.mark.parametrize(
    "module", [*TRAINING, *sorted(PARTS), "cosim.graph.batched", "cosim.learning.stacks"]
)
def test_no_key_holds_what_only_decides_times(module):
    files = modules_of(module)
    rooms = {file.partition("/")[0] for file in files}
    basic = {"errors.py", "parts.py", "rng.py", "units.py"}
    assert rooms <= {"graph", "learning", "__init__.py", *basic}
    assert not {"learning/flop.py", "graph/store.py", "learning/task.py"} & files


def test_an_installed_package_and_an_edited_checkout_have_one_key(tree, monkeypatch):
    checked_out = code_key(*TRAINING)
    monkeypatch.setattr(code_identity, "_holds_libraries", lambda folder: True)
    code_identity._follows.cache_clear()
    assert code_key(*TRAINING) == checked_out


@pytest.mark.parametrize("layout", ["modules", "package"])
def test_a_part_of_another_distribution_has_a_key_of_its_own_code(plugin, edit, layout):
    name = f"median_{layout}_{next(NUMBERS)}"
    folder, module = plugin(name, layout)
    part = getattr(import_module(module), name)()
    before = code_of(part)
    assert code_of(part) == before
    files = {Path(file).stem.removeprefix(f"{name}_"): folder / file for file in layouts(name)[layout]}
    edit(files["helper"], '"""Return the median."""', '"""Return what lies in the middle."""')
    assert code_of(part) == before
    edit(folder / "somebody_else.py", "1", "2")
    assert code_of(part) == before
    found = {before}
    edit(files["helper"], "median(0).values", "amin(0)")
    found.add(code_of(part))
    edit(files["late"], "2", "3")
    found.add(code_of(part))
    edit(files["part"], "Average({}, {})", "Average({}, dict())")
    found.add(code_of(part))
    assert len(found) == 4
    assert distributions_of(module.partition(".")[0]) == ((name, "1.5"),)


def test_a_part_moves_with_the_code_of_cosim_that_it_imports(tree, edit, tmp_path, monkeypatch):
    (tmp_path / "borrows.py").write_text("from cosim.learning.codec.svd import Svd\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = code_key("borrows")
    edit(tree / "learning/rank_pairs.py", "return ", "return 0 or ")
    assert code_key("borrows") != before


@pytest.mark.parametrize(
    ("package", "key"),
    [("transformers", lambda: code_key(*TRAINING)), ("torch", lambda: code_of(Lora()))],
    ids=["of operations", "of what is trained"],
)
def test_another_version_of_what_is_used_is_another_key(package, key, monkeypatch):
    before, original = key(), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == package else original(name))
    asked_once = code_identity._version_of.cache_clear, code_identity._found.clear
    for forget in asked_once:
        forget()
    try:
        assert key() != before
    finally:
        for forget in asked_once:
            forget()


def test_code_nobody_can_read_never_has_the_same_key_twice():
    assert code_key("there.is.no.such.module") != code_key("there.is.no.such.module")


def test_code_edited_while_it_is_loaded_never_has_the_same_key_twice(tmp_path, monkeypatch):
    """Whether the old or the new code computes, its file does not say."""
    (tmp_path / "edited_while_loaded.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = code_key("edited_while_loaded")
    import_module("edited_while_loaded")
    (tmp_path / "edited_while_loaded.py").write_text("VALUE = 2  # another one\n")
    assert len({before, code_key("edited_while_loaded"), code_key("edited_while_loaded")}) == 3
    (tmp_path / "edited_while_loaded.py").write_text("VALUE = 1  # as it was\n")
    assert code_key("edited_while_loaded") == before
    del sys.modules["edited_while_loaded"]


@pytest.mark.parametrize(
    "text",
    [
        "import .x",
        "VALUE = " + "+".join(["1"] * 20_000),
        "VALUE = 0x" + "f" * 5_000,
        "from . import sums",
        "",
    ],
    ids=["no Python", "deep", "long number", "relative", "empty"],
)
def test_any_file_has_a_key(tmp_path, monkeypatch, text):
    name = f"any_file_{len(text)}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert code_key(name) == code_key(name)


def test_keys_of_a_rehearsal_are_known_to_nobody_and_those_after_it_are_as_before():
    before = code_key("cosim.units")
    with without_code():
        rehearsed = code_key("cosim.units")
        assert code_key("cosim.units") == rehearsed == code_of(Lora())
    with without_code():
        assert code_key("cosim.units") not in (before, rehearsed)
    assert rehearsed != before == code_key("cosim.units")
