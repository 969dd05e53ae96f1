"""The house itself: one set of versions everywhere, floors that only look down, clean imports."""

import ast
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "nezha_lite"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# A room imports from its own floor and the floors below, never from above and never in a circle.
FLOORS = {
    "checkpoints": 1,
    "datasets": 1,
    "downloads": 1,
    "out_of_memory": 1,
    "progress": 1,
    "results": 1,
    "sample": 1,
    "tables": 2,
    "semantic_id_files": 1,
    "semantic_ids": 1,
    "strict_json": 1,
    "whole_files": 1,
    "watched_trainer": 1,
    "batching": 2,
    "collaborative": 2,
    "collisions": 2,
    "encoders": 2,
    "id_quality": 2,
    "item_texts": 2,
    "vectors": 2,
    "packing": 2,
    "run_folders": 2,
    "prompts": 2,
    "quantizers": 2,
    "text": 2,
    "tokenize": 2,
    "sid_map": 2,
    "tokenizer_config": 2,
    "tokenizer_report": 2,
    "attention": 3,
    "config": 3,
    "draft_head": 3,
    "model": 3,
    "model_files": 3,
    "verifiers": 3,
    "decoding": 4,
    "training": 4,
    "training_config": 4,
    "baselines": 5,
    "bench": 5,
    "capacity": 5,
    "study": 5,
    "tokenizer_bench": 5,
    "comparison": 5,
    "evaluation": 5,
    "hallucination": 5,
    "recommender": 5,
    "plots": 6,
    "widgets": 6,
    "cli": 7,
    "__main__": 7,
}
DISPLAY = {"anywidget", "ipywidgets", "plotly"}

# Distributions whose import name differs.
IMPORT_NAMES = {"scikit-learn": "sklearn"}


def requirements() -> list[Requirement]:
    """The direct dependencies of the package and of its extras."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    texts = project["dependencies"] + [text for extra in extras for text in extra]
    return [Requirement(text) for text in texts]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def room(path: Path) -> str:
    """The module or subpackage of nezha_lite that a file belongs to; "" for its __init__."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write the import of line {node.lineno} in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "nezha_lite" and len(parts) > 1}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_direct_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    pinned = pins()
    name = canonicalize_name(requirement.name)
    assert name in pinned, f"constraints.txt does not pin {requirement.name}"
    assert pinned[name] in requirement.specifier, f"{requirement} excludes {pinned[name]}"


def test_constraints_are_plain_sorted_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#"), "the first line says how to refresh the file"
    pinned = [line for line in lines if not line.startswith("#")]
    for line in pinned:
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), f"{line!r} is not a plain name==version"
    names = [line.split("==")[0].lower() for line in pinned]
    assert names == sorted(names)
    assert len(names) == len(set(names))


def test_this_environment_is_what_ci_says_when_it_is_the_projects_own() -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not running in .venv")
    from importlib.metadata import distributions

    pinned = pins()
    # Not sys.path: setuptools, once a test imports it, adds the copies it carries inside itself.
    for distribution in distributions(path=[sysconfig.get_path("purelib")]):
        name = canonicalize_name(distribution.metadata["Name"])
        if name in pinned:
            installed = Version(distribution.version)
            assert Version(installed.public) == pinned[name], f"{name} is {installed}"
        else:
            assert name in {"nezha-lite", "pip", "setuptools"}, f"constraints.txt misses {name}"


def test_the_environment_file_installs_the_same_stack() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PYPROJECT["project"]["name"]
    *conda, pip_part = environment["dependencies"]
    python = next(entry for entry in conda if entry.startswith("python="))
    assert conda == [python, "pip"], "conda brings Python and pip, nothing else"
    required = Requirement("python" + PYPROJECT["project"]["requires-python"])
    assert Version(python.removeprefix("python=")) in required.specifier
    extras = ",".join(PYPROJECT["project"]["optional-dependencies"])
    assert pip_part == {"pip": ["-c constraints.txt", f"-e .[{extras}]"]}


def test_tools_aim_at_the_oldest_supported_python() -> None:
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def test_every_import_is_a_declared_dependency() -> None:
    project = PYPROJECT["project"]
    texts = project["dependencies"] + project["optional-dependencies"]["notebooks"]
    declared = {Requirement(text).name for text in texts}
    known = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in declared}
    known |= {"nezha_lite", "IPython"} | sys.stdlib_module_names  # IPython: part of ipywidgets
    for path in MODULES:
        unknown = {name.split(".")[0] for name in imports(path)} - known
        assert not unknown, f"{path.name} imports {sorted(unknown)}, which pyproject.toml misses"


# --- the floors -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_room_looks_down_only(path: Path) -> None:
    here = room(path)
    if here == "":
        return  # the package's front door may show any room
    assert here in FLOORS, f"place {here!r} on a floor: add it to FLOORS in {Path(__file__).name}"
    for other in rooms_imported(path) - {here, "__version__"}:
        assert other in FLOORS, f"{path.name} imports {other!r}, which is no room of nezha_lite"
        assert FLOORS[other] <= FLOORS[here], (
            f"{path.name} (floor {FLOORS[here]}) imports {other} from floor {FLOORS[other]} above"
        )


def test_the_readme_shows_the_floors_as_they_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = {}
    for number, rooms in re.findall(r"^\| (\d) \| (.+) \|$", readme, flags=re.MULTILINE):
        shown |= {room.rstrip("/"): int(number) for room in re.findall(r"`([a-z_]+/?)`", rooms)}
    assert shown == {room: floor for room, floor in FLOORS.items() if room != "__main__"}


def test_no_rooms_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        here = room(path)
        if here:
            graph.setdefault(here, set()).update(rooms_imported(path) - {here})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("imports go round: " + " -> ".join(reversed(error.args[1])))


def test_only_plots_and_widgets_know_the_display_libraries() -> None:
    for path in MODULES:
        if room(path) not in {"plots", "widgets"}:
            found = DISPLAY & {name.split(".")[0] for name in imports(path)}
            assert not found, f"{path.name} imports {sorted(found)}"


# --- what a module may be ---------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_are_short_finished_and_safe(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300, f"{path.name} is longer than 300 lines: split it"
    assert path.name != "utils.py", "name a module after the one concept it holds"
    unfinished = re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)
    assert not unfinished, f"{path.name} is unfinished: {unfinished and unfinished[0]}"
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"dill", "joblib", "marshal", "pickle", "shelve"}, f"{path.name} unpickles"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            # torch.load and a plain eval run whatever a file holds; model.eval() is another thing.
            if "weights_only=True" in map(ast.unparse, node.keywords):
                continue  # tensors and numbers: nothing is run
            assert called not in {"eval", "exec", "torch.load"}, f"{path.name} calls {called}"
            pickles = [word for word in node.keywords if word.arg == "allow_pickle"]
            assert not pickles, f"{path.name} passes allow_pickle"


def test_importing_the_package_loads_nothing_heavy() -> None:
    # Not accelerate: transformers itself loads it with the class every model derives from.
    unwanted = ("IPython", "anywidget", "ipywidgets", "matplotlib", "plotly", "sklearn")
    unwanted += ("transformers.trainer",)
    loaded = run_python("import nezha_lite, sys; print(*sys.modules)").split()
    found = [name for name in loaded if name in unwanted or name.startswith("jupyter")]
    assert not found, f"import nezha_lite loads {found}"


def test_rooms_below_the_display_load_no_display_library() -> None:
    names = [name for name, floor in FLOORS.items() if floor < FLOORS["plots"]]
    present = [name for name in names if list(PACKAGE.glob(f"{name}*"))]
    code = "\n".join(f"import nezha_lite.{name}" for name in present)
    loaded = run_python(f"{code}\nimport sys; print(*sys.modules)").split()
    unwanted = {*DISPLAY, "IPython", "matplotlib"}
    found = [name for name in loaded if name in unwanted or name.startswith("jupyter")]
    assert not found, f"importing the rooms below plots loads {found}"


def test_importing_every_room_changes_nothing() -> None:
    before_and_after = run_python(
        """
import importlib, os, pkgutil, random
import numpy, torch, transformers, nezha_lite

def state():
    return (
        torch.get_rng_state().tolist(), torch.get_num_threads(), torch.get_default_dtype(),
        torch.is_grad_enabled(), torch.backends.cuda.matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(), random.getstate(),
        str(numpy.random.get_state()), sorted(os.listdir()),
        transformers.logging.get_verbosity(),
    )

before = state()
for found in pkgutil.walk_packages(nezha_lite.__path__, "nezha_lite."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
after = state()
print([number for number, (a, b) in enumerate(zip(before, after, strict=True)) if a != b])
"""
    )
    assert before_and_after.splitlines() == ["[]"], "importing printed or changed global state"
