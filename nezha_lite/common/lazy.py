"""Names of a package that are imported at their first use, because their module loads slowly."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_names(package: str, **modules: str) -> Callable[[str], Any]:
    """The `__getattr__` (PEP 562) of a package some of whose names are imported when asked for.

    >>> lazy_names("json", JSONDecoder="decoder")("JSONDecoder").__name__
    'JSONDecoder'

    Args:
        package: its name.
        modules: for each such name the module below the package that has it.
    """

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return attribute
