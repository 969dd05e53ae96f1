"""SASRec with full cross-entropy: the item-level sequence model that GR papers must face.

A causal Transformer over items predicts each next item by a softmax over the whole catalogue, with
tied embeddings (Kang & McAuley, ICDM 2018; the full softmax in place of sampled negatives is what
makes it strong: Klenitskiy & Vasilev, RecSys 2023). The blocks are transformers' GPT-2, whose words
are items here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2Config, GPT2Model, TrainingArguments

from nezha_lite.common.checks import BelowOne, Checked, Count, check
from nezha_lite.common.files import damage_named, read_tensors, write_tensors
from nezha_lite.common.progress import without_progress_bar
from nezha_lite.datasets import InteractionDataset
from nezha_lite.evaluation.baselines.scorer import evaluate_scorer
from nezha_lite.evaluation.metrics import ndcg_at
from nezha_lite.evaluation.run_folders import read_object, write_object
from nezha_lite.training.config import Rate, RateOrZero
from nezha_lite.training.trainer import WATCHED, ValidatedTrainer, best_epoch, trainer_arguments

IGNORED = -100
RECORD_FILE, WEIGHTS_FILE = "sasrec.json", "sasrec.safetensors"


@dataclass(frozen=True)
class SasRecConfig(Checked):
    """Shape and training of the baseline, to be tuned on validation users.

    Attributes:
        width: of the item embeddings and the blocks.
        layers, heads: of the Transformer.
        dropout: on embeddings, attention and residual branches.
        max_items: longest history; older items are cut off.
        epochs: at most, over all users.
        patience: epochs without a better validation NDCG@10 before it stops.
        batch_users: users a step.
        learning_rate: AdamW's, constant after one epoch of warm-up.
        weight_decay: AdamW's.
        validation_users: how many score each epoch.
        seed: of weights, order and dropout.
    """

    width: Count = 64
    layers: Count = 2
    heads: Count = 2
    dropout: BelowOne = 0.3
    max_items: Count = 20
    epochs: Count = 30
    patience: Count = 3
    batch_users: Count = 128
    learning_rate: Rate = 2e-3
    weight_decay: RateOrZero = 0.0
    validation_users: Count = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_heads = self.width % self.heads == 0
        check(whole_heads, "width", self.width, f"a multiple of {self.heads} heads")


class SasRec(nn.Module):
    """The model; token i is item i, and one more token is padding."""

    def __init__(self, n_items: int, config: SasRecConfig) -> None:
        super().__init__()
        self.n_items, self.max_items = n_items, config.max_items
        shape = GPT2Config(
            vocab_size=n_items + 1,
            n_positions=config.max_items,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            resid_pdrop=config.dropout,
            bos_token_id=None,
            eos_token_id=None,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            self.transformer = GPT2Model(shape)

    def forward(self, items: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropy of items and labels, (B, T) int64; IGNORED is no target."""
        hidden = self._hidden(items)[labels != IGNORED]  # (M, D)
        return {"loss": F.cross_entropy(self._logits(hidden), labels[labels != IGNORED])}

    @torch.no_grad()
    def scores(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """See `ItemScorer`: (B, N) logits of the next item. An empty history is a ValueError."""
        if not all(histories):
            raise ValueError("A history is empty, but SASRec needs at least one item.")
        was_training = self.training
        self.eval()
        cut = [list(history)[-self.max_items :] for history in histories]
        device = self.transformer.device
        items = _padded(cut, self.n_items).to(device)  # (B, T)
        last = torch.tensor([len(history) - 1 for history in cut], device=device)
        hidden = self._hidden(items)[torch.arange(len(cut), device=device), last]  # (B, D)
        self.train(was_training)
        return self._logits(hidden)

    def _hidden(self, items: Tensor) -> Tensor:
        # Padding is on the right, where causal attention never looks: no mask is needed.
        output = self.transformer(items, use_cache=False)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.transformer.wte.weight[: self.n_items])


def _rows(sequences: Sequence[Sequence[int]], max_items: int) -> tuple[list[list[int]], list[int]]:
    """Rows of training items and each one's user; long sequences are cut, and no target is lost."""
    rows, users = [], []
    for user, sequence in enumerate(sequences):
        end = len(sequence)
        while end > 1:
            start = max(0, end - max_items - 1)
            rows.append(list(sequence[start:end]))
            users.append(user)
            end = start + 1  # the first item of this row is the last target of the one before
    if not rows:
        raise ValueError("No training sequence has two items or more: nothing to predict.")
    return rows, users


def train_sasrec(
    dataset: InteractionDataset,
    output: str | Path,
    config: SasRecConfig | None = None,
    progress: bool = False,
) -> tuple[SasRec, dict[str, Any]]:
    """Train until validation NDCG@10 stops rising, and keep the best epoch's weights.

    An interrupted run in the folder `output` goes on from its last good checkpoint. The global
    random state is reseeded, as the Trainer does. ValueError, FloatingPointError and OSError as
    `ValidatedTrainer`.

    A finished run is read by `load_sasrec`.

    Returns:
        The model in evaluation mode, and the record also written to `output`/sasrec.json:
        settings, seconds and cpu_seconds (since the last start), resumed, best_epoch, and
        NDCG@10 on the validation users after every epoch.
    """
    config = config or SasRecConfig()
    output = Path(output)
    model = SasRec(dataset.n_items, config)
    validation = dataset.split("validation")
    validation = validation.sample(min(config.validation_users, len(validation)), seed=0)

    def score() -> dict[str, float]:
        scored = evaluate_scorer(model, validation, min(10, dataset.n_items))
        return {"ndcg@10": float(ndcg_at(scored.ranks, 10).mean())}

    rows, users = _rows(dataset.train_sequences(), config.max_items)
    trainer = ValidatedTrainer(
        model,
        rows,
        score,
        config.patience,
        collate=lambda rows: _collate(rows, dataset.n_items),
        users=[dataset.users[user] for user in users],
        args=_arguments(config, output / "checkpoints", progress),
    )
    last = trainer.resume_point()
    started, started_cpu = time.perf_counter(), time.process_time()
    with without_progress_bar():
        trainer.train(resume_from_checkpoint=last)
    model.eval()
    history = [entry for entry in trainer.state.log_history if WATCHED in entry]
    record = {
        "config": asdict(config),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1),
        "resumed": last is not None,
        "best_epoch": best_epoch(trainer.state),
        "validation_ndcg@10": [round(entry[WATCHED], 5) for entry in history],
    }
    write_tensors(output / WEIGHTS_FILE, model.state_dict())
    write_object(output / RECORD_FILE, record)
    return model, record


def load_sasrec(dataset: InteractionDataset, folder: str | Path) -> SasRec:
    """The model that `train_sasrec` left in a folder, in evaluation mode.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or of another catalogue.
    """
    path = Path(folder, WEIGHTS_FILE)
    config = SasRecConfig(**read_object(Path(folder, RECORD_FILE), "config")["config"])
    model = SasRec(dataset.n_items, config)
    with damage_named(path, f"is no SASRec of {dataset.n_items:,} items; train it again"):
        model.load_state_dict(read_tensors(path)[0])
    return model.eval()


def _arguments(config: SasRecConfig, folder: Path, progress: bool) -> TrainingArguments:
    return trainer_arguments(
        folder,
        progress,
        by_score=True,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_users,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=1.0 / config.epochs - 1e-9,  # a share of all steps: one epoch
        seed=config.seed,
        label_names=["labels"],
    )


def _collate(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    return {
        "items": _padded([row[:-1] for row in rows], pad),
        "labels": _padded([row[1:] for row in rows], IGNORED),
    }


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of different lengths → (B, T) int64, filled up with `value` on the right."""
    return pad_sequence([*map(torch.tensor, rows)], batch_first=True, padding_value=value)
