"""Momentum and control terms at the server alone, from the updates of those who took part."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.server_optimizer import Sender, Tensors
from cosim.learning.server_optimizer.control_terms import controls, replace_term
from cosim.learning.server_optimizer.decaying import Decaying


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
                    replace_term(kept, name, sender, before[name] - sent, sender.share)
        return new, kept | self.counted(ended, next(iter(new.values())))
