"""Event-driven co-simulation of split federated LoRA training and an OFDMA cell, on one clock.

::

    import cosim

    run = cosim.run("scenarios/quickstart.toml")
    wider = cosim.whatif(run, {"radio.main_uplink.bandwidth_hz": 30e6})
    cosim.compare(run, wider)
    cosim.plot.timeline(wider, rounds=(1, 2))

What is named here is kept stable. It is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosim import plot
    from cosim.errors import CosimError
    from cosim.interface import compare, load, open_run, open_study, resume, run, scenarios, study, whatif
    from cosim.scenario.settings import Scenario

__all__ = [
    "CosimError",
    "Scenario",
    "compare",
    "load",
    "open_run",
    "open_study",
    "plot",
    "resume",
    "run",
    "scenarios",
    "study",
    "whatif",
]

_ELSEWHERE = {"CosimError": "errors", "Scenario": "scenario.settings", "plot": "plot"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cosim' has no attribute {name!r}")
    from importlib import import_module

    # no module is named by a constant, or keys of stored values would hold the code of all that is offered
    found = import_module(f"{__name__}.{_ELSEWHERE.get(name, 'interface')}")
    return found if name == "plot" else getattr(found, name)


def __dir__() -> list[str]:
    return sorted(__all__)
