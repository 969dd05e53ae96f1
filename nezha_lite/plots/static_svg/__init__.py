"""Static pictures of figures, for pages that run no JavaScript, and for tests that compare them.

`figure_svg` draws one figure, `page_svg` figures and paragraphs below each other. The other names
measure and shorten text by the same widths.
"""

from nezha_lite.plots.static_svg.elements import plain, shortened, text_width, wrapped
from nezha_lite.plots.static_svg.figure import EDGE, WIDTH, figure_svg, page_svg

__all__ = ["EDGE", "WIDTH", "figure_svg", "page_svg", "plain", "shortened", "text_width", "wrapped"]
