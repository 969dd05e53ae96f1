"""The package on systems that lack what Unix has."""

import subprocess
import sys

import pytest

# Only of this package: psutil, for one, needs them on Unix and does without elsewhere.
IMPORT_EVERYTHING = """
import builtins, importlib, pkgutil, sys
plain_import = builtins.__import__
def as_on_windows(name, globals=None, *arguments, **named):
    importer = (globals or {}).get("__name__", "")
    if name in ("resource", "fcntl", "pwd", "grp", "termios") and importer.startswith("nezha_lite"):
        raise ModuleNotFoundError(f"{importer} imports {name}, which Windows lacks")
    return plain_import(name, globals, *arguments, **named)
builtins.__import__ = as_on_windows
import nezha_lite
for module in pkgutil.walk_packages(nezha_lite.__path__, "nezha_lite."):
    importlib.import_module(module.name)
loaded = [name for name in sys.modules if name.startswith("nezha_lite.")]
print(len(loaded))
"""


@pytest.mark.slow
def test_no_module_needs_a_unix_only_one_to_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 100
