"""Values that may differ between clients: a number, or a distribution each client draws from once."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from cosim.parts import Table
from cosim.rng import Stream
from cosim.words import short


def _not_tiny(value: float) -> float:
    if value < LEAST:
        raise ValueError(f"should be at least {LEAST:g}, got {value:g}")
    return value


LEAST, MOST = 1e-9, 1e30
"""Beyond them the clock could not count the time a device takes."""

Positive = Annotated[float, Field(gt=0.0, le=MOST), AfterValidator(_not_tiny)]


class Constant(Table):
    """The same value for everybody; a plain number in a file."""

    kind: Literal["constant"] = "constant"
    value: Positive

    def draw(self, stream: Stream) -> float:
        """Return the value."""
        return self.value


class Uniform(Table):
    """Uniform between ``low`` and ``high``."""

    kind: Literal["uniform"] = "uniform"
    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low <= high must hold, got low = {self.low} and high = {self.high}")
        return self

    def draw(self, stream: Stream) -> float:
        """Return one draw."""
        return float(stream.generator().uniform(self.low, self.high))


class LogNormal(Table):
    """Log-normal with this ``median``; ``sigma`` is the standard deviation of the natural logarithm."""

    kind: Literal["log_normal"] = "log_normal"
    median: Positive
    sigma: Annotated[float, Field(ge=0.0)]

    def draw(self, stream: Stream) -> float:
        """Return one draw."""
        return float(self.median * stream.generator().lognormal(0.0, self.sigma))


class Choice(Table):
    """One of ``values``, with equal chances or with ``weights``."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Positive, ...], Field(min_length=1)]
    weights: tuple[Positive, ...] | None = None

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.values):
            raise ValueError(f"{len(self.values)} values need as many weights, got {len(self.weights)}")
        return self

    def draw(self, stream: Stream) -> float:
        """Return one draw."""
        weights = None if self.weights is None else [weight / sum(self.weights) for weight in self.weights]
        return float(stream.generator().choice(self.values, p=weights))


def _from_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "constant", "value": value}
    if isinstance(value, dict | Constant | Uniform | LogNormal | Choice):
        return value
    if isinstance(value, list | tuple):
        raise ValueError(
            "must be a number, or a distribution of one, got a list; "
            'of some values each client draws one by { kind = "choice", values = [...] }'
        )
    raise ValueError(
        f'must be a number, or a distribution such as {{ kind = "uniform", low = 1e9, high = 2e9 }}, '
        f"got {short(value)}"
    )


def _to_number(value: Any) -> Any:
    return value.value if isinstance(value, Constant) else value.model_dump()


Value = Annotated[
    Annotated[Constant | Uniform | LogNormal | Choice, Field(discriminator="kind")],
    BeforeValidator(_from_number, json_schema_input_type=float | Uniform | LogNormal | Choice),
    PlainSerializer(_to_number),
]
"""A positive number, or a distribution of one."""


def constant(value: float) -> Constant:
    """Return the distribution that is always ``value``."""
    return Constant(value=value)
