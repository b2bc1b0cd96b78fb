"""A learned policy: the decisions of a network that was trained on an environment of cosim."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from cosim.control.allocators import Allocator, GainChange
from cosim.control.decision import Allocation
from cosim.control.knobs import PARTICIPATION, SPARSIFICATION_RATIO
from cosim.control.learned import Choice, decoded, flat, seen_by_controller
from cosim.control.policy_file import load
from cosim.control.state import CellState


class Policy(Allocator):
    """What a multilayer perceptron decides on the gains it sees, subchannel by subchannel.

    It runs in any scenario of the shape it was trained on. Each subchannel goes to the client with
    the highest score; every client has one at least, and powers keep all limits.

    Attributes
    ----------
    file
        The policy, as :func:`cosim.control.policy_file.save` writes it (safetensors).
    reallocate
        In every round unless set otherwise, as the environment asks.
    """

    kind: Literal["policy"] = "policy"
    file: Path
    reallocate: Literal["once", "every_round"] | GainChange = "every_round"
    sets_knobs: ClassVar[frozenset[str]] = frozenset({PARTICIPATION.name, SPARSIFICATION_RATIO.name})
    is_for_one_cell: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"file": "policy.safetensors"},)

    @property
    def chooses_rank(self) -> bool:
        """Whether the file has ranks to choose from."""
        return bool(load(self.file).form.ranks)

    def allocate(self, state: CellState) -> Allocation:
        """Return what the policy decides on what it sees."""
        policy = load(self.file)
        policy.form.check(state)
        numbers = policy(flat(seen_by_controller(state)))
        return decoded(state, policy.form, Choice.of_numbers(policy.form, numbers))
