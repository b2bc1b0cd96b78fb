"""The distribution that this package is of: it has another name on the package index than the import."""

from functools import cache
from importlib import metadata

NAME = "cosim-fl"
"""``cosim`` on the index is a project of somebody else."""


@cache
def own_version() -> str:
    """Return the version of cosim in this process; ``0+unknown`` where it runs without being installed."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "0+unknown"


def version_of(name: str) -> str:
    """Return the version of a library by its name, of cosim by ``cosim``; "not installed" for none.

    What only times a run does without torch.
    """
    try:
        return own_version() if name == "cosim" else metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def release_of(version: str) -> str:
    """Return the release a version is of or leads to: commits between two releases have one.

    Examples
    --------
    >>> release_of("0.2.dev14+g1234567"), release_of("0.2")
    ('0.2', '0.2')
    """
    return version.partition("+")[0].partition(".dev")[0]
