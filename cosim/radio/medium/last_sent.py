"""When each client last sent, which a tail of its radio is charged by."""

from cosim.radio.uplink_energy import UplinkEnergy


class LastSent:
    """When the last uplink transmission of each client ended."""

    def __init__(self) -> None:
        self._until_ns: dict[int, int] = {}

    def total_j(
        self,
        costs: UplinkEnergy,
        client: int,
        radiated_j: float,
        bits: float,
        start_ns: int,
        end_ns: int,
        away_ns: int = 0,
    ) -> float:
        """Return what a client's transmission costs, J; it is its last from now on.

        Parameters
        ----------
        costs
            What sending costs beyond what is radiated.
        radiated_j, bits
            What it radiated, and its size.
        start_ns, end_ns, away_ns
            When it began and ended, and for how long it paused meanwhile.
        """
        until_ns, self._until_ns[client] = self._until_ns.get(client), end_ns
        idle_ns = None if until_ns is None else start_ns - until_ns
        return costs.total_j(radiated_j, bits, end_ns - start_ns - away_ns, idle_ns)
