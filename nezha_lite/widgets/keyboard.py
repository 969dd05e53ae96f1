"""Keys that belong to the control in focus, whatever the notebook around it uses them for."""

from __future__ import annotations

import anywidget

CLASS = "nezha-panel"
# Jupyter Notebook 7 hears a key before the control does, and moves between cells with the arrows,
# unless the very element in focus has this attribute.
_MARK_WHAT_IS_IN_FOCUS = f"""
export default {{
  initialize() {{
    const mark = (event) => {{
      if (event.target.closest(".{CLASS}"))
        event.target.setAttribute("data-lm-suppress-shortcuts", "true");
    }};
    document.addEventListener("focusin", mark);
    return () => document.removeEventListener("focusin", mark);
  }},
  render({{ el }}) {{
    el.hidden = true;
  }},
}};
"""


class OwnKeys(anywidget.AnyWidget):
    """Invisible: controls inside elements of class `CLASS` keep their keys."""

    _esm = _MARK_WHAT_IS_IN_FOCUS
