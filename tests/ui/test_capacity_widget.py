"""The capacity planner in its lesson, driven with the keyboard and the mouse in JupyterLab."""

import re
from collections.abc import Callable

from playwright.sync_api import Locator, expect

from tests.ui.lab import Notebook
from tests.ui.toy_notebooks import control_of, shoot, slide, value_of, widget_in

LESSON = "10_capacity_planning.ipynb"


def cells(box: Locator, decoder: str) -> list[str]:
    """What the table says about a decoder: p50, p99, queue, in time, busy, servers needed."""
    row = box.locator("tbody tr", has=box.page.get_by_role("rowheader", name=decoder, exact=True))
    return row.locator("td").all_inner_texts()


def lines(box: Locator) -> int:
    """Drawn lines of the figure of response times, its deadline included."""
    return box.locator(".js-plotly-plot").nth(1).locator(".scatterlayer path.js-line").count()


def test_the_planner_in_its_lesson(open_notebook: Callable[[str], Notebook]) -> None:
    notebook = open_notebook(LESSON)
    notebook.run_all()
    box = widget_in(notebook, "Decoder")
    title = box.locator(".gtitle")
    expect(box.get_by_text("NEZHA needs 1 server for 100 requests a second")).to_be_visible()
    expect(title.nth(0)).to_contain_text("Servers for 100 requests a second")
    expect(title.nth(1)).to_contain_text("Response times with 4 servers")
    expect(title.nth(1)).to_contain_text("Overloaded, without a line:")
    expect(title.nth(1)).to_contain_text("generate, constrained; paper: before NEZHA.")
    few, many = (int(cells(box, name)[-1]) for name in ("NEZHA", "generate, constrained"))
    assert few < many
    assert int(cells(box, "paper: NEZHA")[-1]) < int(cells(box, "paper: before NEZHA")[-1])
    before = lines(box)
    shoot(box, "lesson-10-first")

    slide(box, "Decoder", "ArrowRight", 2)
    assert value_of(box, "Decoder") == "generate, constrained"
    expect(box.get_by_text(f"generate, constrained needs {many} servers")).to_be_visible()
    expect(box.get_by_text("so the queue grows without end")).to_be_visible()

    slide(box, "Deadline", "ArrowLeft", 3)
    expect(box.get_by_text("cannot keep 99 % within 100 ms")).to_be_visible()
    expect(title.nth(0)).to_contain_text("within 100 ms")
    expect(box.locator(".textpoint", has_text="too slow even without a queue")).to_have_count(2)
    assert cells(box, "generate, constrained")[-1] == "✕"

    # With the mouse: the right end of the track is the largest number of servers.
    track = control_of(box, "Servers").locator(".noUi-base")
    size = track.bounding_box()
    assert size is not None
    track.click(position={"x": size["width"] - 1, "y": size["height"] / 2})
    assert value_of(box, "Servers") == "1,024"
    expect(title.nth(1)).to_contain_text("Response times with 1,024 servers")
    expect(title.nth(1)).not_to_contain_text("Overloaded")
    expect(box.get_by_text("0 % keep the deadline")).to_be_visible()
    for _ in range(50):
        if lines(box) == before + 2:
            break
        notebook.page.wait_for_timeout(200)
    assert lines(box) == before + 2, "nobody is overloaded any more"
    shoot(box, "lesson-10-many-servers")

    slide(box, "Requests / s", "End")
    slide(box, "Servers", "Home")
    slide(box, "Decoder", "End")
    expect(title.nth(0)).to_contain_text("Servers for 1,000 requests a second")
    expect(box.get_by_text(re.compile("^Overloaded: 21 times as much arrives"))).to_be_visible()
    expect(title.nth(1)).to_contain_text("without a line: all.")
    alone = int(cells(box, "example")[-1])
    slide(box, "Largest batch", "End")
    assert value_of(box, "Largest batch") == "32"
    expect(box.get_by_text(re.compile("^Overloaded: 1.62 times as much arrives"))).to_be_visible()
    batched = int(cells(box, "example")[-1])
    assert batched < alone
    shoot(box, "lesson-10-batched")
