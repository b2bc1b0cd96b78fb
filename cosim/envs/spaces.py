"""The spaces of an environment, and what an action of each form decides."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from gymnasium import spaces

from cosim.control.learned import Choice, Form, Singles, somebody, steps_of
from cosim.errors import AllocationError

Actions: TypeAlias = Literal["box", "discrete", "dict"]

LEVELS = 10
"""Steps of a discrete power, and of a discrete share of an adapter."""

_UNBOUNDED = float(np.finfo(np.float32).max)


def observation_space(seen: Mapping[str, Singles], *, is_flat: bool) -> "spaces.Space[Any]":
    """Return the space of what is seen, by name or in one row."""
    shapes = {name: one.shape[1:] for name, one in seen.items()}
    if is_flat:
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        return spaces.Box(-_UNBOUNDED, _UNBOUNDED, (size,), np.float32)
    return spaces.Dict(
        {name: spaces.Box(-_UNBOUNDED, _UNBOUNDED, shape, np.float32) for name, shape in shapes.items()}
    )


def action_space(form: Form, actions: Actions) -> "spaces.Space[Any]":
    """Return the space of actions: numbers from -1 to 1, owners and levels, or both by name."""
    clients = form.num_clients
    chooses, sparsifies = "participation" in form.sets, "sparsification" in form.sets
    several = [len(one) for one in (form.cut_layers, form.ranks) if one]
    if actions == "box":
        return spaces.Box(-1.0, 1.0, (form.num_decided,), np.float32)
    if actions == "discrete":
        each = [one for _, count in form.links for one in [clients] * count + [LEVELS + 1] * clients]
        per_client = [2] * clients * chooses + [LEVELS] * clients * sparsifies
        return spaces.MultiDiscrete([*each, *several, *per_client])
    if actions != "dict":
        raise AllocationError(
            f"actions: {actions!r} is no form of actions; take 'box', 'discrete' or 'dict'."
        )
    named: dict[str, spaces.Space[Any]] = {}
    for name, count in form.links:
        named[f"{name}_scores"] = spaces.Box(-1.0, 1.0, (clients, count), np.float32)
        named[f"{name}_power"] = spaces.Box(0.0, 1.0, (clients,), np.float32)
    for label, choices in (("cut", form.cut_layers), ("rank", form.ranks)):
        if choices:
            named[label] = spaces.Discrete(len(choices))
    if chooses:
        named["participation"] = spaces.MultiBinary(clients)
    if sparsifies:
        named["sparsification"] = spaces.Box(0.0, 1.0, (clients,), np.float32)
    return spaces.Dict(named)


def choice_of(form: Form, actions: Actions, batch: Any) -> Choice:
    """Return what a batch of actions decides, its copies being the first axis."""
    if actions == "box":
        return Choice.of_numbers(form, batch)
    return _of_whole(form, np.asarray(batch)) if actions == "discrete" else _of_names(form, batch)


def _of_whole(form: Form, batch: Any) -> Choice:
    at, clients, scores, powers = 0, form.num_clients, {}, {}
    for name, count in form.links:
        owners = batch[:, np.newaxis, at : at + count]
        scores[name] = (owners == np.arange(clients)[:, np.newaxis]).astype(np.float64)
        at += count
        powers[name], at = batch[:, at : at + clients] / LEVELS, at + clients
    picked = {}
    for label, choices in (("cut", form.cut_layers), ("rank", form.ranks)):
        if choices:
            picked[label], at = batch[:, at], at + 1
    wish = np.ones((len(batch), clients))
    if "participation" in form.sets:
        wish, at = batch[:, at : at + clients], at + clients
    sent_steps = steps_of((batch[:, at:] + 1) / LEVELS) if "sparsification" in form.sets else None
    return Choice(scores, powers, somebody(wish - 0.5), picked.get("cut"), picked.get("rank"), sent_steps)


def _of_names(form: Form, batch: Mapping[str, Any]) -> Choice:
    each = {name: np.asarray(one) for name, one in batch.items()}
    scores = {name: each[f"{name}_scores"].astype(np.float64) for name, _ in form.links}
    powers = {name: each[f"{name}_power"].astype(np.float64) for name, _ in form.links}
    num = len(next(iter(each.values()))) if each else 1
    wish = each.get("participation", np.ones((num, form.num_clients))) - 0.5
    shares = each.get("sparsification")
    sent_steps = None if shares is None else steps_of(shares.astype(np.float64))
    return Choice(scores, powers, somebody(wish), each.get("cut"), each.get("rank"), sent_steps)
