"""No damage to a folder is shown as truth: bits that flipped, fields that are gone or of another type."""

import json
import shutil
from random import Random

import pytest
import tomli_w

from cosim.cli import answer
from cosim.errors import CosimError
from cosim.record.digests import sealed
from cosim.record.folder import Record
from cosim.record.manifest import RunFields
from cosim.report.study.record import StudyRecord
from cosim.report.summary import summarise
from cosim.scenario.load import to_dict

TABLES = ("spans.parquet", "metrics.parquet", "grants.parquet")
ODD = (None, True, -1, 1.5, "x", [], {}, [[]], {"a": 1}, "\x1b[31m")


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny_scenario):
    """Return a run that trained, and what a summary says of it."""
    place = tmp_path_factory.mktemp("damage")
    file = place / "tiny.toml"
    changes = {"scheme.num_rounds": 1, "scheme.local_steps": 1}
    file.write_text(tomli_w.dumps(to_dict(tiny_scenario(changes))), encoding="utf-8")
    assert answer(["run", str(file), "--no-store", "--out", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def shown(folder):
    """Return what reports would show of a run, or None where they refuse it in a line."""
    try:
        record = Record.open(folder)
        return summarise(record), *(record.frame(name).to_csv() for name in ("spans", "metrics", "grants"))
    except CosimError as fault:
        return None if is_one_line(fault, folder) else str(fault)


def is_one_line(fault, folder):
    return str(folder) in str(fault) and "\n" not in str(fault)


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("times", [30, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_running", [False, True], ids=["complete", "running"])
def test_no_single_bit_is_shown_as_truth(times, is_running, folder):
    """Random bits of tables, manifest and adapter; also while a run goes on, when its folder can be read."""
    if is_running:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["status"] = "running"
        (folder / "manifest.json").write_bytes(sealed(manifest))
    files = [*(folder / name for name in (*TABLES, "manifest.json", "scenario.toml"))]
    files += [path for path in (folder / "adapter").iterdir() if path.suffix in (".safetensors", ".json")]
    draw, truth = Random(12), shown(folder)
    assert truth is not None
    for number in range(times):
        file = files[number % len(files)]
        content = file.read_bytes()
        bit = draw.randrange(8 * len(content))
        file.write_bytes(flipped(content, bit))
        assert shown(folder) is None, f"bit {bit} of {file.name} flipped, and the folder is read"
        file.write_bytes(content)
    assert repr(shown(folder)) == repr(truth)


@pytest.mark.parametrize("name", TABLES)
def test_pages_have_checksums_for_readers_that_know_no_manifest(name, folder):
    from pyarrow import ArrowException, parquet

    content, column = (
        (folder / name).read_bytes(),
        parquet.read_metadata(folder / name).row_group(0).column(0),
    )
    begin = column.dictionary_page_offset or column.data_page_offset
    (folder / name).write_bytes(flipped(content, 8 * (begin + column.total_compressed_size - 1)))
    with pytest.raises((OSError, ArrowException)):
        parquet.read_table(folder / name, page_checksum_verification=True)


def test_a_damaged_table_is_refused_by_every_command_with_the_way_out(folder, tmp_path, capsys):
    content = (folder / "spans.parquet").read_bytes()
    (folder / "spans.parquet").write_bytes(flipped(content, 8 * 40))
    for arguments in (
        ["timeline", str(folder)],
        ["compare", str(folder), str(folder)],
        ["explain", str(folder), "1"],
        ["whatif", str(folder), "--set", "radio.noise_figure_db=9", "--out", str(tmp_path / "other")],
    ):
        assert answer(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            f"{folder / 'spans.parquet'}: is damaged, or was changed after it was written;"
        )
        assert line.endswith(f"play the run again: cosim resume {folder}")
    assert not (tmp_path / "other").exists()
    assert answer(["resume", str(folder), "--no-store"]) == 0
    assert (folder / "spans.parquet").read_bytes() == content


def test_a_file_that_is_gone_is_damage_too(folder):
    for name in TABLES:
        (folder / name).rename(folder / "kept")
        assert shown(folder) is None
        (folder / "kept").rename(folder / name)
    assert shown(folder) is not None


@pytest.mark.parametrize("name", RunFields.model_fields)
def test_a_field_that_is_gone_or_of_another_type_is_no_internal_fault(name, folder, capsys):
    """A manifest that somebody wrote, sealed as cosim would: it is shown, or refused in a line."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    without = {field: value for field, value in manifest.items() if field != name}
    for entries in (without, *({**manifest, name: odd} for odd in ODD)):
        (folder / "manifest.json").write_bytes(sealed(entries))
        assert not isinstance(shown(folder), str)
    assert answer(["timeline", str(folder)]) in (0, 2)
    said = capsys.readouterr()
    assert "this should not happen" not in said.err
    assert "\x1b" not in said.out + said.err


@pytest.mark.slow
def test_a_damaged_study_is_refused_and_written_again(tmp_path, tiny_scenario, capsys):
    (tmp_path / "base.toml").write_text(tomli_w.dumps(to_dict(tiny_scenario())), encoding="utf-8")
    study = {
        "base": "base.toml",
        "replications": 2,
        "timing_only": True,
        "measures": ["total_s", "energy_j"],
        "set": {"scheme.num_rounds": 1},
        "vary": {"grid": {"radio.noise_figure_db": [5.0, 9.0]}},
    }
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study), encoding="utf-8")
    command = ["study", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert answer(command) == 0
    truth = {name: (tmp_path / "out" / name).read_bytes() for name in ("results.parquet", "summary.csv")}
    draw = Random(12)
    for name, content in truth.items():
        file = tmp_path / "out" / name
        file.write_bytes(flipped(content, draw.randrange(8 * len(content))))
        with pytest.raises(CosimError, match=f"{name}: is damaged"):
            StudyRecord.open(tmp_path / "out")
        capsys.readouterr()
        assert answer(command) == 0
        assert file.read_bytes() == content
    runs = tmp_path / "out" / "runs"
    file = next(runs.rglob("metrics.parquet"))
    content = file.read_bytes()
    file.write_bytes(flipped(content, 8 * 40))
    assert answer(command) == 0
    assert file.read_bytes() == content
    assert (tmp_path / "out" / "results.parquet").read_bytes() == truth["results.parquet"]
