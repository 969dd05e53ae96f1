"""Set up a hosted machine for the course: on Colab and Kaggle, every lesson's first cell runs this.

Binder needs it not: there, environment.yml was installed when the machine was built.
"""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OWN_SERVER = ("jupyterlab", "nbclient", "nbval", "voila")  # the host brings a server of its own


def requirements(pyproject: str) -> list[str]:
    """What the lessons import, without what serves and runs notebooks."""
    project = tomllib.loads(pyproject)["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["notebooks"]
    return [one for one in wanted if re.split(r"[<>=!~]", one)[0] not in OWN_SERVER]


def main() -> None:
    """Install the requirements and let this kernel and its child processes import the package."""
    names = requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *names], check=True)
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = str(ROOT)
    if "google.colab" in sys.modules:  # without this, Colab shows its own widgets only
        importlib.import_module("google.colab.output").enable_custom_widget_manager()


if __name__ == "__main__":
    main()
