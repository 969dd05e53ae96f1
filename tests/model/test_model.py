"""NezhaModel: making, saving, loading, its loss."""

import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GPTNeoXConfig,
    RobertaConfig,
    T5Config,
    masking_utils,
)

from nezha_lite.model import NezhaModel, load_model
from nezha_lite.model.config import PRESETS, NezhaConfig
from nezha_lite.training.packing import Collator, TrainingBatch, TrainingRow
from tests.helpers.builders import BACKBONES, RADICES, backbone_config, catalogue, tiny_model

IDS = catalogue(12, seed=1)
HISTORIES = [[3, 1, 4], [], [5]]


def batch_for(model: NezhaModel) -> TrainingBatch:
    rows = [TrainingRow((3, 1, 4, 1), (1, 2, 3)), TrainingRow((9, 2), (1,))]
    return Collator(IDS, model.vocabulary)(rows)


def outputs(model: NezhaModel) -> list[Tensor]:
    """What both decoders read, and the loss."""
    with torch.no_grad():
        hidden = model.draft_states(model.build_prompts(HISTORIES, IDS))
        codes = torch.tensor([[2, 3, 1]] * len(HISTORIES))
        logits = model.backbone(batch_for(model)["input_ids"]).logits
        return [hidden, *model.head(hidden, codes), logits, model(**batch_for(model))["loss"]]


def same_outputs(one: NezhaModel, other: NezhaModel) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(other), strict=True))


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("transition", ["rnn", "gru", "none"])
def test_a_saved_model_comes_back_bit_by_bit(
    tmp_path: Path, kind: str, transition: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(IDS, kind, transition=transition, max_items=7, dropout=0.1)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {"generation_config.json"} == {
        "config.json",
        "model.safetensors",
    }
    transformers.logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            loaded, info = NezhaModel.from_pretrained(tmp_path, output_loading_info=True)
    finally:
        transformers.logging.disable_propagation()
    assert caplog.messages == []
    assert not any(info.values()), info
    assert not loaded.training
    assert same_outputs(loaded, model)
    settings = ("radices", "token_offset", "max_items", "transition", "dropout", "next_code_weight")
    for name in settings:
        assert getattr(loaded.config, name) == getattr(model.config, name)
    assert loaded.vocabulary == model.vocabulary
    tied = kind != "llama"
    for each in (model, loaded):
        backbone = each.backbone
        same = backbone.get_input_embeddings().weight is backbone.get_output_embeddings().weight
        assert same == tied


def test_a_preset_comes_back_bit_by_bit(tmp_path: Path) -> None:
    model = NezhaModel.from_preset("tiny", IDS, seed=3, dropout=0.2).eval()
    model.save_pretrained(tmp_path / "first")
    loaded = NezhaModel.from_pretrained(tmp_path / "first")
    assert same_outputs(loaded, model)
    loaded.save_pretrained(tmp_path / "second")
    assert same_outputs(NezhaModel.from_pretrained(tmp_path / "second"), model)
    assert all(
        path.suffix in {".json", ".safetensors"} for path in tmp_path.rglob("*") if path.is_file()
    )


# ---- pretrained backbones -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_pretrained_backbone_keeps_its_weights(tmp_path: Path, kind: str) -> None:
    old = 23
    config = backbone_config(kind, old)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        pretrained = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in pretrained.parameters():
                parameter.normal_(std=0.3)
    pretrained.save_pretrained(tmp_path / "backbone")
    state = torch.get_rng_state()
    model = NezhaModel.from_backbone(tmp_path / "backbone", IDS, seed=1, max_items=9).eval()
    assert torch.equal(torch.get_rng_state(), state)

    assert (model.config.token_offset, model.config.max_items) == (old, 9)
    assert model.vocabulary.pad == old
    assert model.vocabulary.size == old + 2 + len(RADICES) + sum(RADICES)
    for embeddings in (model.backbone.get_input_embeddings, model.backbone.get_output_embeddings):
        assert embeddings().weight.shape[0] == model.vocabulary.size
    with torch.no_grad():
        words = torch.randint(old, (2, 8), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            model.backbone(words).logits[..., :old], pretrained(words).logits
        )
    assert model.draft_states(model.build_prompts(HISTORIES, IDS)).shape == (3, 4, 16)
    fresh = model.backbone.get_input_embeddings().weight[old:]
    assert len(fresh.unique(dim=0)) == len(fresh), "new tokens must differ from each other"

    again = NezhaModel.from_backbone(tmp_path / "backbone", IDS, seed=1, max_items=9).eval()
    other = NezhaModel.from_backbone(tmp_path / "backbone", IDS, seed=2, max_items=9).eval()
    assert same_outputs(model, again)
    assert not torch.equal(model.head.classifiers[0].weight, other.head.classifiers[0].weight)

    model.save_pretrained(tmp_path / "model")
    assert same_outputs(NezhaModel.from_pretrained(tmp_path / "model"), model)


def test_a_missing_backbone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent' cannot be loaded"):
        NezhaModel.from_backbone(tmp_path / "absent", IDS)


@pytest.mark.parametrize("config", [BertConfig, RobertaConfig])
def test_a_bidirectional_backbone_is_refused(tmp_path: Path, config: type[BertConfig]) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    bidirectional = config(vocab_size=23, num_attention_heads=2, **sizes)
    AutoModelForCausalLM.from_config(bidirectional).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=rf"type '{config.model_type}', is bidirectional: .* later"
    ):
        NezhaModel.from_backbone(tmp_path, IDS)


def test_a_folder_around_a_bidirectional_backbone_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    backbone = BertConfig(vocab_size=14, num_attention_heads=2, **sizes)
    NezhaModel(NezhaConfig.for_backbone(backbone, radices=RADICES)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json cannot be used: .*'bert', is bidir"):
        load_model(tmp_path)


def test_a_decoder_of_the_same_architecture_is_not_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    decoder = BertConfig(vocab_size=23, num_attention_heads=2, is_decoder=True, **sizes)
    AutoModelForCausalLM.from_config(decoder).save_pretrained(tmp_path)
    assert NezhaModel.from_backbone(tmp_path, IDS).describe()["backbone"] == "bert"


def test_an_encoder_decoder_is_named(tmp_path: Path) -> None:
    T5Config(vocab_size=23, d_model=16, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"decoder-only .* \(t5 is an encoder–decoder\)"):
        NezhaModel.from_backbone(tmp_path, IDS)


def test_the_longest_prompt_must_fit_into_the_backbone_s_positions() -> None:
    """256 positions: BOS, 84 items and an answer of three codes each."""
    model = tiny_model(IDS, "gpt2", max_items=84)
    prompts = model.build_prompts([[0] * 200], IDS)
    assert prompts.input_ids.shape == (1, 256)
    assert model.draft_states(prompts).isfinite().all()
    for max_items in (85, 256):
        with pytest.raises(ValueError, match=f"max_items is {max_items}, but must be at most 84: "):
            tiny_model(IDS, "gpt2", max_items=max_items)


# ---- presets and settings -----------------------------------------------------------------------


def test_from_preset_depends_on_its_seed_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        models = []
        for global_seed, seed in ((1, 7), (2, 7), (1, 8)):
            torch.manual_seed(global_seed)
            before = torch.get_rng_state()
            models.append(NezhaModel.from_preset("tiny", IDS, seed=seed).eval())
            assert torch.equal(torch.get_rng_state(), before)
    assert same_outputs(models[0], models[1])
    assert not same_outputs(models[0], models[2])


def test_from_preset_passes_its_settings() -> None:
    model = NezhaModel.from_preset(
        "tiny", IDS, attention_dropout=0.25, max_items=5, transition="gru", dropout=0.3
    )
    assert model.backbone.config.attention_dropout == 0.25
    assert model.head.transition == "gru"
    assert model.build_prompts([[0] * 50], IDS).input_ids.shape == (1, 1 + 5 * 3 + 3)
    assert model.describe() == {
        "preset": "tiny",
        "backbone": "qwen3",
        "hidden_size": PRESETS["tiny"]["hidden_size"],
        "layers": 2,
        "tied": True,
        "parameters": len(torch.nn.utils.parameters_to_vector(model.parameters())),
        "radices": [3, 4, 2],
        "max_items": 5,
        "transition": "gru",
        "dropout": 0.3,
        "placeholders": True,
        "draft_weight": 1.0,
        "next_code_weight": 1.0,
    }


def test_an_untied_output_layer_has_weights_of_its_own_after_loading_too(tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        model = NezhaModel.from_preset("tiny", IDS, tied=tied)
        model.save_pretrained(tmp_path / str(tied))
        loaded = load_model(tmp_path / str(tied))
        inputs = loaded.backbone.get_input_embeddings().weight
        outputs = loaded.backbone.get_output_embeddings().weight
        assert (inputs is outputs) == tied
        assert torch.equal(outputs, model.backbone.get_output_embeddings().weight)
        sizes[tied] = sum(parameter.numel() for parameter in loaded.parameters())
    assert sizes[False] - sizes[True] == inputs.numel()


def test_unknown_presets_and_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"preset is 'huge', .*'small', 'tiny'"):
        NezhaModel.from_preset("huge", IDS)
    with pytest.raises(TypeError, match=r"Unknown setting 'droput'.*'dropout'"):
        NezhaModel.from_preset("tiny", IDS, droput=0.1)
    AutoModelForCausalLM.from_config(backbone_config("gpt2", 23)).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="Unknown setting 'max_item'"):
        NezhaModel.from_backbone(tmp_path, IDS, max_item=3)
    with pytest.raises(ValueError, match="transition is 'lstm'"):
        NezhaModel.from_preset("tiny", IDS, transition="lstm")


@pytest.mark.parametrize(
    "setting",
    [
        {"max_items": 0},
        {"next_code_weight": -0.1},
        {"draft_weight": -0.1},
        {"draft_weight": float("nan")},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"label_smoothing": 1.0},
    ],
)
def test_settings_outside_their_range_are_named(setting: dict[str, float]) -> None:
    name, value = next(iter(setting.items()))
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        NezhaConfig(**setting)


def test_an_empty_configuration_makes_no_model() -> None:
    with pytest.raises(ValueError, match="from_preset or from_backbone"):
        NezhaModel(NezhaConfig())


# ---- loss ---------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, target: int, smoothing: float = 0.0) -> Tensor:
    """By hand: the target gets 1 − ε of the weight, all codes share ε."""
    log_probs = logits - logits.exp().sum().log()
    return -(1 - smoothing) * log_probs[target] - smoothing * log_probs.mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_by_hand(weight: float, smoothing: float) -> None:
    model = tiny_model(IDS, next_code_weight=weight, label_smoothing=smoothing).double()
    batch = batch_for(model)
    hidden = model.hidden_states(
        batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
    ).last_hidden_state.flatten(0, 1)
    logits = model.backbone.get_output_embeddings()(hidden)
    for training in (False, True):  # smoothing trains, but does not blur a validation loss
        blur = smoothing if training else 0.0
        draft, following = [], []
        for target, codes in enumerate(batch["codes"].tolist()):
            slots = batch["draft_slots"][target]
            forced = model.head(hidden[slots][None], torch.tensor([codes]))
            tokens = model.vocabulary.tokens_of(torch.tensor(codes)).tolist()
            for level, code in enumerate(codes):
                draft.append(cross_entropy(forced[level][0], code, blur))
                slot = batch["next_code_slots"][target, level]
                following.append(cross_entropy(logits[slot], tokens[level], blur))
        parts = model.train(training)(**batch)
        torch.testing.assert_close(parts["draft_loss"], torch.stack(draft).mean())
        expected = torch.stack(draft).mean()
        if weight:
            torch.testing.assert_close(parts["next_code_loss"], torch.stack(following).mean())
            expected = expected + weight * torch.stack(following).mean()
        assert set(parts) == {"loss", "draft_loss"} | ({"next_code_loss"} if weight else set())
        torch.testing.assert_close(parts["loss"], expected)
        assert [name for name, part in parts.items() if part.requires_grad] == ["loss"]


def test_without_next_code_loss_output_embeddings_learn_nothing() -> None:
    untied = tiny_model(IDS, "llama", next_code_weight=0.0)
    untied(**batch_for(untied))["loss"].backward()
    assert untied.backbone.get_output_embeddings().weight.grad is None

    tied = tiny_model(IDS, "qwen3", next_code_weight=0.0)
    batch = batch_for(tied)
    tied(**batch)["loss"].backward()
    gradient = tied.backbone.get_output_embeddings().weight.grad
    touched = set(gradient.abs().sum(dim=1).nonzero().flatten().tolist())
    assert touched, "as input embeddings they do learn"
    assert touched <= set(batch["input_ids"].flatten().tolist())

    with_loss = tiny_model(IDS, "llama", next_code_weight=1.0)
    with_loss(**batch_for(with_loss))["loss"].backward()
    assert with_loss.backbone.get_output_embeddings().weight.grad.abs().min() > 0


def test_padding_changes_no_loss() -> None:
    model = tiny_model(IDS).double()
    batch = batch_for(model)
    padding = batch["input_ids"] == model.vocabulary.pad
    assert padding.any()
    loss = model(**batch)["loss"]
    batch["input_ids"][padding] = model.vocabulary.bos
    torch.testing.assert_close(model(**batch)["loss"], loss, rtol=0, atol=0)


# ---- dropout and precision ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_dropout_is_off_in_eval_and_on_in_training(kind: str) -> None:
    plain, model = tiny_model(IDS, kind), tiny_model(IDS, kind, dropout=0.4)
    assert same_outputs(model, plain), "in eval mode dropout leaves no mark"
    prompts = model.build_prompts([[1, 2]], IDS)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        assert torch.equal(plain.train().draft_states(prompts), plain.draft_states(prompts))
        model.train()
        assert not torch.equal(model.draft_states(prompts), model.draft_states(prompts))
        # Residual branches have theirs even where the embeddings' is switched off.
        model.embedding_dropout.p = 0.0
        assert not torch.equal(model.draft_states(prompts), model.draft_states(prompts))
        assert same_outputs(model.eval(), plain.eval())


@pytest.mark.parametrize(("dropout", "rate"), [(0.4, 0.4), (0.0, 0.1)])
def test_dropout_replaces_gpt2_s_own(dropout: float, rate: float) -> None:
    """Once, not twice; GPT-2's own rate, 0.1, acts where ours is 0."""
    model = tiny_model(IDS, "gpt2", dropout=dropout).train()
    block, dropped = model.backbone.transformer.h[0], []
    for branch in (block.attn.resid_dropout, block.mlp):
        branch.register_forward_hook(lambda module, inputs, output: dropped.append(output == 0))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model.draft_states(model.build_prompts([[1, 2, 3, 4, 5, 6]] * 20, IDS))
    assert [share.double().mean().item() for share in dropped] == pytest.approx(
        [rate, rate], abs=0.02
    )


def test_dropout_is_refused_where_the_residual_branches_have_unknown_names() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    backbone = GPTNeoXConfig(vocab_size=14, num_attention_heads=2, **sizes)
    NezhaModel(NezhaConfig.for_backbone(backbone, radices=RADICES))
    with pytest.raises(ValueError, match=r"dropout is 0\.1, but must be 0 .* type 'gpt_neox'"):
        NezhaModel(NezhaConfig.for_backbone(backbone, radices=RADICES, dropout=0.1))


@pytest.mark.parametrize("kind", BACKBONES)
def test_bfloat16_runs_and_stays_near(kind: str) -> None:
    model, half = tiny_model(IDS, kind), tiny_model(IDS, kind).to(torch.bfloat16)
    exact = model(**batch_for(model))["loss"]
    rough = half(**batch_for(half))["loss"]
    rough.backward()
    assert rough.isfinite()
    assert rough.detach().item() == pytest.approx(exact.detach().item(), rel=0.05)
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all() for parameter in half.parameters()
    )
    hidden = half.draft_states(half.build_prompts(HISTORIES, IDS))
    assert hidden.dtype == torch.bfloat16
    assert (
        F.cosine_similarity(
            hidden.float(), model.draft_states(model.build_prompts(HISTORIES, IDS)), dim=-1
        ).min()
        > 0.95
    )


@pytest.mark.parametrize("kind", BACKBONES)
def test_left_padding_leaves_draft_states_alone(kind: str) -> None:
    model = tiny_model(IDS, kind)
    together = model.draft_states(model.build_prompts(HISTORIES, IDS))
    assert together.isfinite().all()
    for row, history in enumerate(HISTORIES):
        alone = model.draft_states(model.build_prompts([history], IDS))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


# ---- evaluation mode ----------------------------------------------------------------------------


def test_evaluating_switches_all_dropout_off_and_restores_every_mode() -> None:
    model = tiny_model(IDS, "gpt2", dropout=0.4).train()
    model.head.eval()  # a mode of its own, which must come back
    modes = {name: module.training for name, module in model.named_modules()}
    prompts = model.build_prompts(HISTORIES, IDS)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        before = torch.get_rng_state()
        with model.evaluating():
            hidden = model.draft_states(prompts)
            assert not any(module.training for module in model.modules())
        assert torch.equal(torch.get_rng_state(), before), "nothing was drawn"
        assert not torch.equal(model.draft_states(prompts), hidden)
    assert {name: module.training for name, module in model.named_modules()} == modes
    with pytest.raises(KeyError), model.evaluating():
        raise KeyError
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(model.eval().draft_states(prompts), hidden)


# ---- what a decoder costs -----------------------------------------------------------------------


@pytest.mark.parametrize("histories", [[[1, 2], [3, 4]], HISTORIES])
@pytest.mark.parametrize("kind", [*BACKBONES, "mistral"])
def test_a_pass_searches_no_packed_sequences(
    kind: str, histories: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers' search waits for the device, once a pass."""
    model = tiny_model(IDS, kind)
    searches: list[Tensor] = []
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", searches.append)
    hidden = model.draft_states(model.build_prompts(histories, IDS))
    assert searches == []
    for row, history in enumerate(histories):
        prompt = model.build_prompts([history], IDS)
        output = model.backbone.base_model(prompt.input_ids, use_cache=False)
        expected = output.last_hidden_state[:, -4:]
        torch.testing.assert_close(hidden[row : row + 1], expected, rtol=1e-4, atol=1e-5)
    assert len(searches) == len(histories), "the search that is avoided"
