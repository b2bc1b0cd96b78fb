"""Whether a model in pieces computes what the whole does, asked of models that no family describes."""

from typing import Any

import torch
from torch import Tensor

from cosim.errors import ScenarioError
from cosim.learning.families import take_apart
from cosim.learning.families.body import Body, as_trained
from cosim.learning.shape import ModelShape
from cosim.learning.transformers_models import one_line

_LENGTH = 6
_SPREAD = 1e3
"""Rounding steps, of the largest score, that two orders of the same sums may lie apart."""


def prove(model: Any, shape: ModelShape) -> None:
    """Hold the scores of a model in pieces against the model's own, on a few tokens.

    Raises
    ------
    ScenarioError
        If the model cannot be computed in its number format, the scores differ, or a position sees
        what it should not.
    """
    like = next(model.parameters())
    for name in shape.names.classifier if shape.task == "classification" else ():
        head = model.get_submodule(name)
        head.to(as_trained(like).dtype)  # as it will be
    ids = torch.arange(2, 2 + _LENGTH, device=like.device).remainder(shape.vocab_size).unsqueeze(0)
    with torch.no_grad():
        try:  # to take it apart computes a little, too
            body = take_apart(model, shape)
            theirs = _own_scores(model, ids, shape)
        except ScenarioError:
            raise
        except Exception as fault:  # of any model of transformers
            raise ScenarioError(
                f"model.dtype: transformers cannot compute a {shape.family} model in "
                f"{str(like.dtype).removeprefix('torch.')} ({one_line(fault)}); take another format, such as "
                "float32, or another model"
            ) from None
        try:
            ours = _scores(body, ids, shape)
        except Exception as fault:  # of any model of transformers
            raise ScenarioError(
                f"model: a {shape.family} model is no family of cosim, and its blocks cannot be called "
                f"one by one ({one_line(fault)}); take another model"
            ) from None
        apart = float(
            (ours - theirs).abs().max() / theirs.abs().max().clamp_min(torch.finfo(like.dtype).tiny)
        )
        if not apart <= _SPREAD * torch.finfo(like.dtype).eps:
            raise ScenarioError(
                f"model: a {shape.family} model is no family of cosim, and its blocks one after the other do "
                f"not compute what the whole does (scores are {apart:.1e} of the largest apart); take another"
            )
        if shape.task == "causal_lm":
            _refuse_looking_ahead(model, ids, theirs, shape)


def _refuse_looking_ahead(model: Any, ids: Tensor, scores: Tensor, shape: ModelShape) -> None:
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % shape.vocab_size
    apart = (_own_scores(model, other, shape) - scores)[:-1].abs().max()
    if float(apart / scores.abs().max()) > _SPREAD * torch.finfo(scores.dtype).eps:
        raise ScenarioError(
            f"model: positions of this {shape.family} model see those behind them, so there is no next token "
            "to predict; use it for classes"
        )


def _scores(body: Body, ids: Tensor, shape: ModelShape) -> Tensor:
    hidden = body.embed(ids)
    for block in body.blocks:
        hidden = body.run_block(block, hidden, None)
    rows = hidden[0]
    if shape.task == "classification":
        rows = rows[-1:] if shape.names.is_causal else rows[:1]
    return body.scores(rows)


def _own_scores(model: Any, ids: Tensor, shape: ModelShape) -> Tensor:
    logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits[0] if shape.task == "causal_lm" else logits
