"""A private part that never leaves its client; the rest is averaged."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import masked_mean, weighted_sum
from cosim.learning.parameters import Parameter

_HEAD = ("head", "classifier")


class Personal(Aggregator):
    """Everything is trained; what is private stays on its client, the rest is averaged, weighted by data.

    Every client then has a model of its own. What is evaluated is the mean of their figures, weighted by
    data, and what is saved in the end is the mean of their models, which no device holds. Where units of
    the model are left out, the mean of each number is over those who trained it, and a number nobody
    trained stays.

    Attributes
    ----------
    private
        What is private: ``head``, the head or classifier where it is trained; or any part of a dotted
        name, such as ``lora_B``, ``attn``, ``mlp.c_proj`` or ``h.3``.

    Source
    ------
    Liu et al., "Adaptive model pruning and personalization for federated learning over wireless networks",
    IEEE TSP 2024, arXiv 2309.01816: a shared part, pruned and averaged, and a personal one (seen in the
    abstract); the mean per number is re-derived (method card 6). With ``lora_B`` it is FedSA-LoRA.
    """

    kind: Literal["personal"] = "personal"
    needs_factors: ClassVar[bool] = False
    takes_masks: ClassVar[bool] = True
    is_personal: ClassVar[bool] = True
    private: tuple[Annotated[str, Field(min_length=1)], ...] = Field(default=("lora_B",), min_length=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"private": ["attn"]})

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """The sum is enough; with masks it is one of weights too."""
        return "linear"

    def private_of(self, parameters: Collection[Parameter], num_layers: int) -> frozenset[str]:
        """Return the names of what is private of what is trained."""
        found = frozenset[str]()
        for part in self.private:
            names = {one.name for one in parameters if _is_meant(one, part)}
            if not names:
                raise ScenarioError(
                    f"scheme.aggregator.private: {part!r} is a part of nothing that is trained, such as "
                    f"{parameters_named(parameters)}; name a part of those, or take the aggregator 'fedavg'."
                )
            found |= names
        if len(found) == len(parameters):
            raise ScenarioError(
                f"scheme.aggregator.private: {', '.join(self.private)} is everything that is trained, and "
                "nothing is left to be averaged; let a part of it be shared."
            )
        return found

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of what is shared; what is private is as it was drawn, the server hears of none."""
        if server.masks is None:
            return Average(server.adapter | weighted_sum(uploads, weights), {})
        known = {name: server.adapter[name] for name in uploads[0]}
        return Average(server.adapter | masked_mean(uploads, weights, server.masks, known), {})


def parameters_named(parameters: Collection[Parameter]) -> str:
    """Return the first and the last name of some parameters, for a message."""
    names = [one.name for one in parameters]
    return " or ".join(dict.fromkeys((names[0], names[-1])))


def _is_meant(one: Parameter, part: str) -> bool:
    return (part == "head" and one.role in _HEAD) or f".{part}." in f".{one.name}."
