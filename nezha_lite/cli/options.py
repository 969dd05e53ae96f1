"""What several commands share: options, reading what they name, and keeping results."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
import typer
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.common.memory import out_of_memory
from nezha_lite.common.results import ResultRow, write_results
from nezha_lite.datasets import InteractionDataset, ItemText, load_dataset
from nezha_lite.datasets.json_folder import read_texts
from nezha_lite.decoding import Verification
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.collisions import Collisions
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.semantic_ids.outside import VECTOR_FILES, read_names, read_vectors
from nezha_lite.semantic_ids.quantizers import QUANTIZERS
from nezha_lite.semantic_ids.tokenizer import TokenizerConfig, default_vectors

Data = Annotated[str, typer.Argument(help="sample, beauty, instruments, yelp, or a folder")]
Folder = Annotated[Path, typer.Argument(help="folder written by `train`")]
Results = Annotated[
    Path | None, typer.Option(help="also write the figures to this JSON file", dir_okay=False)
]
Beam = Annotated[int, typer.Option(help="beam width")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Verified = Annotated[Verification, typer.Option(help="when drafts are checked")]
Preset = Annotated[str, typer.Option(help="backbone: tiny, small, qwen3-0.6b, …")]
Users = Annotated[int, typer.Option(help="a random sample of users; 0 takes all")]
SplitBy = Annotated[
    Literal["leave-one-out", "temporal"],
    typer.Option("--split", help="test each user's last item, or what was taken after a moment"),
]
TestFrom = Annotated[
    str | None,
    typer.Option(help="of a temporal split: a date (2024-01-31), or the last share (0.1)"),
]

ID_OPTIONS = ("levels", "codes", "vectors", "names", "encoder", "cache", "collisions")
NEW_ITEMS_FILE = "new_items.json"  # in a run, the texts of items that were added to it
P = ParamSpec("P")
T = TypeVar("T")


def options_of(
    parameter: str, source: Any, *names: str, **flags: str
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Replace a command's parameter by options for fields of a dataclass, or of a function.

    Types, defaults and help texts are those of the source: its signature, and the entries of
    "Attributes" or "Args" in its docstring. A field that holds several values becomes an option
    that may be repeated.

    Args:
        parameter: of the command: a dict, which gets the options that were used, by field.
        source: a dataclass, an instance of one (whose values are the defaults), or a function.
        names: of its fields whose option has the same name.
        flags: other fields, and the option's name for each.
    """
    definition = source if callable(source) else type(source)
    # The base class of transformers' configurations names torch without importing it.
    hints = get_type_hints(definition, localns={"torch": torch})
    fields = inspect.signature(definition).parameters
    help_texts = _help_texts(definition)
    options = []
    for name, flag in {**dict.fromkeys(names, ""), **flags}.items():
        default = getattr(source, name) if definition is not source else fields[name].default
        hint, help_text = hints[name], help_texts[name]
        if isinstance(default, tuple):
            default, help_text = list(default) or None, f"{help_text}; repeated"
            hint = list[_plain(get_args(hint)[0])] | None  # type: ignore[misc]
        option = typer.Option(*filter(None, [flag]), help=help_text)
        options.append(_keyword(name, default, Annotated[hint, option]))

    def of_command(command: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(command, eval_str=True).parameters

        @wraps(command)
        def with_dict(context: typer.Context, **values: Any) -> T:
            fields = {option.name: values.pop(option.name) for option in options}
            values[parameter] = {
                name: value
                for name, value in fields.items()
                if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"
            }
            if "context" in own:  # the command has options of another source, too
                values["context"] = context
            return command(**values)

        parameters = [_keyword("context", inspect.Parameter.empty, typer.Context)]
        for name in own:
            if name == parameter:
                parameters += options
            elif name != "context":
                parameters.append(_keyword(name, own[name].default, own[name].annotation))
        with_dict.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return with_dict

    return of_command


def command_of(
    app: typer.Typer, name: str | None = None
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Add a function to an app; "Args" in its docstring are the help texts of its parameters.

    A parameter without default becomes an argument, another one an option. A parameter that the
    docstring does not name has its help text in its annotation, or from `options_of`.
    """

    def register(command: Callable[..., T]) -> Callable[..., T]:
        about, help_texts = inspect.getdoc(command) or "", _help_texts(command)
        parameters = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            annotation = parameter.annotation
            if parameter.name in help_texts:
                if not hasattr(annotation, "__metadata__"):
                    required = parameter.default is parameter.empty
                    kind = typer.Argument if required else typer.Option
                    annotation = Annotated[annotation, kind()]
                annotation.__metadata__[0].help = help_texts[parameter.name]
            parameters.append(_keyword(parameter.name, parameter.default, annotation))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(name, cls=_Command, help=about.partition("\nArgs:\n")[0])(command)
        return command

    return register


class _Command(typer.core.TyperCommand):
    """Refuses an option that is given twice and takes one value; click would take the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        *_, given = self.make_parser(ctx).parse_args([*args])
        for option in given:
            if (times := given.count(option)) > 1 and not option.multiple:
                raise ValueError(f"{option.opts[0]} is given {times} times, but takes one value.")
        return super().parse_args(ctx, args)


def _keyword(name: str, default: object, annotation: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def _plain(annotation: Any) -> Any:
    """The names of a Literal are checked by what gets them, which lists the valid ones."""
    return str if get_origin(annotation) is Literal else annotation


def _help_texts(source: Callable[..., Any]) -> dict[str, str]:
    """Name → text of the entries in a docstring's "Attributes" or "Args"."""
    entries = re.findall(r"^ {4}([\w, ]+): (.+(?:\n {8}.+)*)", inspect.getdoc(source) or "", re.M)
    return {
        name: " ".join(text.split()).removesuffix(".")
        for names, text in entries
        for name in names.split(", ")
    }


def tokenizer_config(
    dataset: InteractionDataset,
    levels: int | None = None,
    codes: Sequence[int] = (),
    vectors: Sequence[str] = (),
    names: str | None = None,
    encoder: str | None = None,
    cache: str | None = None,
    collisions: Collisions | None = None,
    seed: int = 0,
) -> TokenizerConfig:
    """How semantic IDs of a data set are built.

    Args:
        levels: levels of IDs that are built; by default 3.
        codes: codes per level; once for all levels, or for each; by default 64.
        vectors: what item vectors are made of: tfidf, encoder, collaborative, or a file of your
            own (.npy, .safetensors, .parquet); several are joined; by default tfidf, or
            collaborative where there are no texts.
        names: file with the items' names, one a line, for the rows of a .npy file.
        encoder: text encoder of `--vectors encoder`: a folder or hub name.
        cache: folder that keeps the encoder's vectors: each text is read once.
        collisions: what becomes of items that would share an ID; by default extra-level.
        seed: of the quantizer.

    Raises:
        ValueError: naming the option that does not fit.
    """
    if names is not None:
        raise ValueError(f"--names is {names!r}, but there is no file of vectors or IDs to name.")
    levels = 3 if levels is None else levels
    per_level = codes_per_level(levels, codes)
    largest = max(64, dataset.n_items)
    if (most := max(codes or (64,))) > largest:
        raise ValueError(
            f"codes is {most}, but must be at most {largest} for {dataset.n_items} items."
        )
    sources: Any = tuple(vectors) or (("encoder",) if encoder else ())  # checked by VectorConfig
    config = default_vectors(dataset)
    if sources:
        config = replace(config, sources=sources, encoder=encoder)
    if cache and "encoder" not in config.sources:
        raise ValueError(f"--cache is {cache!r}, but there is no encoder whose vectors to keep.")
    return TokenizerConfig(
        levels=levels,
        codes=per_level,
        vectors=replace(config, cache=cache),
        collisions=collisions or "extra-level",
        seed=seed,
    )


def own_vectors(dataset: InteractionDataset, shape: dict[str, Any]) -> Tensor | None:
    """The vectors in the file that `--vectors` names, (N, D); in `shape` they become "own".

    None if no file is named; `--names` then stays in `shape`.
    """
    sources = shape.get("vectors", [])
    files = [source for source in sources if source.endswith(VECTOR_FILES)]
    if not files:
        return None
    check(len(files) == 1, "--vectors", files, "one file at most")
    shape["vectors"] = ["own" if source in files else source for source in sources]
    return read_vectors(files[0], dataset, shape.pop("names", None))


def codes_per_level(levels: int, codes: Sequence[int]) -> int | tuple[int, ...]:
    """What `--codes` says: one number for all levels, or one for each."""
    if len(codes) not in (0, 1, levels):
        raise ValueError(
            f"--codes is given {len(codes)} times, but must be given once, or once for each of "
            f"the {levels} levels."
        )
    return tuple(codes) if len(codes) > 1 else (*codes, 64)[0]


def refuse(ids: str, options: Sequence[str]) -> None:
    """ValueError if an option was used that does not apply to IDs of this name or origin."""
    for option in options if ids not in QUANTIZERS else ():
        raise ValueError(
            f"--{option} has no say in {ids!r} IDs: leave it out, or name one of "
            f"{', '.join(QUANTIZERS)}."
        )


def load_split(dataset: str, split: str, test_from: str | None) -> InteractionDataset:
    """A data set, split as `--split` and `--test-from` say."""
    if (split == "temporal") != (test_from is not None):
        raise ValueError(
            f"--split is {split!r} and --test-from is {test_from!r}, but a temporal split needs a "
            "date or a share, and leave-one-out has none."
        )
    data = load_dataset(dataset)
    return data if test_from is None else data.by_time(test_from)


def split_report(data: InteractionDataset) -> str:
    """How a data set is split, and which users that leaves out."""
    parts, popularity = [], np.array(data.popularity())
    for name in ("validation", "test"):
        split = data.split(name)
        new = int((popularity[list(split.targets)] == 0).sum())
        parts.append(
            f"{name} {len(split):,} users ({split.left_out:,} without enough history left out, "
            f"{new:,} targets not in the training part)"
        )
    return f"split: {data.split_method}; {', '.join(parts)}"


def load(
    dataset: str, folder: Path, device: str, compile: bool = False
) -> tuple[InteractionDataset, Recommender]:
    """A data set and the model trained on it; ValueError if they are of different catalogues."""
    data = in_run(load_dataset(dataset), folder)
    return data, load_run(data, folder, device, compile)


def load_run(
    data: InteractionDataset, folder: Path, device: str, compile: bool = False
) -> Recommender:
    """The model trained on a data set; ValueError if it was trained on another catalogue."""
    trained = Recommender.load(folder, device, compile)
    if trained.semantic_ids.items != data.items:
        raise ValueError(
            f"{folder} was trained on another catalogue ({trained.semantic_ids.n_items} items) "
            f"than {data.name!r} ({data.n_items} items): name the data set it was trained on."
        )
    return trained


def in_run(data: InteractionDataset, folder: Path) -> InteractionDataset:
    """The data set over the items of a run, to which `add-items` may have added some.

    A data set of another catalogue is returned as it is; ValueError if it has grown, but not yet
    the run.
    """
    path = folder / SEMANTIC_IDS_FILE
    items = SemanticIds.load(path).items if path.is_file() else data.items
    if items == data.items:
        return data
    theirs, ours, added = {*data.items}, {*items}, new_texts(folder)
    more = [name for name in data.items if name not in ours]
    if not more and ours - theirs <= added.keys():
        return data.over(items, added)
    if more and 2 * len(more) < data.n_items and ours - added.keys() <= theirs:
        raise ValueError(
            f"{data.name!r} has {len(more)} items that {folder} does not know, such as "
            f"{more[0]!r:.40}: give them IDs by `nezha-lite add-items {folder} ITEMS.csv`."
        )
    return data


def new_texts(folder: Path) -> dict[str, ItemText]:
    """The texts of the items that `add-items` added to a run."""
    path = folder / NEW_ITEMS_FILE
    return read_texts(path) if path.is_file() else {}


def existing_names(path: Path, items: Sequence[str]) -> list[str]:
    """The items that a file names; it is said which of them do not exist."""
    existing, names = {*items}, read_names(path)
    unknown = [name for name in names if name not in existing]
    if names and len(unknown) == len(names):
        raise ValueError(
            f"{path} names {len(names)} items, but none that exists; one is {names[0]!r:.40}."
        )
    if unknown:
        shown = ", ".join(repr(name)[:40] for name in unknown[:3])
        message = f"{path} names {len(unknown)} items that do not exist: {shown}."
        warnings.warn(message, stacklevel=2)
    return [name for name in names if name in existing]


def keep(results: Path | None, rows: Sequence[ResultRow], json: bool = False) -> None:
    """Write the rows where `--results` asks for it; with JSON on stdout, say so on stderr."""
    if results is not None:
        write_results(results, rows)
        print(f"Written to {results}.", file=sys.stderr if json else sys.stdout)


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """So many CPU threads, and as many as before afterwards."""
    check(threads is None or threads >= 1, "threads", threads, "at least 1")
    previous = torch.get_num_threads()
    torch.set_num_threads(threads or previous)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def oom_hint(*options: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Of a command: on a lack of memory, a MemoryError that says to lower these options."""
    *others, last = options
    named = f"{', '.join(others)} or {last}" if others else last

    def of_command(command: Callable[P, T]) -> Callable[P, T]:
        @wraps(command)
        def guarded(*arguments: P.args, **values: P.kwargs) -> T:
            try:
                return command(*arguments, **values)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                said = str(error).rstrip(".") if isinstance(error, MemoryError) else ""
                raise MemoryError(f"{said or 'Memory ran out'}; lower {named}.") from error

        return guarded

    return of_command
