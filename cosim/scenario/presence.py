"""What clients that come and go, and servers that restart, ask of scheme and medium."""

from collections.abc import Iterator

from cosim.errors import ScenarioError
from cosim.parts import kinds_that
from cosim.radio.medium import Medium
from cosim.scenario.settings import Scenario
from cosim.schemes import Scheme


def unfit_presence(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse who leaves where the medium cannot pause, or the scheme cannot go on without it."""
    availability, medium, scheme = scenario.availability, scenario.radio.medium, scenario.scheme
    restarts = scenario.main_server.restarts or scenario.federated_server.restarts
    if (availability or restarts) and not medium.lets_leave:
        able = kinds_that(Medium, lambda part: part.lets_leave)
        yield ScenarioError(
            f"{'availability' if availability else 'main_server.restarts'}: transmissions of the medium "
            f"{medium.kind!r} cannot be cut; take one whose can: {able}."
        )
    if availability is None:
        return
    try:
        availability.check(scenario.num_clients)
    except ScenarioError as fault:
        yield fault
    if availability.at_start == "skip" and not scheme.skips_absent:
        able = kinds_that(Scheme, lambda part: part.skips_absent)
        yield ScenarioError(
            f"availability.at_start: the scheme {scheme.kind!r} has no rounds that begin without somebody; "
            f"set 'wait', or take a scheme that has: {able}."
        )
    if availability.on_leave != "drop":
        return
    if any(medium.sums(link) for link in scheme.links):
        yield ScenarioError(
            "availability.on_leave: 'drop' gives up what a client sends, and in a sum over the medium "
            f"{medium.kind!r} nobody's part can be given up by itself; set 'restart', or take 'fluid'."
        )
        return
    lacking = next((link.name for link in scheme.links if link.is_uplink and not link.takes_losses), None)
    if lacking is not None:
        able = kinds_that(
            Scheme, lambda part: all(one.takes_losses for one in part.links if one.is_uplink) and part.links
        )
        yield ScenarioError(
            f"availability.on_leave: 'drop' loses what is sent over {lacking}, and the scheme "
            f"{scheme.kind!r} cannot go on without it; set 'resume' or 'restart', or "
            f"take a scheme that can: {able}."
        )
    elif scheme.rule.has_variates:
        yield ScenarioError(
            f"availability.on_leave: 'drop' loses what a client has learned, and {scheme.rule.kind!r} keeps "
            "a term of it at the server; set 'resume' or 'restart', or another scheme.local_rule."
        )
    elif any(scheme.multicasts(link.name) for link in scheme.links):
        yield ScenarioError(
            "scheme.downlink: 'multicast' sends once for all, and with availability.on_leave = 'drop' one "
            "that leaves would cut all; set 'unicast', or on_leave = 'resume'."
        )
