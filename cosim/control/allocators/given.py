"""Given shares: a table in the scenario."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import even_powers
from cosim.control.decision import Allocation
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.parts import Table
from cosim.radio.grant import Grant

Subchannel = Annotated[int, Field(ge=0)]
Watt = Annotated[float, Field(ge=0.0)]


class GivenLink(Table):
    """The table of one link.

    Attributes
    ----------
    subchannels
        A list of subchannels for each client, in the order of the clients.
    tx_power_w
        Each client's power over all its subchannels, W, or a list with one
        power per subchannel; without it every client sends at its limit.
    """

    subchannels: tuple[tuple[Subchannel, ...], ...]
    tx_power_w: tuple[Watt | tuple[Watt, ...], ...] | None = None


class Given(Allocator):
    """Exactly the subchannels and powers of a table; what breaks a limit is refused, not mended."""

    kind: Literal["given"] = "given"
    serves_tasks: ClassVar[bool] = True
    is_for_one_cell: ClassVar[bool] = True
    links: Mapping[str, GivenLink]
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "links": {
                "main_uplink": {"subchannels": [[0, 2], [1]], "tx_power_w": [0.1, [0.05]]},
                "federated_uplink": {"subchannels": [[0], [1]]},
            }
        },
    )

    def allocate(self, state: CellState) -> Allocation:
        """Return the table as grants."""
        missing = sorted(set(state.links) - set(self.links))
        if missing:
            raise AllocationError(f"the given allocation has no table for {', '.join(missing)}.")
        grants = {name: _grants(link, self.links[name]) for name, link in state.links.items()}
        return Allocation(grants, state.cut_layer, state.lora_rank)


def _grants(link: LinkState, given: GivenLink) -> tuple[Grant, ...]:
    powers = even_powers(link).tolist() if given.tx_power_w is None else given.tx_power_w
    if not len(given.subchannels) == len(powers) == link.num_clients:
        raise AllocationError(
            f"{link.name}: the given allocation lists {len(given.subchannels)} clients and "
            f"{len(powers)} powers; "
            f"the cell has {link.num_clients} clients."
        )
    return tuple(
        _grant(link.name, *row)
        for row in zip(range(link.num_clients), given.subchannels, powers, strict=True)
    )


def _grant(link: str, client: int, subchannels: tuple[int, ...], power: float | tuple[float, ...]) -> Grant:
    if len(set(subchannels)) < len(subchannels):
        raise AllocationError(f"{link}: client {client} is given a subchannel twice: {list(subchannels)}.")
    numbers = np.array(subchannels, dtype=np.int64)
    if not isinstance(power, tuple):
        return Grant.spread(numbers, power)
    if len(power) != len(subchannels):
        raise AllocationError(
            f"{link}: client {client} is given {len(power)} powers for {len(subchannels)} subchannels."
        )
    order = np.argsort(numbers)
    return Grant(numbers[order], np.array(power)[order])
