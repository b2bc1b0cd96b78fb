"""Flower applications on our clock: unmodified ServerApp and ClientApp, over the air of a scenario.

::

    import cosim.flower

    run = cosim.flower.run("scenario.toml", server_app, client_app, out="runs/app")
    wider = cosim.whatif(run, {"radio.federated_uplink.bandwidth_hz": 30e6})

Needs Flower: ``pip install 'cosim[flower]'``.
"""

from cosim.flower.application import run as run
from cosim.flower.directory import load_application as load_application
from cosim.flower.directory import run_directory as run_directory

__all__ = ["load_application", "run", "run_directory"]
