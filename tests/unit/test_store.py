"""The store keeps what it was given, whole or not at all, whoever else writes and whatever breaks."""

import errno
import os
import subprocess
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import server
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.errors import StoreError
from cosim.graph import store as store_module
from cosim.graph.store import FORMAT, LostValueError, Store, default_store
from cosim.record.folder import Record
from cosim.runs import run

LINEAGE = "ab" * 16
TABLES = ("spans.parquet", "metrics.parquet", "grants.parquet")
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def shelf(store):
    return store.namespace(LINEAGE)


@pytest.fixture(scope="module")
def plain(tiny_scenario, tmp_path_factory):
    """A run that knows no store."""
    return run(tiny_scenario(), tmp_path_factory.mktemp("plain") / "run")


def tensors():
    return {
        "lora_A": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "lora/B": torch.tensor([0.1, -0.0, inf], dtype=torch.float64),
        "moment": torch.tensor([[1.5], [2.5]], dtype=torch.bfloat16),
        "step": torch.tensor(7),
        "none": torch.empty(0, 4),
    }


def same(left, right):
    assert left.keys() == right.keys()
    for name, one in left.items():
        assert one.dtype == right[name].dtype
        assert one.shape == right[name].shape
        assert torch.equal(one, right[name])


def assert_same_results(left, right):
    for name in (*TABLES, *ADAPTER):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


def the_only_pack(store):
    (pack,) = store.bundles()
    return pack.path


# Round trips


def test_numbers_tensors_and_bytes_come_back_as_they_were_kept(store, shelf):
    values = {
        ("k1", "loss"): 0.1 + 2**-56,
        ("k1", "perplexity"): inf,
        ("k2", "loss"): nan,
        ("k3", "count"): 3,
        ("k4", "adapter"): tensors(),
        ("k4", "optimizer"): {},
        ("k5", "files"): {"adapter_config.json": b"{}\n", "empty": b"", "weights": bytes(range(256))},
    }
    shelf.put(values)
    for one in (shelf, Store(store.root).namespace(LINEAGE)):
        assert all(key in one for key in values)
        assert one.get(("k1", "loss")) == 0.1 + 2**-56
        assert one.get(("k1", "perplexity")) == inf
        assert np.isnan(one.get(("k2", "loss")))
        assert one.get(("k3", "count")) == 3
        same(one.get(("k4", "adapter"), "cpu"), tensors())
        assert one.get(("k4", "optimizer"), "cpu") == {}
        files = one.get(("k5", "files"))
        assert files == values["k5", "files"]


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=40), max_size=5),
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(), max_size=5),
)
@settings(deadline=None, max_examples=25)
def test_whatever_is_put_is_got(tmp_path_factory, files, numbers):
    root = tmp_path_factory.mktemp("any") / "store"
    shelf = Store(root).namespace(LINEAGE)
    shelf.put({("key", "files"): files, **{(name, "loss"): value for name, value in numbers.items()}})
    again = Store(root).namespace(LINEAGE)
    assert again.get(("key", "files")) == files
    for name, value in numbers.items():
        assert np.float64(again.get((name, "loss"))).tobytes() == np.float64(value).tobytes()


def test_tensors_that_share_memory_are_kept_apart(store, shelf):
    whole = torch.arange(10.0)
    shelf.put({("k", "adapter"): {"whole": whole, "view": whole[2:4], "again": whole}})
    back = store.namespace(LINEAGE).get(("k", "adapter"), "cpu")
    assert torch.equal(back["view"], whole[2:4])
    assert torch.equal(back["again"], whole)


def test_what_was_never_put_is_not_there(shelf):
    shelf.put({("k", "loss"): 1.0})
    assert ("k", "other") not in shelf
    assert ("other", "loss") not in shelf


def test_shelves_of_two_lineages_know_nothing_of_each_other(store, shelf):
    shelf.put({("k", "loss"): 1.0})
    assert ("k", "loss") not in store.namespace("cd" * 16)


def test_a_shelf_meets_what_another_process_has_put_since(store, shelf):
    other = store.namespace(LINEAGE)
    other.put({("k", "loss"): 1.0})
    assert ("k", "loss") not in shelf
    shelf.refresh()
    assert shelf.get(("k", "loss")) == 1.0


def test_the_same_values_make_the_same_pack(store, shelf):
    for _ in range(2):
        store.namespace(LINEAGE).put({("k", "adapter"): tensors(), ("k", "loss"): 1.0})
    assert len(list(store.bundles())) == 1


# Whole or absent, checked


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_flipped_bit_anywhere_in_a_pack_is_found_and_the_pack_removed(tmp_path_factory, data):
    store = Store(tmp_path_factory.mktemp("flipped") / "store")
    shelf = store.namespace(LINEAGE)
    shelf.put({("k", "adapter"): tensors(), ("k", "loss"): 1.0})
    path = the_only_pack(store)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    how = data.draw(st.sampled_from(["taken in", "got", "verified"]))
    if how == "taken in":
        other = store.namespace(LINEAGE)
        if ("k", "loss") not in other:
            assert not path.exists()
            return
        assert other.get(("k", "loss")) == 1.0
        with pytest.raises(LostValueError):
            other.get(("k", "adapter"), "cpu")
    elif how == "got":
        with pytest.raises(LostValueError):
            shelf.get(("k", "adapter"), "cpu")
    else:
        assert store.verify() == (0, [path])
    assert not path.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_pack_that_was_cut_short_is_not_used(share, store, shelf):
    shelf.put({("k", "loss"): 1.0})
    path = the_only_pack(store)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert ("k", "loss") not in store.namespace(LINEAGE)
    assert not path.exists()


def test_a_pack_that_is_gone_is_lost_and_not_a_fault(store, shelf):
    shelf.put({("k", "adapter"): tensors()})
    the_only_pack(store).unlink()
    with pytest.raises(LostValueError):
        shelf.get(("k", "adapter"), "cpu")


@pytest.mark.parametrize("byte", [-1, 20], ids=["tensor", "table of contents"])
def test_damaged_packs_are_computed_anew_and_kept_again(byte, tiny_scenario, plain, store, tmp_path):
    first = run(tiny_scenario(), tmp_path / "first", store=store)
    packs = sorted(pack.path for pack in store.bundles())
    for pack in packs:
        content = bytearray(pack.read_bytes())
        content[byte] ^= 1
        pack.write_bytes(content)
    again = run(tiny_scenario(), tmp_path / "again", store=store)
    assert Record.open(again).manifest["works"]["computed"] > 0
    assert sorted(pack.path for pack in store.bundles()) == packs
    whole, damaged = store.verify()
    assert whole > 0
    assert byte < 0 or not damaged  # tensors nobody asked for were not looked at
    for folder in (first, again):
        assert_same_results(folder, plain)


def test_a_run_goes_on_when_its_packs_are_pruned_under_it(tiny_scenario, plain, store, tmp_path):
    """A store made smaller by another process: what is lost is computed again."""
    run(tiny_scenario({"scheme.num_rounds": 1}), tmp_path / "unrelated", store=store)
    run(tiny_scenario(), tmp_path / "first", store=store)

    def prune(progress):
        if progress.round == 1:
            for pack in store.bundles():
                pack.path.unlink()

    folder = run(tiny_scenario(), tmp_path / "pruned", store=store, watch=prune)
    assert Record.open(folder).status == "complete"
    assert_same_results(folder, plain)


def test_a_half_written_file_is_no_pack_and_goes_when_it_is_old(store, shelf):
    shelf.put({("k", "loss"): 1.0})
    folder = the_only_pack(store).parent
    old, new, at_root = folder / ".old.tmp", folder / ".new.tmp", store.root / ".old.tmp"
    for path in (old, new, at_root):
        path.write_bytes(b"half")
    for path in (old, at_root):
        os.utime(path, (0, 0))
    assert ("k", "loss") in store.namespace(LINEAGE)
    assert store.verify() == (1, [])
    assert store.prune() == (0, 0)
    assert not old.exists()
    assert not at_root.exists()
    assert new.exists()


# Several processes


def _fill(roots, process, together):
    for root in roots:
        together.wait(120)
        _fill_one(root, process)


def _fill_one(root, process):
    shelf = Store(root).namespace(LINEAGE)
    for number in range(20):
        shelf.put({(f"same {number}", "loss"): float(number), (f"same {number}", "adapter"): tensors()})
        shelf.put({(f"own {process} {number}", "loss"): float(number)})
        shelf.refresh()


def test_processes_write_same_and_different_packs_at_once(tmp_path):
    """In a store that is there, and in one that both of them make."""
    roots = [tmp_path / "there", tmp_path / "made"]
    Store(roots[0])
    context = server()
    together = context.Barrier(2)
    processes = [context.Process(target=_fill, args=(roots, number, together)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for root in roots:
        assert_both_wrote(root)


def assert_both_wrote(root):
    store = Store(root)
    shelf = store.namespace(LINEAGE)
    for number in range(20):
        assert shelf.get((f"same {number}", "loss")) == number
        same(shelf.get((f"same {number}", "adapter"), "cpu"), tensors())
        assert all((f"own {process} {number}", "loss") in shelf for process in range(2))
    assert store.verify() == (60, [])
    assert not list(root.rglob("*.tmp"))


# Folders that are no store


def test_a_store_of_another_format_is_refused(tmp_path):
    (tmp_path / "format").write_text(f"{FORMAT + 1}\n")
    with pytest.raises(StoreError, match=rf"is a store of format {FORMAT + 1}, .* --store\.$"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("thesis.tex", b"\\end"), ("format", b"\xff\xfe"), ("format", b"a4")]
)
def test_a_folder_that_is_something_else_is_refused_and_left_alone(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match="is not a store, and not empty"):
        Store(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == content


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be used as a store: Not a directory"):
            Store(path)


def test_what_a_process_left_that_was_killed_while_making_a_store_is_no_hindrance(tmp_path):
    (tmp_path / ".1234.tmp").write_bytes(b"")
    Store(tmp_path)
    assert (tmp_path / "format").read_text() == f"{FORMAT}\n"


def test_the_default_store_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("COSIM_STORE", "/a/b")
    assert default_store() == Path("/a/b")
    monkeypatch.delenv("COSIM_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_store() == Path("/cache/cosim/store")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_store() == Path("/home/me/.cache/cosim/store")


# Stores that cannot be written


def assert_goes_on_without(store, tiny_scenario, plain, tmp_path, why):
    folder = run(tiny_scenario(), tmp_path / "run", store=store)
    assert_same_results(folder, plain)
    manifest = Record.open(folder).manifest
    assert manifest["status"] == "complete"
    assert manifest["store_warning"] == (
        f"{store.root}: cannot be written ({why}); the run goes on without keeping values."
    )
    return manifest


def test_a_store_whose_packs_have_no_place_is_done_without(tiny_scenario, plain, store, tmp_path):
    """A file stands where the folder of the lineage would."""
    run(tiny_scenario(), tmp_path / "first", store=store)
    lineage = the_lineage(store)
    for pack in list(store.bundles()):
        pack.path.unlink()
    lineage.rmdir()
    lineage.write_text("in the way")
    manifest = assert_goes_on_without(store, tiny_scenario, plain, tmp_path, "File exists")
    assert manifest["works"]["recalled"] == 0


def the_lineage(store):
    (lineage,) = {pack.path.parent for pack in store.bundles()}
    return lineage


@pytest.mark.parametrize("when", [0, 2], ids=["from the start", "after two packs"])
def test_a_full_disk_is_done_without(when, tiny_scenario, plain, store, tmp_path, monkeypatch):
    fsync, done = os.fsync, []

    def full(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(store.root):
            done.append(descriptor)
            if len(done) > when:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(store_module.os, "fsync", full)
    assert_goes_on_without(store, tiny_scenario, plain, tmp_path, "No space left on device")
    assert len(list(store.bundles())) == when
    assert len(done) == when + 1  # it is not tried again and again
    assert not list(store.root.rglob("*.tmp"))


def test_a_disk_that_is_really_full_is_done_without(tiny_scenario, plain, tmp_path):
    """A file system of 64 KiB in memory, where this process may mount one."""
    root = tmp_path / "small"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(root)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this process may not mount a file system")
    try:
        store = Store(root)
        assert_goes_on_without(store, tiny_scenario, plain, tmp_path, "No space left on device")
        assert store.verify()[1] == []
        assert not list(root.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_a_store_that_can_only_be_read_is_read(tiny_scenario, plain, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    run(tiny_scenario(), tmp_path / "first", store=store)
    packs = sorted(store.bundles(), key=lambda pack: pack.path)
    damaged = packs[1].path
    damaged.write_bytes(damaged.read_bytes()[:-1])

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        for name in ("unlink", "replace", "mkdir"):
            original = getattr(Path, name)
            patch.setattr(
                Path,
                name,
                lambda self, *rest, _original=original, **options: (
                    refuse() if self.is_relative_to(store.root) else _original(self, *rest, **options)
                ),
            )
        patch.setattr(store_module.os, "utime", refuse)
        opened = Store(store.root)
        manifest = assert_goes_on_without(opened, tiny_scenario, plain, tmp_path, "Read-only file system")
        assert manifest["works"]["recalled"] > 0
        with pytest.raises(StoreError, match="cannot be removed: Read-only file system"):
            opened.verify()
        with pytest.raises(StoreError, match="cannot be removed: Read-only file system"):
            opened.prune(max_bytes=0)
    assert damaged.exists()


def test_a_store_that_cannot_be_made_is_done_without(tiny_scenario, plain, tmp_path, monkeypatch):
    mkdir = Path.mkdir

    def refuse(self, *rest, **options):
        if self.name == "nowhere":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        mkdir(self, *rest, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    store = Store(tmp_path / "nowhere")
    assert_goes_on_without(store, tiny_scenario, plain, tmp_path, "Permission denied")
    assert not store.root.exists()


# Looking after it


@pytest.fixture
def five(store, shelf):
    """Five packs, the first not used for longest."""
    paths = []
    for number in range(5):
        shelf.put({(f"k{number}", "loss"): float(number)})
        (path,) = {pack.path for pack in store.bundles()} - set(paths)
        used_s = store_module.time() - 86400.0 * (5 - number)
        os.utime(path, (used_s, used_s))
        paths.append(path)
    return paths


def test_pruning_by_size_removes_what_was_not_used_for_longest(store, five):
    sizes = [path.stat().st_size for path in five]
    assert store.prune(max_bytes=sum(sizes[3:])) == (3, sum(sizes[:3]))
    assert {pack.path for pack in store.bundles()} == set(five[3:])
    assert store.prune(max_bytes=sum(sizes[3:])) == (0, 0)


def test_pruning_by_age_removes_what_was_not_used_since(store, five):
    assert store.prune(max_age_s=2.5 * 86400.0)[0] == 3
    assert {pack.path for pack in store.bundles()} == set(five[3:])


def test_a_run_that_takes_a_pack_in_uses_it_and_checking_does_not(store, five):
    store.verify()
    assert store.prune(max_age_s=4.5 * 86400.0)[0] == 1
    Store(store.root).namespace(LINEAGE)
    assert store.prune(max_age_s=1800.0)[0] == 0


def test_pruning_without_limits_removes_nothing_and_to_nothing_everything(store, five):
    assert store.prune() == (0, 0)
    assert store.prune(max_bytes=0)[0] == 5
    assert list(store.bundles()) == []


def test_tensors_come_back_in_the_order_in_which_they_were_put_in(tmp_path):
    """Sums and draws go by it, and a resumed run must have the bytes of one that was never killed."""
    value = {name: torch.zeros(1) for name in ("later", "b", "a", "c")}
    Store(tmp_path).namespace("names").put({("key", "field"): value})
    assert list(Store(tmp_path).namespace("names").get(("key", "field"), "cpu")) == list(value)
