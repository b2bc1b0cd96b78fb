"""Energy."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.studies.measures import Measure

if TYPE_CHECKING:
    from cosim.record.folder import Record


class EnergyJ(Measure):
    """Energy of all computing and sending, J; of ``actor`` alone where one is named.

    Attributes
    ----------
    actor
        ``client`` for all clients together, or one actor such as ``client-0``
        or ``main-server``; everybody without it.
    """

    kind: Literal["energy_j"] = "energy_j"
    actor: str | None = None
    unit: ClassVar[str] = "J"
    by_ratio: ClassVar[bool] = True
    examples: ClassVar = ({}, {"actor": "client"}, {"actor": "main-server"})

    @property
    def name(self) -> str:
        return "energy_j" if self.actor is None else f"energy_j of {self.actor}"

    @property
    def is_timed(self) -> bool:
        return True

    def of(self, record: "Record") -> float:
        from math import fsum

        from pyarrow import compute

        if record.is_short:
            return self._of_phases(record)
        spans = record.columns("spans", ("actor", "energy_j"))
        if self.actor is not None:
            by_clients = compute.or_(
                compute.starts_with(spans["actor"], "client-"), compute.equal(spans["actor"], "")
            )
            is_one = compute.equal(spans["actor"], self.actor)
            spans = spans.filter(by_clients if self.actor == "client" else is_one)
        return fsum((*spans["energy_j"].to_numpy(), *self._of_sums(record)))

    def _of_phases(self, record: "Record") -> float:
        """Return it from the summaries of rounds, and of single clients from their totals."""
        from math import fsum

        one = self.actor or ""
        rows = record.columns("totals" if one.startswith("client-") else "phases").to_pylist()
        if one.startswith("client-"):
            rows = [each for each in rows if each["client"] == one and each["sender"] == "client"]
        else:  # the rows of all that clients did have no sender
            rows = [each for each in rows if each["sender"] and one in ("", each["sender"])]
        return fsum(each["energy_j"] for each in rows)

    def _of_sums(self, record: "Record") -> list[float]:
        """Return what one client radiated in what it sent at once with others; their spans have it of all."""
        from pyarrow import compute

        if self.actor in (None, "client"):
            return []
        metrics = record.columns("metrics", ("actor", "name", "value"))
        is_own = compute.equal(metrics["actor"], self.actor)
        radiated = compute.equal(metrics["name"], "tx_energy_j")
        found: list[float] = metrics.filter(compute.and_(is_own, radiated))["value"].to_pylist()
        return found
