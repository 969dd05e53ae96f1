"""Interactions of users with items, in order of time, and the texts of the items.

A data set is a folder of files, the layout of LETTER (Wang et al., CIKM 2024):

- `NAME.inter.json`: `{user: [item, ...]}` in time order; the one file that must exist,
- `NAME.item.json`: `{item: {"title", "brand", "categories", "description"}}`, any key or none,
- `NAME.index.json`: `{item: ["<a_183>", "<b_70>", ...]}`, released semantic IDs,
- `NAME.times.safetensors`, ours: when each interaction happened, which a time split needs.

`read_tables` reads tables of your own and `InteractionDataset.from_frame` data frames;
`write_folder` makes such a folder of them.
"""

from pathlib import Path

from nezha_lite.datasets.dataset import InteractionDataset, Split
from nezha_lite.datasets.download import REGISTRY, fetch
from nezha_lite.datasets.item_text import ItemText, plain_text, shown_text
from nezha_lite.datasets.json_folder import load_folder, part_file, write_folder
from nezha_lite.datasets.own_tables import OwnTables, check_tables
from nezha_lite.datasets.sequences import Sequences
from nezha_lite.datasets.table_layout import TableLayout
from nezha_lite.datasets.table_report import Problem, TableReport
from nezha_lite.datasets.time_split import TimeSplit

__all__ = [
    "DATA_FOLDER",
    "InteractionDataset",
    "ItemText",
    "Problem",
    "Sequences",
    "Split",
    "TableLayout",
    "TableReport",
    "TimeSplit",
    "check_tables",
    "load_dataset",
    "load_folder",
    "plain_text",
    "read_tables",
    "shown_text",
    "write_folder",
]

DATA_FOLDER = Path(__file__).parents[2] / "data"


def load_dataset(
    name_or_folder: str | Path, downloads: str | Path | None = None
) -> InteractionDataset:
    """The committed "sample", a real set ("beauty", "instruments", "yelp"), or your own folder.

    A real set is read from `downloads/<name>/` (default: the repository's git-ignored
    `data/downloads`), and is downloaded first if that folder has no `<name>.inter.json`.

    Raises FileNotFoundError for an unknown name, and what `load_folder` and `fetch` raise.

    >>> load_dataset("sample").n_items
    1512
    """
    name, folder = name_or_folder, Path(name_or_folder)
    if name == "sample":
        folder = DATA_FOLDER / "sample"
        if not folder.is_dir():
            remedy = "clone the repository and install the package from it, 'pip install -e .'"
            raise FileNotFoundError(f"The sample is not at {folder}; {remedy}.")
    elif isinstance(name, str) and name in REGISTRY:
        folder = (DATA_FOLDER / "downloads" if downloads is None else Path(downloads)) / name
        # fetch writes the inter file last, so its presence means a complete download.
        if not (folder.is_dir() and part_file(folder, name, "inter")):
            fetch(name, folder)
    elif not folder.exists():
        names = ", ".join(["sample", *REGISTRY])
        raise FileNotFoundError(f"'{name}' is neither a folder nor one of the data sets {names}.")
    return load_folder(folder)


def read_tables(
    interactions: str | Path,
    items: str | Path | None = None,
    layout: TableLayout | None = None,
    name: str | None = None,
) -> InteractionDataset:
    """Read a data set from two tables, or from the interactions alone.

    A user's rows are put in order of time; rows of equal time keep the file's order, and repeated
    rows are kept. Users and items are in numeric order where all their names are decimal integers,
    else in alphabetical order. Blanks around names and times do not count.

    Args:
        interactions: columns user, item and time; others are ignored. All times are written alike:
            numbers, unix seconds or milliseconds, or ISO 8601.
        items: columns item and one or more of title, brand, categories, description.
        layout: what your columns are called, and how the files are written.
        name: of the data set; by default the interactions file's.

    Raises:
        ValueError: for the first error that `check_tables` lists, with the number of others.
    """
    name = name or Path(interactions).stem.removesuffix(".csv")
    return InteractionDataset(name=name, **OwnTables(interactions, items, layout).fields())
