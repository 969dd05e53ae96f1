"""Code in files, which makes a folder if it runs."""

import io
import os
import pickle
from pathlib import Path

import torch

MARK = "code-has-run"


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def pickled(mark: Path) -> bytes:
    return pickle.dumps({"weights": Payload(mark)})


def saved_by_torch(mark: Path) -> bytes:
    """As `torch.save` writes it, in a zip archive."""
    content = io.BytesIO()
    torch.save({"weights": Payload(mark)}, content)
    return content.getvalue()


def module(mark: Path) -> str:
    """A module of a hub's repository, whose import already makes the file."""
    return (
        "import os\n"
        f"os.mkdir({str(mark)!r})\n"
        "from transformers import Qwen3Config, Qwen3ForCausalLM\n"
        "class EvilConfig(Qwen3Config): model_type = 'evil'\n"
        "class EvilModel(Qwen3ForCausalLM): config_class = EvilConfig\n"
    )


CODE = {
    "AutoConfig": "evil.EvilConfig",
    "AutoModel": "evil.EvilModel",
    "AutoModelForCausalLM": "evil.EvilModel",
    "AutoTokenizer": ["evil.EvilConfig", "evil.EvilConfig"],
}
