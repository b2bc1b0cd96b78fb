"""The tensor clock against the event kernel on timing alone: other settings, other airs, one channel."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import process_time

from bench.ratio import Ratio
from cosim.graph.executor import TimingOnly
from cosim.radio.settings import Radio
from cosim.scenario.build import prepare
from cosim.scenario.load import load
from cosim.scenario.settings import Scenario
from cosim.tensor.clock import TensorClock

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
NUM_CHANNELS = 1000
REPEATS = 3


def measure() -> Iterator[Ratio]:
    """Yield how many channels are evaluated while the event kernel plays one, and the memory it takes.

    CPU time of one process and thread, both sides in turn, as other work on the machine moves both alike.
    """
    scenario = load(SCENARIO)
    clock, radio = TensorClock(scenario), scenario.radio
    settings = [
        radio.model_copy(update={"noise_figure_db": 4.0 + 8.0 * number / NUM_CHANNELS})
        for number in range(NUM_CHANNELS)
    ]
    airs = [radio.model_copy(update={"seed": number}) for number in range(NUM_CHANNELS)]
    for what, radios, limit in (("radio settings", settings, 100.0), ("seeds of the air", airs, 50.0)):
        yield _ratio(clock, scenario, radios, f"{NUM_CHANNELS} other {what}", limit)
    yield _ratio(clock, scenario, airs[:1], "one channel", 3.0)
    peak_mb = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    yield Ratio("peak memory of the process, MB", peak_mb, 400.0)


def _ratio(clock: TensorClock, scenario: Scenario, radios: Sequence[Radio], what: str, limit: float) -> Ratio:
    played_s, each_s = [], []
    for _ in range(REPEATS):
        began = process_time()
        _play(scenario.model_copy(update={"radio": radios[-1]}))
        played_s.append(process_time() - began)
        began = process_time()
        for _times in clock.evaluate([clock.air(one) for one in radios]):
            pass
        each_s.append((process_time() - began) / len(radios))
    ratio = median(one / other for one, other in zip(played_s, each_s, strict=True))
    return Ratio(
        f"a run by the event kernel / a channel by the tensor clock, quickstart, {what}",
        ratio,
        limit,
        "at least",
        f"{median(played_s) * 1e3:.0f} ms against {median(each_s) * 1e3:.2f} ms",
    )


def _play(scenario: Scenario) -> None:
    prepared = prepare(scenario)
    world = prepared.world(lambda _rank: TimingOnly())
    world.play(scenario.scheme.run(world))
