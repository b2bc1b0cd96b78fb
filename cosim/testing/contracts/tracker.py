"""What every tracker keeps: it takes in a run as it goes on, and its end, and leaves it somewhere here."""

import pytest

from cosim.parts import make
from cosim.testing.selection import examples_of
from cosim.tracking import Tracker

CASES = examples_of(Tracker)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_a_run_is_taken_in_until_its_end_and_left_in_this_folder(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = make(Tracker, case)
    if tracker.package == "wandb":
        pytest.skip("starts a service of its own; see tests/unit/test_tracking.py, slow")
    if tracker.package:
        pytest.importorskip(tracker.package, exc_type=ImportError)
    tracking = tracker.begin("a-run", {"seed": 1, "scheme.kind": "federated"})
    tracking.add(0, {"eval_loss": 4.0})
    tracking.add(1_500_000_000, {"eval_loss": 3.0, "speech/train_loss": 2.0})
    tracking.close("complete")
    assert [path for path in tmp_path.rglob("*") if path.is_file()]
