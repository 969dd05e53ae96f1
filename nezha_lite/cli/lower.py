"""A lack of memory as one sentence that says which options to lower."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def lower(*options: str) -> Callable[[Callable[Given, Answer]], Callable[Given, Answer]]:
    """Of a command: on a lack of memory, a MemoryError that names these options of it."""
    *others, last = options
    named = f"{', '.join(others)} or {last}" if others else last

    def of_command(command: Callable[Given, Answer]) -> Callable[Given, Answer]:
        @wraps(command)
        def guarded(*arguments: Given.args, **options: Given.kwargs) -> Answer:
            try:
                return command(*arguments, **options)
            except (MemoryError, RuntimeError) as error:
                from nezha_lite.out_of_memory import out_of_memory

                if not out_of_memory(error):
                    raise
                said = str(error).rstrip(".") if isinstance(error, MemoryError) else ""
                raise MemoryError(f"{said or 'Memory ran out'}; lower {named}.") from error

        return guarded

    return of_command
