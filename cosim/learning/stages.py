"""Stages of a training: what is trained first, for how long, and how the next stage takes over."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field, field_serializer

from cosim.errors import ScenarioError
from cosim.learning.handover import Handover
from cosim.learning.handover.svd import Svd
from cosim.learning.optimizer import Optimizer
from cosim.learning.shape import ModelShape
from cosim.learning.trainable import Trainable
from cosim.parts import OneOf, Table


class Stage(Table):
    """A stage ahead of the last one, which is the scenario's own ``[lora]`` or ``[trainable]``.

    Attributes
    ----------
    num_rounds
        Rounds it lasts, of those of the scheme.
    trainable
        What is trained meanwhile.
    optimizer
        The clients' meanwhile; without it that of ``[training]``.
    handover
        How the next stage takes over; what the optimiser and the server remember starts again.
    """

    num_rounds: int = Field(gt=0)
    trainable: Annotated[Trainable, OneOf(Trainable)]
    optimizer: Annotated[Optimizer | None, OneOf(Optimizer)] = None
    handover: Annotated[Handover, OneOf(Handover)] = Svd.default()

    @field_serializer("trainable")
    def _with_its_kind(self, trainable: Trainable) -> dict[str, Any]:
        return {"kind": trainable.kind, **trainable.model_dump(mode="json")}


def check_stages(stages: Sequence[Stage], last: Trainable, shape: ModelShape, dtype: str) -> None:
    """Refuse stages that cannot be trained, or that no stage can take over from.

    Raises
    ------
    ScenarioError
        Naming the stage and the way out.
    """
    trained = [*(one.trainable for one in stages), last]
    if stages and any(one.has_factors and not one.adds_products for one in trained):
        raise ScenarioError(
            "scheme.stages: the magnitudes of DoRA are handed over to no stage, and taken over from none; "
            "leave out use_dora, or train one thing for the whole run."
        )
    for number, (now, then) in enumerate(pairwise(trained)):
        place = f"scheme.stages.{number}.trainable"
        try:
            now.check(shape, dtype, is_cut=False)
        except ScenarioError as fault:
            raise ScenarioError(f"scheme.stages.{number}: {fault}") from None
        changed = now.layers(shape)
        if not changed:
            raise ScenarioError(
                f"{place}: {now.kind!r} changes more than linear layers, and LoRA adapters take over from "
                "those alone; take 'sparse' or 'lora', or train one thing for the whole run."
            )
        if not then.has_factors:
            raise ScenarioError(
                f"{place}: {now.kind!r} is handed over to LoRA adapters, and what follows is {then.kind!r}; "
                "train [lora] after it."
            )
        if without := sorted(changed.keys() - then.layers(shape).keys()):
            raise ScenarioError(
                f"{place}: changes {without[0]!r}, which has no adapter afterwards; give both the same "
                "target_modules and blocks."
            )
