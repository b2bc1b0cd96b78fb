"""Parts that are about the factors and ranks of LoRA adapters, where none are trained."""

from collections.abc import Iterator

from cosim.errors import ScenarioError
from cosim.learning.aggregator import Aggregator
from cosim.learning.codec import Codec
from cosim.learning.regularizer import Regularizer
from cosim.parts import kinds_that
from cosim.scenario.settings import Scenario


def parts_of_factors(scenario: Scenario) -> Iterator[ScenarioError]:
    """Return a fault for every part of the scheme, and an allocator, that mean nothing without factors."""
    trained = scenario.trained
    if trained.has_factors:
        return
    has_none = f"trainable.kind = {trained.kind!r} has none"
    for name in type(scenario.scheme).model_fields:
        part = getattr(scenario.scheme, name)
        for base in (Aggregator, Codec, Regularizer):
            if isinstance(part, base) and part.needs_factors:
                able = kinds_that(base, lambda one: not one.needs_factors)
                yield ScenarioError(
                    f"scheme.{name}: {part.kind!r} is about the factors of LoRA adapters, and {has_none}; "
                    f"take one of {able}, or train [lora]."
                )
        if isinstance(part, Aggregator) and part.client_ranks is not None:
            yield ScenarioError(
                f"scheme.{name}.client_ranks: are ranks of LoRA adapters, and {has_none}; "
                "leave them out, or train [lora]."
            )
    if scenario.allocator.chooses_rank:
        yield ScenarioError(
            f"allocator: {scenario.allocator.kind!r} as it is set chooses the rank of LoRA adapters, and "
            f"{has_none}; leave out lora_ranks, rounds_to_target and rounds_table, or train [lora]."
        )
