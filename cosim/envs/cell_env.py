"""The environment of one cell, and of many copies at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from cosim.control.learned import Bools, Choice, Singles, flat
from cosim.envs.cells import Cells
from cosim.envs.reward import REWARDS, last_round
from cosim.envs.spaces import Actions, action_space, choice_of, observation_space
from cosim.errors import AllocationError, ScenarioError
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.units import Ints

_SPLITS = "train", "test"
_MOST_SEEDS = 1 << 30  # of a split


class _Game:
    """What both environments are made of."""

    def __init__(
        self,
        num_copies: int,
        scenario: Scenario | Path | str,
        *,
        reward: str = "round_time",
        actions: Actions = "box",
        flat_observation: bool | None = None,
        sets: Sequence[str] = (),
        ranks: Sequence[int] = (),
        record: Path | str | None = None,
        level: float | None = None,
        test: Mapping[str, Any] | None = None,
        bound: bool = False,
    ) -> None:
        own = scenario if isinstance(scenario, Scenario) else load(Path(scenario))
        self.cells = Cells(own, num_copies, sets, ranks)
        self.radios = {
            "train": own.radio,
            "test": change(own, test, source="test").radio if test else own.radio,
        }
        self.last_round = last_round(own, self.cells.form, reward, record, level)
        self.split, self.actions, self.has_bound = "train", actions, bound
        self._reward = REWARDS[reward]
        self.is_flat = actions != "dict" if flat_observation is None else flat_observation
        self.begin(np.arange(num_copies), [own.radio.air_seed(own.seed)] * num_copies)
        self.observation_space = observation_space(self.cells.observe(), is_flat=self.is_flat)
        self.action_space = action_space(self.cells.form, actions)

    def take(self, options: Mapping[str, Any] | None) -> bool:
        """Take in the options of a reset; returns whether they name a split."""
        given = dict(options or {})
        split = given.pop("split", self.split)
        if given or split not in _SPLITS:
            raise ScenarioError(
                f"options: {dict(options or {})} is not understood; give {{'split': 'train'}} or "
                "{'split': 'test'}."
            )
        if self.radios[split] is not self.radios[self.split]:
            self.cells.take(self.radios[split])
        self.split = split
        return "split" in (options or {})

    def seeds(self, chance: np.random.Generator, count: int) -> list[int]:
        """Return seeds of the air: even ones to train on, odd ones to test."""
        return [2 * int(one) + (self.split == "test") for one in chance.integers(_MOST_SEEDS, size=count)]

    def begin(self, copies: Ints, seeds: Sequence[int]) -> None:
        """Begin episodes."""
        self.cells.begin(copies, seeds)

    def observe(self) -> Any:
        """Return what is seen, copies first."""
        seen: dict[str, Singles] = self.cells.observe()
        return flat(seen) if self.is_flat else seen

    def play(self, batch: Any, on: Bools) -> tuple[Any, Bools, dict[str, Any]]:
        """Return rewards, whether episodes have ended, and what else is known."""
        choice: Choice = choice_of(self.cells.form, self.actions, batch)
        told: dict[str, Any] = {"radio_seed": self.cells.seeds.copy()}
        if self.has_bound:
            each = [
                self.cells.bound_s(choice, copy) if on[copy] else (np.nan, np.nan) for copy in range(len(on))
            ]
            told["bound_s"], told["gap"] = map(np.array, zip(*each, strict=True))
        outcome = self.cells.play(choice, on)
        told |= {
            "round_s": outcome.round_s,
            "energy_j": outcome.energy_j,
            "time_ns": self.cells.time_ns.copy(),
        }
        return np.where(on, self._reward(outcome), 0.0), on & (self.cells.round > self.last_round), told


def refuse_outside(space: "gymnasium.Space[Any]", action: Any) -> None:
    """Refuse an action outside of its space.

    Raises
    ------
    AllocationError
        With the action and the space.
    """
    if not space.contains(action):
        raise AllocationError(
            f"action: {_short(action)} is not in {_short(space)}; clip it, or sample the space."
        )


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:117]}..."


class CellEnv(gymnasium.Env[Any, Any]):  # type: ignore[misc]
    """A cell whose subchannels and powers an agent decides on, round by round.

    An episode ends with the last round of the scenario. Times are those of the event kernel to the
    nanosecond.

    Parameters
    ----------
    scenario
        A scenario or its file; a scheme of barriers, such as ``split_federated``.
    reward
        Minus the ``round_time``, s, or ``energy`` of all devices and senders, J, of a round; or
        ``time_to_loss``: minus the time, s, until a recorded training reaches a loss.
    actions
        ``box``: numbers from -1 to 1, :meth:`cosim.control.learned.Choice.of_numbers`; ``discrete``: owners
        of subchannels, and powers in tenths of the limit; ``dict``: scores, powers and choices by name.
    flat_observation
        One row rather than arrays by name; without it unless actions are a ``dict``.
    sets, ranks
        Of ``cut``, ``rank``, ``participation`` and ``sparsification``, what is decided too; the ranks to
        choose from. Cut and rank hold from the first round on. Sparsification is the share of its adapter
        that each client sends, in hundredths, of a codec that can leave something out.
    record, level
        For ``time_to_loss``: the folder of a run with its training, and the held-out loss to reach.
    test
        Settings of the radio that differ in the split ``test``, by path.
    bound
        Whether ``info`` has the proven bound on the round and the gap above it; takes a search.
    render_mode
        None; there is nothing to draw.

    Notes
    -----
    ``reset(seed=k)`` plays the scenario with ``radio.seed = k``; later resets without one draw
    seeds. With ``options={"split": "test"}`` they are odd, else even; a seed
    given with a split draws from it.

    Raises
    ------
    ScenarioError, AllocationError
        If the scenario has no rounds that can be stepped, in one line.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self, scenario: Scenario | Path | str, render_mode: str | None = None, **settings: Any
    ) -> None:
        self._game = _Game(1, scenario, **settings)
        self.render_mode = render_mode
        self.observation_space, self.action_space = self._game.observation_space, self._game.action_space
        self.cells, self.form = self._game.cells, self._game.cells.form

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode on the air of a seed, or of one that is drawn."""
        super().reset(seed=seed)
        names_split = self._game.take(options)
        own = seed if seed is not None and not names_split else self._game.seeds(self.np_random, 1)[0]
        self._game.begin(np.arange(1), [own])
        return self._first(self._game.observe()), {"radio_seed": own}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play a round."""
        refuse_outside(self.action_space, action)
        batch = (
            {name: np.asarray(one)[np.newaxis] for name, one in action.items()}
            if isinstance(action, Mapping)
            else np.asarray(action)[np.newaxis]
        )
        rewards, ended, told = self._game.play(batch, np.ones(1, dtype=bool))
        seen = self._first(self._game.observe())
        return (
            seen,
            float(rewards[0]),
            bool(ended[0]),
            False,
            {name: one[0].item() for name, one in told.items()},
        )

    def _first(self, seen: Any) -> Any:
        if isinstance(seen, Mapping):
            return {name: np.array(one[0]) for name, one in seen.items()}
        return seen[0]


class CellVectorEnv(VectorEnv[Any, Any, Any]):  # type: ignore[misc]
    """Copies of a cell that are played together, each on an air of its own; arguments as of :class:`CellEnv`.

    A copy whose episode has ended begins another at the next step, whose action it does not take.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        scenario: Scenario | Path | str,
        num_envs: int = 1,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        self._game = _Game(num_envs, scenario, **settings)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = self._game.observation_space
        self.single_action_space = self._game.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.cells, self.form = self._game.cells, self._game.cells.form
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin all episodes: copy i on the air of ``seed + i``, of its own seed, or of one that is drawn."""
        first = seed if isinstance(seed, int) or seed is None else seed[0]
        super().reset(seed=first)
        names_split = self._game.take(options)
        seeds = self._game.seeds(self.np_random, self.num_envs)
        if seed is not None and not names_split:
            given: list[int | None] = (
                [seed + one for one in range(self.num_envs)] if isinstance(seed, int) else list(seed)
            )
            seeds = [drawn if own is None else own for own, drawn in zip(given, seeds, strict=True)]
        self._game.begin(np.arange(self.num_envs), seeds)
        self._ended[:] = False
        return self._game.observe(), {"radio_seed": self.cells.seeds.copy()}

    def step(self, actions: Any) -> tuple[Any, Any, Bools, Bools, dict[str, Any]]:
        """Play a round in each copy, or begin another episode."""
        refuse_outside(self.action_space, actions)
        again = np.flatnonzero(self._ended)
        rewards, ended, told = self._game.play(actions, ~self._ended)
        if len(again):
            self._game.begin(again, self._game.seeds(self.np_random, len(again)))
        self._ended = ended
        return self._game.observe(), rewards, ended.copy(), np.zeros_like(ended), told
