"""The environment of a cell, timing only: a step by itself, and copies together; CPU time of one thread."""

from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np

from bench.ratio import Ratio
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario

SCENARIOS = Path(__file__).parents[1] / "scenarios"
NUM_COPIES = 256
ROUNDS = 50


def measure() -> Iterator[Ratio]:
    """Yield milliseconds of a step, and steps a second of many copies, by what a round sees of the fading."""
    import gymnasium

    import cosim.envs

    quickstart = load(SCENARIOS / "quickstart.toml")
    still = change(quickstart, {"radio.fading.coherence_time_s": 1000.0, "scheme.num_rounds": ROUNDS})
    env = gymnasium.make(cosim.envs.CELL, scenario=still).unwrapped
    env.reset(seed=1)
    round_s = round(-env.step(_action(env.action_space))[1], 3)
    edges = change(still, {"radio.fading.coherence_time_s": round_s})
    for what, scenario, num, limits in (
        ("gains hold through a round", still, 200, (1.0, 10_000.0)),
        ("a block as long as a round, an edge in each", edges, 100, (1.0, 10_000.0)),
        ("quickstart as shipped", quickstart, 10, (None, None)),
    ):
        alone = gymnasium.make(cosim.envs.CELL, scenario=scenario).unwrapped
        action = _action(alone.action_space)
        alone.reset(seed=1)
        began, has_ended = process_time(), False
        for _ in range(num):
            if has_ended:
                alone.reset()
            has_ended = alone.step(action)[2]
        each_ms = (process_time() - began) / num * 1e3
        yield Ratio(f"a step by itself, ms, {what}", each_ms, limits[0])
        yield Ratio(
            f"steps a second in {NUM_COPIES} copies, {what}", _together(scenario, num), limits[1], "at least"
        )


def _together(scenario: Scenario, num: int) -> float:
    import gymnasium

    import cosim.envs

    many = gymnasium.make_vec(
        cosim.envs.CELL,
        num_envs=NUM_COPIES,
        vectorization_mode="vector_entry_point",
        scenario=scenario,
    )
    actions = np.repeat(_action(many.single_action_space)[np.newaxis], NUM_COPIES, axis=0)
    many.reset(seed=1)
    steps = max(num // 10, 2)
    began = process_time()
    for _ in range(steps):
        many.step(actions)
    return steps * NUM_COPIES / (process_time() - began)


def _action(space):
    (size,) = space.shape
    return np.random.default_rng(1).uniform(-1.0, 1.0, size).astype(np.float32)
