"""Widgets driven through their traits, without a browser."""

import html
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
import traitlets

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.decoding import DecodeResult, DecodeTrace
from nezha_lite.model import NezhaModel
from nezha_lite.plots.beam_figures import Outcome
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets import DecodeExplorer, VerifierLab
from nezha_lite.widgets.tables import ListRow, item_table, list_rows, selected_rows
from tests.helpers.hostile import HOSTILE
from tests.helpers.panels import controls, parts, shown_html

N_ITEMS = 60


def catalogue() -> SemanticIds:
    generator = torch.Generator().manual_seed(1)
    return SemanticIds.from_codes(torch.randint(0, 6, (N_ITEMS, 3), generator=generator), (6, 6, 6))


def dataset(titled: bool = True) -> InteractionDataset:
    generator = torch.Generator().manual_seed(2)
    sequences = torch.randint(0, N_ITEMS, (12, 15), generator=generator).tolist()
    texts = tuple(ItemText(f"thing {item} {HOSTILE[item % 3]}") for item in range(N_ITEMS))
    return InteractionDataset(
        name="toy",
        items=tuple(map(str, range(N_ITEMS))),
        users=tuple(f"user-{user} <i>" for user in range(12)),
        sequences=tuple(map(tuple, sequences)),
        texts=texts if titled else None,
    )


IDS = catalogue()


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return NezhaModel.from_preset("tiny", IDS).eval()


@pytest.fixture
def lab(model: NezhaModel) -> VerifierLab:
    return VerifierLab(model, IDS, dataset())


@pytest.fixture
def explorer(model: NezhaModel) -> DecodeExplorer:
    return DecodeExplorer(model, IDS, dataset())


def recount(trace: DecodeTrace) -> Iterator[tuple[int, int]]:
    """Per level (proposed drafts that exist, proposed drafts), from the scores alone."""
    catalogue_keys = [set(IDS.prefix_keys(level).tolist()) for level in (1, 2, 3)]
    for level, step in enumerate(trace.levels):
        scored = zip(
            step.scores[0].flatten().tolist(), step.keys[0].flatten().tolist(), strict=True
        )
        ranked = sorted((pair for pair in scored if pair[0] > -1e30), reverse=True)
        drafts = [key for _, key in ranked[: step.proposed.shape[1]]]
        yield sum(key in catalogue_keys[level] for key in drafts), len(drafts)


def rows_of(table: str) -> list[str]:
    return re.findall(r"<tr>(?!<th)(.*?)</tr>", table)


# ---- both ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VerifierLab, DecodeExplorer])
class TestBoth:
    def test_every_control_says_what_it_is(self, kind: type, model: NezhaModel) -> None:
        widget = kind(model, IDS, dataset())
        assert {"User", "Beam width", "Verification"} <= set(controls(widget))
        for child in parts(widget):
            interactive = not isinstance(child, ipywidgets.HTML) and hasattr(child, "value")
            assert not interactive or child.description

    def test_controls_and_traits_follow_each_other(self, kind: type, model: NezhaModel) -> None:
        widget = kind(model, IDS, dataset(), users=[3, 5], beam=5, verification="final")
        found = controls(widget)
        assert found["User"].value == 3
        assert found["Beam width"].value == 5
        assert found["Verification"].value == "final"
        found["Beam width"].value = 20
        found["Verification"].value = "prefix"
        assert (widget.beam, widget.verification) == (20, "prefix")
        widget.user = 5
        assert found["User"].value == 5
        assert widget.result.keys.shape == (1, 20)

    def test_hostile_titles_are_text(self, kind: type, model: NezhaModel) -> None:
        widget = kind(model, IDS, dataset(), beam=50)
        everything = shown_html(widget)
        assert html.escape(HOSTILE[0]) in everything
        assert html.escape(HOSTILE[1]) in everything
        assert not re.search(r"<(script|img|i)\b", everything)
        assert not re.search(r"<(script|img|i)\b", widget.static_svg())

    def test_the_static_form_is_well_formed_and_the_same_each_time(
        self, kind: type, model: NezhaModel
    ) -> None:
        first, second = (kind(model, IDS, dataset()) for _ in range(2))
        bundle = first._repr_mimebundle_()
        ElementTree.fromstring(bundle["image/svg+xml"])
        assert bundle["image/svg+xml"] == second._repr_mimebundle_()["image/svg+xml"]
        assert bundle["text/plain"] == second._repr_mimebundle_()["text/plain"]
        assert "application/vnd.jupyter.widget-view+json" in bundle

    def test_a_data_set_without_titles_will_do(self, kind: type, model: NezhaModel) -> None:
        widget = kind(model, IDS, dataset(titled=False))
        assert "item " in widget.table.value
        ElementTree.fromstring(widget.static_svg())

    def test_a_decode_that_fails_is_one_sentence(self, kind: type, model: NezhaModel) -> None:
        other = SemanticIds.from_codes(IDS.codes, (7, 7, 7))
        widget = kind(NezhaModel.from_preset("tiny", other), IDS, dataset())
        assert widget.result is None
        assert "radices" in widget.summary.value
        assert "Traceback" not in widget.summary.value
        assert widget.table.value == ""
        assert "radices" in widget._repr_mimebundle_()["image/svg+xml"]

    def test_parts_that_do_not_fit_are_refused(self, kind: type, model: NezhaModel) -> None:
        fewer = SemanticIds.from_codes(IDS.codes[:-1], IDS.radices)
        with pytest.raises(ValueError, match="'toy' is 60, but must be 59, as the semantic"):
            kind(model, fewer, dataset())
        with pytest.raises(ValueError, match="user is 99, but must be one of the 12 users"):
            kind(model, IDS, dataset(), users=[99])
        with pytest.raises(ValueError, match="but must be at least one of the 12 users"):
            kind(model, IDS, dataset(), users=[])
        with pytest.raises(traitlets.TraitError, match="beam"):
            kind(model, IDS, dataset(), beam=0)

    def test_prefix_verification_lists_nothing_that_does_not_exist(
        self, kind: type, model: NezhaModel
    ) -> None:
        widget = kind(model, IDS, dataset(), beam=20, verification="off")
        assert "✕" in widget.table.value, "this model hallucinates, so the test can fail"
        widget.verification = "final"
        assert "✕" not in widget.table.value
        shorter = len(rows_of(widget.table.value))
        widget.verification = "prefix"
        assert "✕" not in widget.table.value
        assert len(rows_of(widget.table.value)) > shorter


# ---- VerifierLab --------------------------------------------------------------------------------


@pytest.mark.parametrize("beam", [1, 10, 50, 500])
@pytest.mark.parametrize("mode", ["off", "final", "prefix"])
def test_bars_and_sentences_equal_a_recount(lab: VerifierLab, beam: int, mode: str) -> None:
    lab.beam, lab.verification = beam, mode
    existing, rejected, unchecked, _ = lab.figure.data
    assert lab.result is not None
    assert lab.result.trace is not None
    for level, (real, proposed) in enumerate(recount(lab.result.trace)):
        assert existing.y[level] == real
        assert rejected.y[level] + unchecked.y[level] == proposed - real
        assert f"Level {level + 1}: {real} of {proposed} drafts exist" in lab.summary.value
        checked = mode == "prefix" or (mode == "final" and level == 2)
        assert (unchecked if checked else rejected).y[level] == 0


def test_the_beam_changes_the_table(lab: VerifierLab) -> None:
    lab.verification, lab.beam = "prefix", 2
    narrow = lab.table.value
    assert len(rows_of(narrow)) == 2
    lab.beam = 10
    assert len(rows_of(lab.table.value)) == 10
    assert "10 of 10 places are filled" in lab.table.value


def test_the_table_lists_the_decoded_items_in_order(lab: VerifierLab) -> None:
    lab.verification, lab.beam = "prefix", 5
    assert lab.result is not None
    for row, key in zip(rows_of(lab.table.value), lab.result.keys[0].tolist(), strict=True):
        first = IDS.items_of(key)[0]
        assert html.escape(f"thing {first} ") in row


def test_a_long_list_shows_its_head_and_its_hallucinations() -> None:
    rows = [ListRow(n, (n,), -n, () if n % 4 == 0 else (0,)) for n in range(1, 40)]
    selected = selected_rows(rows, best=5, hallucinations=3)
    assert [row.rank for row in selected] == [1, 2, 3, 4, 5, 8, 12, 16]
    table = item_table(selected, dataset(), "a < b", target=0).html()
    assert table.count("⋮</td>") == 6
    assert "a &lt; b" in table
    assert table.count("★ chosen next") == 4


# ---- DecodeExplorer -----------------------------------------------------------------------------


def marks(explorer: DecodeExplorer) -> int:
    return sum(len(trace.x) for trace in explorer.figure.data[3:-1])


def test_the_tree_grows_with_the_steps(explorer: DecodeExplorer) -> None:
    explorer.step = 0
    assert marks(explorer) == 0
    assert explorer.table.value == ""
    sizes = []
    for step in (1, 2, 3, 4):
        explorer.step = step
        sizes.append(marks(explorer))
        shown = [row for row in explorer.tree if row.node.level <= step]
        assert len(explorer.node_choice.menu.options) == len(shown) + 1 == sizes[-1] + 1
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]
    assert "<table" in explorer.table.value
    assert "Backbone calls: 1." in explorer.summary.value


def test_next_step_goes_round(explorer: DecodeExplorer) -> None:
    button = controls(explorer)["Next step"]
    seen = []
    for _ in range(6):
        button.click()
        seen.append(explorer.step)
        assert controls(explorer)["Step"].value == explorer.step
    assert seen == [0, 1, 2, 3, 4, 0]
    assert "No code is drafted yet" in explorer.summary.value


def test_temperature_changes_scores_and_says_so(explorer: DecodeExplorer) -> None:
    assert explorer.result is not None
    before = explorer.result.scores
    assert "Temperature" not in explorer.summary.value
    controls(explorer)["Temperature"].value = 4.0
    assert explorer.result.scores[0, 0] < before[0, 0], "a flatter best is less likely"
    assert "Temperature 4: the beam spreads" in explorer.summary.value
    explorer.temperature = 0.25
    assert explorer.result.scores[0, 0] > before[0, 0]
    explorer.temperature = 1.0
    assert torch.equal(explorer.result.scores, before)


def test_a_pruned_draft_names_the_score_it_missed(explorer: DecodeExplorer) -> None:
    pruned = [row.node for row in explorer.tree if row.node.outcome is Outcome.PRUNED]
    assert explorer.result is not None
    assert explorer.result.trace is not None
    for node in pruned:
        level = explorer.result.trace.levels[node.level - 1]
        worst = level.scores[0].flatten()[level.kept[0]].min()
        explorer.node = (node.level, node.candidate)
        assert f"below the beam's worst score ({worst:.2f})" in html.unescape(
            explorer.explanation.value
        )
        assert node.log_prob <= worst
    assert pruned


def test_rejections_are_told_level_by_level(explorer: DecodeExplorer) -> None:
    explorer.beam = 20
    assert explorer.result is not None
    assert explorer.result.trace is not None
    lost = {
        level: proposed - real
        for level, (real, proposed) in enumerate(recount(explorer.result.trace), start=1)
    }
    assert sum(lost.values()) > 0
    assert f"Hallucinations rejected: {sum(lost.values())}" in explorer.summary.value
    for level, count in lost.items():
        assert (f"level {level}: {count}" in explorer.summary.value) == (count > 0)


@pytest.mark.parametrize("mode", ["off", "final", "prefix"])
def test_a_draft_explains_itself(explorer: DecodeExplorer, mode: str) -> None:
    explorer.verification = mode
    codes = IDS.codes.tolist()
    for row in explorer.tree:
        node = row.node
        explorer.node = (node.level, node.candidate)
        text = html.unescape(explorer.explanation.value)
        assert node.outcome.value in text
        sharing = sum(item[: node.level] == list(node.codes) for item in codes)
        assert f" {sharing} item" in text
        assert text.count("thing ") == min(3, sharing)
        ring = explorer.figure.data[-1]
        assert (list(ring.x), list(ring.y)) == ([node.level], [row.y])


def test_a_click_on_a_mark_explains_that_mark(explorer: DecodeExplorer) -> None:
    explorer.beam = 12
    fates = {trace.name: place for place, trace in enumerate(explorer.figure.data) if trace.name}
    place = fates["rejected: does not exist"]
    wanted = [row.node for row in explorer.tree if row.node.outcome is Outcome.REJECTED][2]

    class Points:
        trace_index, point_inds = place, [2]

    explorer._clicked(explorer.figure.data[place], Points, None)
    assert explorer.node == (wanted.level, wanted.candidate)
    assert explorer.node_choice.menu.value == explorer.node
    assert "-".join(map(str, wanted.codes)) in explorer.explanation.value


def test_an_explanation_is_about_the_decode_on_show(explorer: DecodeExplorer) -> None:
    best = explorer.tree[0].node  # the likeliest first code is so at every temperature
    explorer.node = (best.level, best.candidate)
    explanations = {explorer.explanation.value}
    for temperature in (4.0, 0.25):
        explorer.temperature = temperature
        assert explorer.node == (best.level, best.candidate)
        node = explorer.tree[0].node
        assert f"(log-probability {node.log_prob:.2f})" in explorer.explanation.value
        explanations.add(explorer.explanation.value)
    assert len(explanations) == 3


def test_a_draft_out_of_sight_is_no_longer_explained(explorer: DecodeExplorer) -> None:
    last = explorer.tree[-1].node
    explorer.node = (last.level, last.candidate)
    explorer.step = 1
    assert explorer.node == ()
    assert len(explorer.figure.data[-1].x) == 0
    assert "Click a mark" in explorer.explanation.value


def test_the_history_shows_the_last_ten_items(explorer: DecodeExplorer) -> None:
    data = dataset()
    explorer.user = explorer.subject.users[1]
    history = data.split("test").histories[explorer.user]
    cards = re.findall(r"<li[^>]*>(.*?)</li>", explorer.history.value)
    assert cards == [html.escape(data.title(item)) for item in history[-10:]]


def test_items_that_share_an_id_come_by_popularity(model: NezhaModel) -> None:
    keys = torch.tensor([[int(catalogue().keys[0])]])
    twins = SemanticIds.from_codes(
        torch.cat([catalogue().codes[:1], catalogue().codes[:1]]), catalogue().radices
    )
    result = DecodeResult(keys, torch.zeros(1, 1), backbone_calls=1, trace=None)
    assert list_rows(result, 0, twins, popularity=[3, 2])[0].items == (0, 1)
    assert list_rows(result, 0, twins, popularity=[2, 3])[0].items == (1, 0)
