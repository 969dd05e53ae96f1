"""The method on one screen: its numbers against the decoders', step by step."""

import html
import math
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
import torch

from nezha_lite.decoding import AutoregressiveDecoder, NezhaDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.plots.numbers import code_text, probability
from nezha_lite.verifiers import SortedVerifier
from nezha_lite.widgets import MethodExplorer
from tests.helpers.hostile import ELEMENT, HOSTILE, fresh_model, hostile_dataset, hostile_ids
from tests.helpers.panels import controls
from tests.plots.test_static_layout import assert_readable

IDS, DATASET = hostile_ids(), hostile_dataset()
# Traces of the drawing.
LINKS, NEW_LINKS, BACKBONE, PASSES, PASSES_TO_COME = range(5)
CODES, PLACEHOLDERS, WAITING, READ, MOVED, KEPT, UNCHECKED, REJECTED, PRUNED = range(5, 14)


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return fresh_model(IDS)


@pytest.fixture
def explorer(model: NezhaModel) -> MethodExplorer:
    return MethodExplorer(model, IDS, DATASET)


def steps(explorer: MethodExplorer) -> Iterator[int]:
    for step in range(explorer.last_step + 1):
        explorer.step = step
        yield step


def marks(explorer: MethodExplorer, trace: int) -> int:
    return sum(x is not None for x in explorer.figure.data[trace].x)


def test_the_prompt_is_the_models(explorer: MethodExplorer, model: NezhaModel) -> None:
    vocabulary = model.vocabulary
    names = {vocabulary.bos: "BOS"}
    names |= {token: f"SP{level}" for level, token in enumerate(vocabulary.placeholders, start=1)}
    for level in range(3):
        tokens = vocabulary.level_tokens(level)
        names |= {token: str(token - tokens.start) for token in tokens}
    prompts = model.build_prompts([explorer.subject.histories[explorer.user]], IDS)
    assert explorer.tokens == [names[token] for token in prompts.input_ids[0].tolist()]


@torch.inference_mode()
@pytest.mark.parametrize("verification", ["off", "final", "prefix"])
def test_the_numbers_of_each_level_are_teacher_forcing(
    explorer: MethodExplorer, model: NezhaModel, verification: str
) -> None:
    explorer.verification = verification
    hidden = model.draft_states(explorer.subject.prompts(explorer.user))[0]
    for level in (1, 2, 3):
        explorer.step = level + 1
        table = explorer.tables()[0]
        assert len(table.rows) >= 6
        for prefix, own, whole, _ in table.rows:
            state, log_probs = hidden[:1], []
            codes = IDS.codes.new_tensor([*map(int, prefix.split("-"))])
            for number, code in enumerate(codes):
                scores = model.head.log_probs(number, hidden[number + 1], state)[0]
                log_probs.append(float(scores[code]))
                if number + 1 < level:
                    state = model.head.advance(number, code[None], state)
            expected = [probability(log_probs[-1]), probability(math.fsum(log_probs))]
            close = [
                math.isclose(float(a[:-2]), float(b[:-2]), rel_tol=0.05)
                for a, b in zip((own, whole), expected, strict=True)
            ]
            assert all(close), (own, whole, expected)


def test_the_trie_marks_exactly_what_exists(explorer: MethodExplorer) -> None:
    explorer.beam = 20
    existing = [{tuple(row[:level]) for row in IDS.codes.tolist()} for level in (1, 2, 3)]
    rejected = 0
    for level in (1, 2, 3):
        explorer.step = level + 1
        for prefix, *_, outcome in explorer.tables()[0].rows:
            exists = tuple(map(int, prefix.split("-"))) in existing[level - 1]
            assert (outcome == "kept") == exists
            assert (outcome == "✕ rejected") == (not exists)
            rejected += not exists
        assert marks(explorer, REJECTED) == rejected
    assert rejected, "this model hallucinates, so the test can fail"


def test_the_list_is_the_decoders(explorer: MethodExplorer, model: NezhaModel) -> None:
    prompts = model.build_prompts([explorer.subject.histories[explorer.user]], IDS)
    keys = NezhaDecoder(model, SortedVerifier(IDS)).decode(prompts, 10).keys[0].tolist()
    rows = explorer.tables()[0].rows
    assert len(rows) == len(keys) == 10
    for (rank, title, _), (place, key) in zip(rows, enumerate(keys, start=1), strict=True):
        assert rank == str(place)
        assert any(DATASET.title(item) in html.unescape(title) for item in IDS.items_of(key))


def test_passes_and_tokens_are_those_of_both_decoders(
    explorer: MethodExplorer, model: NezhaModel
) -> None:
    read: list[int] = []
    hook = model.backbone.model.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: read.append(output[0].shape[1])
    )
    prompts = model.build_prompts([explorer.subject.histories[explorer.user]], IDS)
    result = AutoregressiveDecoder(model, SortedVerifier(IDS)).decode(prompts, explorer.beam)
    hook.remove()
    assert explorer.passes == read
    assert result.backbone_calls == len(explorer.passes) == 3
    assert explorer.passes[0] == len(explorer.tokens) - 3
    work = {step: explorer.tables()[-1].rows for step in steps(explorer)}
    assert [rows[0][1] for rows in work.values()] == ["0", "1", "1", "1", "1", "1"]
    assert [rows[1][1] for rows in work.values()] == ["0", "1", "1", "2", "3", "3"]
    assert work[5][0][2] == str(len(explorer.tokens))
    assert work[5][1][2] == str(sum(explorer.passes))
    assert "once, the autoregressive decoder 3 times" in explorer.summary.value


def test_the_drawing_grows_with_the_steps(explorer: MethodExplorer) -> None:
    kinds = (READ, WAITING, MOVED, PASSES, PASSES_TO_COME)
    seen = {step: [marks(explorer, kind) for kind in kinds] for step in steps(explorer)}
    assert seen == {
        0: [0, 7, 0, 0, 6],
        1: [4, 3, 0, 2, 4],
        2: [4, 2, 1, 2, 4],
        3: [4, 1, 2, 4, 2],
        4: [4, 0, 3, 6, 0],
        5: [4, 0, 3, 6, 0],
    }
    drafts = {step: marks(explorer, KEPT) for step in steps(explorer)}
    assert 0 == drafts[0] == drafts[1] < drafts[2] < drafts[3] < drafts[4] == drafts[5]
    news = {step: marks(explorer, NEW_LINKS) for step in steps(explorer)}
    assert (news[0], news[5]) == (0, 0)
    assert all(news[step] for step in (1, 2, 3, 4))


def test_the_figure_is_the_same_redrawn_as_new(explorer: MethodExplorer) -> None:
    for _ in steps(explorer):
        (fresh,) = [draw() for draw in explorer.drawings()]
        for old, new in zip(explorer.figure.data, fresh.data, strict=True):
            assert (old.x, old.y, old.text, old.hovertext) == (
                new.x,
                new.y,
                new.text,
                new.hovertext,
            )


def test_every_mark_of_a_draft_tells_its_numbers(explorer: MethodExplorer) -> None:
    kept = explorer.figure.data[KEPT]
    nodes = [row.node for row in explorer.tree if row.node.position >= 0]
    assert len(kept.hovertext) == len(nodes)
    for node in nodes:
        wanted = f"{code_text(node.codes)}, log-probability {node.log_prob:.2f}"
        assert any(text.startswith(wanted) for text in kept.hovertext)


def test_buttons_player_and_slider_are_one_step(explorer: MethodExplorer) -> None:
    found = controls(explorer)
    assert {"User", "Beam width", "Verification", "Step", "Play"} <= {*found}
    names = [name for name, _ in found["Step"].options]
    assert names == ["prompt", "backbone", "level 1", "level 2", "level 3", "list"]
    found["Next step"].click()
    assert explorer.step == found["Step"].value == found["Play"].value == 0
    found["Step back"].click()
    assert explorer.step == 5
    found["Play"].value = 3
    assert (explorer.step, found["Step"].label) == (3, "level 2")
    found["Step"].value = 1
    assert explorer.step == 1
    assert found["Play"].max == explorer.last_step


def test_every_step_has_words_and_a_readable_static_form(explorer: MethodExplorer) -> None:
    seen = set()
    for _ in steps(explorer):
        bundle = explorer._repr_mimebundle_()
        ElementTree.fromstring(bundle["image/svg+xml"])
        assert_readable(bundle["image/svg+xml"])
        assert not ELEMENT.search(bundle["image/svg+xml"] + explorer.table.value)
        assert explorer.summary.value.count("<p>") == len(explorer.sentences()) >= 1
        seen.add(bundle["text/plain"])
    assert len(seen) == explorer.last_step + 1
    assert any(html.escape(title) in explorer.table.value for title in HOSTILE)


def test_what_cannot_be_decoded_is_said(model: NezhaModel) -> None:
    other = fresh_model(IDS, draft_weight=0.0)
    explorer = MethodExplorer(other, IDS, DATASET)
    assert "draft_weight is 0" in explorer.summary.value
    assert explorer.tables() == []
    ElementTree.fromstring(explorer.static_svg())
    with pytest.raises(ValueError, match="next_code_weight is 0"):
        MethodExplorer(fresh_model(IDS, next_code_weight=0.0), IDS, DATASET)
