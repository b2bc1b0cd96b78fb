"""Parts that are about the factors and ranks of LoRA adapters, where none are trained."""

from collections.abc import Iterator
from typing import Any

from cosim.errors import ScenarioError
from cosim.learning.aggregator import Aggregator
from cosim.learning.codec import Codec
from cosim.learning.regularizer import Regularizer
from cosim.parts import Part, kinds_that
from cosim.scenario.settings import Scenario


def parts_of_factors(scenario: Scenario) -> Iterator[ScenarioError]:
    """Return a fault for every part of the scheme, and an allocator, that mean nothing without factors.

    In an earlier stage aggregators average what has no factors as it is, and ranks are not of that stage.
    """
    for number, stage in enumerate(scenario.scheme.earlier_stages):
        if not stage.trainable.has_factors:
            has_none = f"scheme.stages.{number}.trainable.kind = {stage.trainable.kind!r} has none"
            yield from _without_factors(scenario, (Codec, Regularizer), has_none)
    trained = scenario.trained
    if trained.has_factors:
        average = scenario.scheme.averaging
        if average.averages_products and not trained.adds_products:
            able = kinds_that(Aggregator, lambda part: not part.averages_products)
            yield ScenarioError(
                f"scheme.aggregator: {average.kind!r} averages products of factors, and with magnitudes the "
                f"mean model has another; take one of {able}, or leave out lora.use_dora."
            )
        return
    has_none = f"trainable.kind = {trained.kind!r} has none"
    yield from _without_factors(scenario, (Aggregator, Codec, Regularizer), has_none)
    if scenario.scheme.averaging.client_ranks is not None:
        yield ScenarioError(
            f"scheme.aggregator.client_ranks: are ranks of LoRA adapters, and {has_none}; "
            "leave them out, or train [lora]."
        )
    if scenario.allocator.chooses_rank:
        yield ScenarioError(
            f"allocator: {scenario.allocator.kind!r} as it is set chooses the rank of LoRA adapters, and "
            f"{has_none}; leave out lora_ranks, rounds_to_target and rounds_table, or train [lora]."
        )


def _without_factors(
    scenario: Scenario, bases: tuple[type[Part], ...], has_none: str
) -> Iterator[ScenarioError]:
    """Return a fault for every part of the scheme, of these families, that is about factors."""
    for name in type(scenario.scheme).model_fields:
        part = getattr(scenario.scheme, name)
        for base in bases:
            if isinstance(part, base) and not _lacks_factors(part):
                able = kinds_that(base, _lacks_factors)
                yield ScenarioError(
                    f"scheme.{name}: {part.kind!r} is about the factors of LoRA adapters, and {has_none}; "
                    f"take one of {able}, or train [lora]."
                )


def _lacks_factors(part: Any) -> bool:
    lacks: bool = not part.needs_factors
    return lacks
