"""Numbers and codes as the plain text of figures and widgets."""

from __future__ import annotations

import math
from collections.abc import Iterable


def number(value: float) -> str:
    """Three significant digits, thousands grouped, an exponent only for very small numbers."""
    if value == 0 or 1e-4 <= abs(value) < 999.5:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1 else f"{value:.2e}"


def percent(share: float) -> str:
    """A share as a percentage of three significant digits."""
    return f"{number(100 * share)} %"


def probability(log_prob: float) -> str:
    """exp(log_prob) as a percentage of two digits."""
    share = 100 * math.exp(log_prob)
    return f"{share:.2g} %" if share < 99.5 else "100 %"  # not 1e+02


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 item", "2,000 items"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def code_text(codes: Iterable[int]) -> str:
    """Codes as they are written everywhere: "1-2-3"."""
    return "-".join(map(str, codes))
