"""Momentum and control terms at the server alone, from the updates of those who took part."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.server_optimizer import Sender, Tensors
from cosim.learning.server_optimizer.decaying import Decaying

if TYPE_CHECKING:
    from torch import Tensor


class FedPepTao(Decaying):
    """A step of ``rate v`` from where a round began, with ``v = momentum v + (1 - momentum) g + control``.

    ``g`` is where the round began less the average. The server keeps the last update ``c_i`` of each client,
    where its round began less what it sent, zero before there is one, and ``c``, their mean by data. The
    control is ``c`` less the mean of the senders' ``c_i`` as they were: by that much a round is off where
    others are left out. With all clients it is zero; without momentum and ``control``, at a rate of 1, the
    average itself is taken.

    Source
    ------
    T. Che et al., FedPepTAO, EMNLP 2023, arXiv 2310.15080, in a cleaner variant of our own: its control
    terms, per step and rate, are here in the units of an update, and ``c_i`` is the client's last update,
    as local steps are not corrected. What the authors' code does is ``fedpeptao_code``.
    """

    kind: Literal["fedpeptao"] = "fedpeptao"
    needs_each: ClassVar[bool] = True
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    control: bool = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"momentum": 0.0, "control": False})

    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the step along the momentum alone."""
        return self.step_each(before, average, state, ())

    def step_each(
        self, before: Tensors, average: Tensors, state: Tensors, senders: Sequence[Sender]
    ) -> tuple[Tensors, Tensors]:
        """Return the step and the new terms."""
        rate, ended = self.rate_of(state)
        terms = controls(before, state, senders) if self.control else {}
        new, kept = {}, dict(state)
        for name, one in average.items():
            v = (1.0 - self.momentum) * (before[name] - one)
            if f"v/{name}" in state:
                v = v + self.momentum * state[f"v/{name}"]
            if name in terms:
                v = v + terms[name]
            new[name], kept[f"v/{name}"] = before[name] - rate * v, v
        if self.control:
            for sender in senders:
                for name, sent in sender.upload.items():
                    _replace(kept, name, sender, before[name] - sent, sender.share)
        return new, kept | self.counted(ended, next(iter(new.values())))


class FedPepTaoCode(Decaying):
    """As the authors' code has it: the first round ends with the average; later ones step from the average.

    With ``delta`` what a round moved, where it began less its average, each sender has ``v_i = momentum v +
    (1 - momentum) (delta_before - delta) + c - c_i``, and the next is the average less ``rate`` times their
    mean, which is ``v``. Before that ``c_i`` becomes ``c_i - c + (start - sent) / (sum of local rates)``,
    and ``c`` takes in their mean change times the share of clients that took part.

    Source
    ------
    T. Che et al., FedPepTAO, arXiv 2310.15080: as seen in the authors' code, whose rate is 0.05, falls by
    0.99 a round and stays above 1e-4. Its clients of one round share the buffer of ``v``, so that each goes
    on from the one before; here all go on from the round before.
    """

    kind: Literal["fedpeptao_code"] = "fedpeptao_code"
    needs_each: ClassVar[bool] = True
    learning_rate: float = Field(default=0.05, gt=0.0)
    decay: Literal["none", "linear", "geometric"] = "geometric"
    least_rate: float = Field(default=1e-4, ge=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)

    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the step along the momentum alone."""
        return self.step_each(before, average, state, ())

    def step_each(
        self, before: Tensors, average: Tensors, state: Tensors, senders: Sequence[Sender]
    ) -> tuple[Tensors, Tensors]:
        """Return the average at first, then the step from it, and the new terms."""
        rate, ended = self.rate_of(state)
        new, kept = {}, dict(state)
        for sender in senders:
            for name, sent in sender.upload.items():
                term = (before[name] - sent) / sender.rates - _of(state, f"common/{name}", sent)
                term = term + _of(state, f"own/{sender.client}/{name}", sent)
                _replace(kept, name, sender, term, sender.weight * sender.part)
        terms = controls(before, kept, senders)
        for name, one in average.items():
            delta = before[name] - one
            kept[f"delta/{name}"] = delta
            if f"delta/{name}" not in state:
                new[name], kept[f"v/{name}"] = one, one.new_zeros(one.shape)
                continue
            v = (1.0 - self.momentum) * (state[f"delta/{name}"] - delta)
            v = v + self.momentum * _of(state, f"v/{name}", one)
            if name in terms:
                v = v + terms[name]
            new[name], kept[f"v/{name}"] = one - rate * v, v
        return new, kept | self.counted(ended, next(iter(new.values())))


def controls(like: Tensors, state: Tensors, senders: Sequence[Sender]) -> Tensors:
    """Return of each tensor the common term less the mean of the senders' own."""
    if not senders:
        return {}
    names = list(senders[0].upload)
    own = [{name: _of(state, f"own/{one.client}/{name}", like[name]) for name in names} for one in senders]
    mean = weighted_sum(own, [one.weight for one in senders])
    return {name: _of(state, f"common/{name}", like[name]) - mean[name] for name in names}


def _of(state: Tensors, key: str, like: "Tensor") -> "Tensor":
    """Return what a state has, zero before it has it."""
    return state[key] if key in state else like.new_zeros(like.shape)


def _replace(kept: Tensors, name: str, one: Sender, term: "Tensor", share: float) -> None:
    """Give a client this term, and let the common one take in a share of the change."""
    key, common = f"own/{one.client}/{name}", f"common/{name}"
    kept[common] = _of(kept, common, term) + share * (term - _of(kept, key, term))
    kept[key] = term
