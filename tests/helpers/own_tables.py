"""Small tables for the tests of reading one's own data, written where the test stands."""

from pathlib import Path

from nezha_lite.datasets import TableReport, check_tables

GOOD = "user,item,time\nann,1,1\nann,2,2\nann,3,3\n"
ITEMS = "item,title\n1,Mug\n2,Pot\n3,Pan\n"


def checked(orders: str | bytes, items: str | bytes | None = None) -> TableReport:
    for name, content in (("orders.csv", orders), ("items.csv", items)):
        if content is not None:
            Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return check_tables("orders.csv", None if items is None else "items.csv")
