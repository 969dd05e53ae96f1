"""One test over many files of the repository: it goes on after a failure and names all of them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest


def for_each(
    subjects: Mapping[str, tuple[Any, ...]],
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Turn a check of one subject into one test of all, which lists every subject that fails.

    Args:
        subjects: name → arguments of the check. An empty mapping is an error: it tests nothing.
    """
    assert subjects, "there is nothing to check"

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            failures = []
            for name, arguments in subjects.items():
                try:
                    check(*arguments)
                except Exception as error:
                    failures.append(f"{name}: {type(error).__name__}: {error}")
            if failures:
                pytest.fail("\n\n".join(failures), pytrace=False)

        # Not functools.wraps: pytest would take the arguments of the check for fixtures.
        test.__name__, test.__doc__ = check.__name__, check.__doc__
        test.__module__ = check.__module__
        return test

    return decorate
