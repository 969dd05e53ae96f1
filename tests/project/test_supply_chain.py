"""What this project stands on: whole, few, and under licences that allow every use of it."""

import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

from tests.helpers.for_each import for_each

ROOT = Path(__file__).resolve().parents[2]
# Permissive licences, and MPL-2.0, which asks something only of those who change its own files.
FREE = re.compile(
    r"\b(MIT|MIT-0|MIT-CMU|BSD|0BSD|BSL-1\.0|Apache|ISC|PSF|Python Software Foundation|CNRI-Python"
    r"|Zlib|CC0-1\.0|MPL|Mozilla Public License)\b"
)
NOT_FREE = re.compile(r"\b(A?GPL|GNU|SSPL|Commons Clause|Non-?Commercial|Proprietary)\b", re.I)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {normal(name): version for name, version in pins}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(distribution: Distribution) -> str:
    """Its licence expression, else its classifiers, else the first line of the free field."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [one for one in metadata.get_all("Classifier", []) if one.startswith("License")]
    return "; ".join(classifiers) or (metadata.get("License") or "unknown").splitlines()[0]


# Not sys.path: setuptools, once imported, adds the copies it carries inside itself.
SITE = [sysconfig.get_path("purelib")]
INSTALLED = {normal(one.metadata["Name"]): one for one in distributions(path=SITE)}
every_pin = for_each({name: (name,) for name in sorted(set(pinned()) & set(INSTALLED))})


def test_every_requirement_is_met() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout


@every_pin
def test_pins_run_on_the_oldest_python_that_is_promised(name: str) -> None:
    """Some need 3.11.5, say, while Debian 12 comes with 3.11.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    needed = INSTALLED[name].metadata.get("Requires-Python") or ""
    assert SpecifierSet(needed).contains(oldest), f"{name} needs Python {needed}"


@every_pin
def test_licences_are_free(name: str) -> None:
    found = licence(INSTALLED[name])
    assert FREE.search(found), f"{name}: {found}"
    assert not NOT_FREE.search(found), f"{name}: {found}"


def test_the_check_would_see_a_licence_that_is_not() -> None:
    for found in ("GPL-3.0-or-later", "License :: OSI Approved :: GNU AGPLv3", "Proprietary"):
        assert NOT_FREE.search(found)
    assert not FREE.search("unknown")


def test_most_of_what_is_pinned_is_installed() -> None:
    assert len(set(pinned()) & set(INSTALLED)) > 100, "the licences of few packages were looked at"
