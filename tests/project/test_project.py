"""The project itself: one set of versions everywhere, imports that only go down, clean modules."""

import ast
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.helpers.for_each import for_each

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nezha_lite"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# A folder imports from folders with a lower number, never from its equals and never in a circle.
LAYERS = {
    "common": 1,
    "datasets": 2,
    "semantic_ids": 3,
    "model": 4,
    "verifiers": 4,
    "training": 5,
    "decoding": 5,
    "evaluation": 6,
    "bench": 7,
    "plots": 8,
    "widgets": 9,
    "cli": 10,
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


def folder(path: Path) -> str:
    """The folder of nezha_lite that a file lies in; "" for nezha_lite/__init__.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write the import of line {node.lineno} in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path, known: Collection[str]) -> Iterator[str]:
    """The modules of the package that a file imports; a name in a package counts as the package."""
    for name in imports(path):
        while name and name not in known:
            name = name.rpartition(".")[0]
        if name:
            yield name


def folders_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "nezha_lite" and len(parts) > 1}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- versions ---------------------------------------------------------------------------------


@for_each({str(requirement): (requirement,) for requirement in requirements()})
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


def test_a_check_of_many_subjects_names_every_one_that_fails() -> None:
    @for_each({name: (name,) for name in ("good", "bad", "odd", "fine")})
    def check(name: str) -> None:
        assert name != "bad", "this is bad"
        if name == "odd":
            raise KeyError(name)

    with pytest.raises(pytest.fail.Exception) as failure:
        check()
    message = str(failure.value)
    assert all(f"{name}: " in message for name in ("bad", "odd"))
    assert not any(f"{name}: " in message for name in ("good", "fine"))


# --- the layers -------------------------------------------------------------------------------


def test_the_package_is_its_layers_and_nothing_else() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert entries == {*LAYERS, "__init__.py", "py.typed"}


def test_a_folder_imports_only_from_lower_layers() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} (layer {LAYERS[folder(path)]}) imports {other}"
        for path in MODULES
        if folder(path)
        for other in folders_imported(path) - {folder(path), "__version__"}
        if LAYERS.get(other, 99) >= LAYERS[folder(path)]
    ]
    assert not wrong


def test_the_architecture_page_shows_the_layers_as_they_are() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([a-z_]+)/` \|", page, flags=re.MULTILINE)
    assert {name: int(number) for number, name in rows} == LAYERS


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {module_name(path): path for path in MODULES}
    graph = {
        name: {found for found in imported_modules(path, names) if found != name}
        for name, path in names.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("imports go round: " + " -> ".join(reversed(error.args[1])))


def test_only_plots_and_widgets_know_the_display_libraries() -> None:
    for path in MODULES:
        if folder(path) not in {"plots", "widgets"}:
            found = DISPLAY & {name.split(".")[0] for name in imports(path)}
            assert not found, f"{path.name} imports {sorted(found)}"


# --- what a module may be ---------------------------------------------------------------------


def test_modules_are_short_and_finished() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, f"{path.name} is longer than 400 lines"
        assert path.name != "utils.py", "name a module after the one concept it holds"
        unfinished = re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)
        assert not unfinished, f"{path.name} is unfinished: {unfinished and unfinished[0]}"


def test_modules_run_nothing_that_a_file_holds() -> None:
    for path in MODULES:
        tops = {name.split(".")[0] for name in imports(path)}
        unsafe = tops & {"dill", "joblib", "marshal", "pickle", "shelve"}
        assert not unsafe, f"{path.name} imports {sorted(unsafe)}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            # torch.load and a plain eval run whatever a file holds; model.eval() is another thing.
            if "weights_only=True" in map(ast.unparse, node.keywords):
                continue  # tensors and numbers: nothing is run
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "torch.load"}, f"{path.name} calls {called}"
            pickles = [word for word in node.keywords if word.arg == "allow_pickle"]
            assert not pickles, f"{path.name} passes allow_pickle"


@pytest.mark.slow
def test_importing_the_command_line_loads_nothing_heavy() -> None:
    # Not accelerate: transformers itself loads it with the class every model derives from.
    unwanted = ("IPython", "anywidget", "ipywidgets", "matplotlib", "plotly", "sklearn")
    unwanted += ("transformers.trainer",)
    loaded = run_python("import nezha_lite.cli, sys; print(*sys.modules)").split()
    found = [name for name in loaded if name in unwanted or name.startswith("jupyter")]
    assert not found, f"import nezha_lite.cli loads {found}"


@pytest.mark.slow
def test_importing_the_package_and_its_recommender_does_not_load_transformers() -> None:
    code = "import nezha_lite, nezha_lite.decoding.recommender, sys"
    loaded = run_python(f"{code}; print(*sys.modules)").split()
    assert not {"transformers", "torch._inductor.compile_fx"} & {*loaded}
    assert run_python("import nezha_lite; print(nezha_lite.NezhaModel.__name__)") == "NezhaModel\n"
    names = run_python("import nezha_lite as n; print([hasattr(n, name) for name in n.__all__])")
    assert "False" not in names


@pytest.mark.slow
def test_folders_below_plots_load_no_display_library() -> None:
    names = [
        module_name(path)
        for path in MODULES
        if folder(path) and LAYERS[folder(path)] < LAYERS["plots"]
    ]
    code = "\n".join(f"import {name}" for name in names)
    loaded = run_python(f"{code}\nimport sys; print(*sys.modules)").split()
    unwanted = {*DISPLAY, "IPython", "matplotlib"}
    found = [name for name in loaded if name in unwanted or name.startswith("jupyter")]
    assert not found, f"importing the folders below plots loads {found}"


@pytest.mark.slow
def test_importing_every_module_changes_nothing() -> None:
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
