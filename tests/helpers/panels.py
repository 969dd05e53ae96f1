"""What a panel consists of, however deep in rows and columns."""

from collections.abc import Iterator

import ipywidgets


def parts(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """All widgets within a widget, itself left out."""
    for child in getattr(widget, "children", ()):
        yield child
        yield from parts(child)


def controls(widget: ipywidgets.Widget) -> dict[str, ipywidgets.Widget]:
    """Everything within a widget that has a description, by it."""
    return {part.description: part for part in parts(widget) if getattr(part, "description", "")}


def shown_html(widget: ipywidgets.Widget) -> str:
    """All texts and tables within a widget."""
    return "".join(part.value for part in parts(widget) if isinstance(part, ipywidgets.HTML))
