"""Momentum and control terms at the server as the authors of FedPepTAO have them in their code."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from cosim.learning.server_optimizer import Sender, Tensors
from cosim.learning.server_optimizer.control_terms import controls, replace_term, term_of
from cosim.learning.server_optimizer.decaying import Decaying


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
                term = (before[name] - sent) / sender.rates - term_of(state, f"common/{name}", sent)
                term = term + term_of(state, f"own/{sender.client}/{name}", sent)
                replace_term(kept, name, sender, term, sender.weight * sender.part)
        terms = controls(before, kept, senders)
        for name, one in average.items():
            delta = before[name] - one
            kept[f"delta/{name}"] = delta
            if f"delta/{name}" not in state:
                new[name], kept[f"v/{name}"] = one, one.new_zeros(one.shape)
                continue
            v = (1.0 - self.momentum) * (state[f"delta/{name}"] - delta)
            v = v + self.momentum * term_of(state, f"v/{name}", one)
            if name in terms:
                v = v + terms[name]
            new[name], kept[f"v/{name}"] = one - rate * v, v
        return new, kept | self.counted(ended, next(iter(new.values())))
