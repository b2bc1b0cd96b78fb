"""SOFT: which rank pairs to send, by energies and by SVD; and what the regulariser adds to a step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.ratio import Ratio
from cosim.learning.base.folder import FolderBase
from cosim.learning.data.embedded import Embedded
from cosim.learning.execution import make_executor
from cosim.learning.regularizer import Regularizer
from cosim.learning.regularizer.none import Unregularized
from cosim.learning.regularizer.orthogonality import Orthogonality
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.task import Task
from cosim.learning.trainable.lora import Lora
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round

STORIES = Path(__file__).parents[2] / "shared" / "models" / "stories260k"
RANKS = (4, 16)
REPEATS, STEPS, MOST_OVERHEAD = 9, 20, 0.1


def measure() -> list[Ratio]:
    """Return both comparisons; the second one only where the model is beside the project."""
    return [*(selection(rank) for rank in RANKS), *overhead()]


def selection(rank: int) -> Ratio:
    """Return the time of SVD's choice over that of SOFT's, for the c_attn of GPT-2 small's 12 blocks."""
    import torch

    from cosim.learning.codec import Sending
    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.codec.soft import Soft
    from cosim.learning.codec.svd import Svd

    generator = torch.Generator().manual_seed(0)
    shapes = {"A": (rank, 768), "B": (2304, rank)}

    def drawn() -> dict[str, Any]:
        return {
            f"h.{block}.attn.c_attn.lora_{factor}.weight": torch.randn(shape, generator=generator)
            for block in range(12)
            for factor, shape in shapes.items()
        }

    sending = Sending(drawn(), drawn())
    pairs = pairs_of(sending.tensors)

    def choose(codec: Soft | Svd) -> None:
        pairs.select(codec.energies(sending), 0.5)

    def whole_svd() -> None:
        torch.linalg.svdvals(
            sending.tensors["h.0.attn.c_attn.lora_B.weight"]
            @ sending.tensors["h.0.attn.c_attn.lora_A.weight"]
        )

    soft_s, svd_s = _least([lambda: choose(Soft()), lambda: choose(Svd())], 50)
    product_s = 12 * _least([whole_svd], 2)[0]
    return Ratio(
        f"SVD by QR / SOFT, choice among the rank pairs of GPT-2 small, rank {rank}",
        svd_s / soft_s,
        note=f"{svd_s * 1e3:.2f} against {soft_s * 1e3:.2f} ms; by SVD of the product BA {product_s:.1f} s",
    )


def overhead() -> list[Ratio]:
    """Return what share of a step on stories260k the regulariser takes, embedded data, 8 x 64 tokens."""
    if not STORIES.is_dir():
        print(f"  no model in {STORIES}: the overhead of the regulariser is not measured")
        return []
    steps = {one.kind: Steps(one) for one in (Unregularized(), Orthogonality())}
    times = [{kind: one.play_s() for kind, one in steps.items()} for _ in range(REPEATS)]
    plain, regular = (min(one[kind] for one in times) for kind in steps)
    return [
        Ratio(
            "regulariser, share of a step on stories260k, rank 4",
            regular / plain - 1.0,
            MOST_OVERHEAD,
            note=f"{regular * 1e3:.2f} against {plain * 1e3:.2f} ms",
        )
    ]


class Steps:
    """One client's local steps, added and computed, with a regulariser."""

    def __init__(self, regularizer: Regularizer) -> None:
        task = Task.prepare(
            Model(base=FolderBase(path=STORIES)),
            Lora(rank=4),
            Data(source=Embedded(num_train=40, num_test=8)),
            TrainingSettings(batch_size=8),
            num_clients=1,
            num_steps=1000,
            seed=0,
        )
        self._regularizer = regularizer
        self._executor = make_executor(task, 4)
        self._training = Training(task, task.shape.num_layers, 4)
        self._side = self._training.start("whole")
        self._step = 0
        self.play_s()  # loads the model, and pays for whatever is only paid once

    def play_s(self) -> float:
        """Return the wall time of a step, over several of them."""
        begin = perf_counter()
        steps = range(self._step, self._step + STEPS)
        learned = local_round(self._training, 0, self._side, steps, self._regularizer)
        keep = [learned.after.adapter, learned.after.optimizer]
        self._executor.materialise(keep, [one.loss for one in learned.steps])
        self._side, self._step = learned.after, steps.stop
        return (perf_counter() - begin) / STEPS


def _least(actions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the least time each action took, s; they take turns."""
    times = [[_time(action) for action in actions] for _ in range(repeats + 1)]
    return [min(each) for each in zip(*times[1:], strict=True)]


def _time(action: Callable[[], object]) -> float:
    begin = perf_counter()
    action()
    return perf_counter() - begin
