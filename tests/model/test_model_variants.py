"""NezhaModel without placeholders, without its draft head, and with other weights of its losses."""

from pathlib import Path

import pytest
import torch

from nezha_lite.decoding import (
    AutoregressiveDecoder,
    NezhaDecoder,
    ParallelHeadsDecoder,
    SpeculativeDecoder,
)
from nezha_lite.model import NezhaModel
from nezha_lite.model.config import NezhaConfig
from nezha_lite.training.packing import Collator, TrainingBatch, TrainingRow
from tests.helpers.builders import BACKBONES, catalogue, tiny_model

IDS = catalogue(12, seed=1)
HISTORIES = [[3, 1, 4], [], [5]]


def batch_for(model: NezhaModel) -> TrainingBatch:
    rows = [TrainingRow((3, 1, 4, 1), (1, 2, 3)), TrainingRow((9, 2), (1,))]
    return Collator(IDS, model.vocabulary, model.reads_placeholders)(rows)


@pytest.mark.parametrize("placeholders", [True, False])
@pytest.mark.parametrize(("draft", "following"), [(1.0, 1.0), (0.3, 2.0), (0.5, 0.0), (0.0, 0.7)])
def test_the_loss_is_the_weighted_sum_of_its_parts(
    draft: float, following: float, placeholders: bool
) -> None:
    weights = {"draft_weight": draft, "next_code_weight": following}
    model = tiny_model(IDS, placeholders=placeholders, **weights).double()
    both = tiny_model(IDS, placeholders=placeholders).double()
    assert model.reads_placeholders is (placeholders and draft > 0)
    losses, expected = model(**batch_for(model)), both(**batch_for(both))
    names = [name for name, weight in (("draft", draft), ("next_code", following)) if weight]
    assert set(losses) == {"loss", *(f"{name}_loss" for name in names)}
    for name, part in losses.items():
        assert part.requires_grad is (name == "loss")
        if name != "loss":
            torch.testing.assert_close(part, expected[name])
    total = draft * expected["draft_loss"] + following * expected["next_code_loss"]
    torch.testing.assert_close(losses["loss"].detach(), total)


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_part_of_weight_0_has_no_gradient(kind: str) -> None:
    model = tiny_model(IDS, kind, draft_weight=0.0)
    model(**batch_for(model))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("head."), name


@pytest.mark.parametrize(
    "setting", [{"draft_weight": 0.0}, {"placeholders": False}, {"draft_weight": 0.25}]
)
def test_the_setting_is_saved(setting: dict[str, object], tmp_path: Path) -> None:
    model = tiny_model(IDS, **setting)
    model.save_pretrained(tmp_path)
    loaded = NezhaModel.from_pretrained(tmp_path)
    for name, value in setting.items():
        assert getattr(loaded.config, name) == loaded.describe()[name] == value
    assert loaded.head.placeholders is model.config.placeholders
    assert loaded.reads_placeholders is model.reads_placeholders
    with torch.no_grad():
        assert torch.equal(loaded(**batch_for(model))["loss"], model(**batch_for(model))["loss"])


def test_models_saved_before_these_settings_are_whole() -> None:
    fields = tiny_model(IDS).config.to_dict()
    del fields["draft_weight"], fields["placeholders"]
    config = NezhaConfig.from_dict(fields)
    assert (config.draft_weight, config.placeholders) == (1.0, True)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="draft_weight and next_code_weight are both 0"):
        NezhaConfig(draft_weight=0.0, next_code_weight=0.0)


@pytest.mark.parametrize("make", [NezhaDecoder, ParallelHeadsDecoder])
def test_a_head_that_was_not_trained_drafts_nothing(make: type[NezhaDecoder]) -> None:
    model = tiny_model(IDS, draft_weight=0.0)
    with pytest.raises(ValueError, match=r"draft_weight is 0: .* only its backbone can decode"):
        make(model, None, "off").decode(model.build_prompts(HISTORIES, IDS), 3)
    with pytest.raises(ValueError, match="draft_weight is 0"):
        model.draft_states(model.build_prompts(HISTORIES, IDS))


@pytest.mark.parametrize("make", [AutoregressiveDecoder, SpeculativeDecoder])
def test_its_backbone_decodes_as_that_of_any_model(make: type[AutoregressiveDecoder]) -> None:
    plain, model = tiny_model(IDS), tiny_model(IDS, draft_weight=0.0)
    prompts = model.build_prompts(HISTORIES, IDS)
    result = make(model, None, "off").decode(prompts, 4)
    expected = AutoregressiveDecoder(plain, None, "off").decode(prompts, 4)
    assert torch.equal(result.keys, expected.keys)
    torch.testing.assert_close(result.scores, expected.scores)


@pytest.mark.parametrize("placeholders", [True, False])
@pytest.mark.parametrize("make", [NezhaDecoder, ParallelHeadsDecoder])
def test_placeholders_decide_only_where_they_are_read(
    make: type[NezhaDecoder], placeholders: bool
) -> None:
    model = tiny_model(IDS, placeholders=placeholders)
    prompts = model.build_prompts(HISTORIES, IDS)
    before = make(model, None, "off").decode(prompts, 5)
    with torch.no_grad():
        embeddings = model.backbone.get_input_embeddings().weight
        embeddings[list(model.vocabulary.placeholders)] *= -1
    after = make(model, None, "off").decode(prompts, 5)
    assert torch.allclose(before.scores, after.scores) is not placeholders
    if not placeholders:
        assert torch.equal(before.keys, after.keys)
