"""One test for many cases: to begin a test takes longer than many a look at a case."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import pytest


def each(name: str, cases: Iterable[Any]) -> Callable[[Any], Any]:
    """Let a test, or every test of a class, go over the values of an argument; a fault names its case.

    It is otherwise like ``pytest.mark.parametrize``: for tests whose fixtures one case leaves as they were.
    A test is skipped if all its cases are.
    """
    values = list(cases)

    def folded(test: Any) -> Any:
        if inspect.isclass(test):
            for method in [one for one in vars(test) if one.startswith("test_")]:
                setattr(test, method, folded(vars(test)[method]))
            return test
        signature = inspect.signature(test)

        @wraps(test)
        def of_every_case(*args: Any, **kwargs: Any) -> None:
            skipped = []
            for value in values:
                try:
                    test(*args, **kwargs, **{name: value})
                except pytest.skip.Exception as why:
                    skipped.append(why)
                except Exception as fault:
                    fault.add_note(f"at {name} = {value!r}")
                    raise
            if values and len(skipped) == len(values):
                raise skipped[0]

        rest = [one for one in signature.parameters.values() if one.name != name]
        of_every_case.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
        return of_every_case

    return folded
