"""Several tasks in one scenario: which tables a task has of its own, and which all of them share."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.trainable import Trainable
from cosim.learning.trainable.lora import Lora
from cosim.parts import OneOf, Table
from cosim.schemes import Scheme

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_WHAT_IS_TRAINED = ("lora", "trainable")

TABLES = ("scheme", "model", "lora", "data", "training")
"""Tables that are either at the top or in every task; ``trainable`` is another form of ``lora``."""


class TaskTables(Table):
    """What a task does not share with the others; a table left out is that of the scenario.

    Attributes
    ----------
    scheme, model, data, training
        Who trains what on which data, how.
    lora, trainable
        What is trained, as at the top of a scenario.
    """

    scheme: Annotated[Scheme | None, OneOf(Scheme)] = None
    model: Model | None = None
    lora: Lora | None = None
    trainable: Annotated[Trainable | None, OneOf(Trainable)] = None
    data: Data | None = None
    training: TrainingSettings | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The tables it has."""
        tables = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: table for name, table in tables.items() if table is not None}


def _fit_names(tasks: dict[str, TaskTables]) -> dict[str, TaskTables]:
    alike: dict[str, str] = {}
    for name in tasks:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a task: it names a folder, so give it 1 to 64 letters, digits, - "
                "and _, the first a letter or a digit"
            )
        if name.lower() in alike:
            raise ValueError(
                f"{alike[name.lower()]!r} and {name!r} differ in case alone, and so do their folders; "
                "give one of them another name"
            )
        alike[name.lower()] = name
    return tasks


Tasks = Annotated[dict[str, TaskTables], AfterValidator(_fit_names)]
"""The tasks of a scenario by their names."""


def spread(given: Mapping[str, Any], default: Callable[[str], Any]) -> dict[str, Any]:
    """Return a scenario as a file has it, with each table either at the top or in every task.

    A task without a table that another task has gets the default, and a default at the top makes
    way, as a scenario written out has them all.

    Parameters
    ----------
    default
        Returns that of a table, as a file would have it.

    Raises
    ------
    ValueError
        If a table is in both places.
    """
    tasks = given.get("tasks")
    if not isinstance(tasks, Mapping) or not all(isinstance(one, Mapping) for one in tasks.values()):
        return dict(given)
    filled = {name: short_form(table) for name, table in tasks.items()}
    top = dict(given)
    for table in TABLES:
        which = _WHAT_IS_TRAINED if table == "lora" else (table,)
        having = [name for name, task in filled.items() if not task.keys().isdisjoint(which)]
        at_top = next((one for one in which if one in given and given[one] != default(one)), None)
        if having and at_top is not None:
            raise ValueError(
                f"[{at_top}] was given for all tasks, and tasks.{having[0]} has one of its own; give it once "
                f"for all, or in each task: tasks.{having[0]}.{at_top} and so on"
            )
        if having:
            top = {name: one for name, one in top.items() if name not in which}
            for name, task in filled.items():
                filled[name] = task if name in having else {**task, table: default(table)}
    return {**top, "tasks": filled}


def short_form(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables whose ``[trainable]`` is its short form ``[lora]`` where it is that kind.

    Raises
    ------
    ValueError
        If both are given.
    """
    trainable = tables.get("trainable")
    if not isinstance(trainable, Mapping):
        return dict(tables)
    if "lora" in tables:
        raise ValueError(
            "[lora] and [trainable] were both given, and either says what is trained; leave one of them "
            """out ([lora] is short for [trainable] with kind = "lora")"""
        )
    if trainable.get("kind") != "lora":
        return dict(tables)
    rest = {name: value for name, value in tables.items() if name != "trainable"}
    return {**rest, "lora": {name: value for name, value in trainable.items() if name != "kind"}}
