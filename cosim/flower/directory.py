"""The directory of a Flower application: its components and settings, as ``pyproject.toml`` names them."""

import sys
import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from cosim.errors import ScenarioError, quoted
from cosim.flower.application import RunConfig, run
from cosim.flower.clients import Seconds
from cosim.record.folder import Record
from cosim.scenario.settings import Scenario


def run_directory(
    scenario: Scenario | Path | str,
    directory: Path | str,
    *,
    out: Path | str,
    seconds: Seconds | None = None,
    run_config: RunConfig | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Record:
    """Run the Flower application of a directory, as :func:`cosim.flower.run` does.

    ``run_config`` replaces settings of its ``pyproject.toml``, by dotted names.

    Raises
    ------
    CosimError
        As there, or if the directory holds no Flower application.
    """
    name, server_app, client_app, config = load_application(directory)
    return run(
        *(scenario, server_app, client_app),
        out=out,
        name=name,
        seconds=seconds,
        run_config={**config, **_known(run_config or {}, config)},
        changes=changes,
    )


def _known(changes: RunConfig, config: Mapping[str, Any]) -> RunConfig:
    for name in changes:
        if name not in config:
            raise ScenarioError(
                f"run_config: the application has no {quoted(name)}; "
                f"known: {', '.join(sorted(config)) or 'none'}."
            )
    return changes


def load_application(directory: Path | str) -> tuple[str, ServerApp, ClientApp, dict[str, Any]]:
    """Return name, server, client and settings (with dotted names) of the application in a directory.

    The directory is put on ``sys.path``, as Flower does.

    Raises
    ------
    ScenarioError
        If there is no ``pyproject.toml`` with ``[tool.flwr.app.components]``, or it names what is not there.
    """
    path = Path(directory) / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))
        app = project["tool"]["flwr"]["app"]
        places = app["components"]["serverapp"], app["components"]["clientapp"]
    except (OSError, tomllib.TOMLDecodeError) as fault:
        raise ScenarioError(f"{path}: cannot be read: {fault}; name the directory of a Flower app.") from None
    except (KeyError, TypeError):
        raise ScenarioError(
            f"{path}: has no serverapp and clientapp in [tool.flwr.app.components]; name the directory of a "
            "Flower app."
        ) from None
    if (folder := str(Path(directory).resolve())) not in sys.path:
        sys.path.insert(0, folder)
    server_app, client_app = (_component(path, place) for place in places)
    return (
        project.get("project", {}).get("name", "flower"),
        server_app,
        client_app,
        _flat(app.get("config", {})),
    )


def _component(path: Path, place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as fault:
        raise ScenarioError(
            f"{path}: {place!r} needs the module {fault.name!r}, which is not there."
        ) from None
    except AttributeError:
        raise ScenarioError(f"{path}: {module} has no {name!r}; write 'MODULE:NAME' of the app.") from None


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(_flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value})
    return flat
