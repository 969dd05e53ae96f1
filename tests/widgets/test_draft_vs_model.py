"""The head beside the model, driven through traits."""

import html
from xml.etree import ElementTree

import ipywidgets
import pytest
import traitlets

from nezha_lite.decoding import (
    AutoregressiveDecoder,
    NezhaDecoder,
    SpeculativeDecoder,
    Verification,
)
from nezha_lite.model import NezhaModel
from nezha_lite.plots.agreement_figures import describe, rank_marks
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier
from nezha_lite.widgets import DraftAgainstModel
from tests.helpers.hostile import ELEMENT, HOSTILE, fresh_model, hostile_dataset, hostile_ids
from tests.helpers.panels import controls, parts

IDS = hostile_ids()
DATASET = hostile_dataset()


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return fresh_model(IDS)


@pytest.fixture
def widget(model: NezhaModel) -> DraftAgainstModel:
    return DraftAgainstModel(model, IDS, DATASET)


@pytest.mark.parametrize("row", [0, 1])
def test_a_beam_as_wide_as_the_catalogue_agrees_wholly(model: NezhaModel, row: int) -> None:
    widget = DraftAgainstModel(model, IDS, DATASET, users=[4, 9], beam=IDS.n_items)
    widget.user = [4, 9][row]
    agreement = widget.agreement
    assert agreement is not None
    assert agreement.shares == [1.0] * 3
    assert agreement.accepted == [1.0] * 2
    assert all(one.shared == one.model_kept for one in agreement.levels)
    assert agreement.levels[2].model_kept == IDS.n_distinct
    assert {*agreement.head_items} == {*agreement.model_items} == {*range(IDS.n_items)}
    assert not len(widget.figures[0].data[3].x)  # no cross


@pytest.mark.parametrize("verification", ["off", "prefix"])
def test_the_acceptance_shown_is_the_speculative_decoders(
    widget: DraftAgainstModel, verification: Verification
) -> None:
    widget.verification, widget.beam = verification, 9
    seen = set()
    for user in widget.subject.users:
        widget.user = user
        decoder = SpeculativeDecoder(widget.subject.model, SortedVerifier(IDS), verification)
        prompts = widget.subject.model.build_prompts([widget.subject.histories[user]], IDS)
        result = decoder.decode(prompts, 9)
        assert result.accepted is not None
        found = widget.agreement
        assert found is not None
        assert found.accepted == pytest.approx(result.accepted[0].tolist())
        assert found.speculative_calls == result.backbone_calls
        text = html.unescape(widget.summary.value)
        shares = ", ".join(f"{100 * share:.0f} %" for share in result.accepted[0].tolist())
        assert f"it foresaw {shares} of the model's beam" in text
        assert f"called the backbone {result.backbone_calls} times" in text
        assert list(widget.figures[1].data[2].y) == pytest.approx(
            [100 * share for share in result.accepted[0].tolist()]
        )
        seen.add(tuple(found.accepted))
    assert len(seen) > 1, "users differ, so the test can fail"


def test_lists_are_compared(widget: DraftAgainstModel, model: NezhaModel) -> None:
    for user in widget.subject.users:
        widget.user = user
        found = widget.agreement
        assert found is not None
        prompts = model.build_prompts([widget.subject.histories[user]], IDS)
        counts = DATASET.popularity()
        lists = []
        for kind in (NezhaDecoder, AutoregressiveDecoder):
            keys = kind(model, SortedVerifier(IDS)).decode(prompts, 10).keys[0].tolist()
            sharing = [[n for n, own in enumerate(IDS.keys.tolist()) if own == key] for key in keys]
            lists.append([n for some in sharing for n in sorted(some, key=lambda n: -counts[n])])
        assert [found.head_items, found.model_items] == lists
        shared = len({*lists[0][:10]} & {*lists[1][:10]})
        text = html.unescape(widget.summary.value)
        assert f"The lists share {shared} of 10 items" in text


def test_the_figure_joins_what_both_kept(widget: DraftAgainstModel) -> None:
    found = widget.agreement
    assert found is not None
    lines, _, both, alone, counts = widget.figures[0].data
    shared = sum(level.shared for level in found.levels)
    assert len(both.x) == 2 * shared
    assert list(lines.x).count(None) == shared
    ranked = {(x, y) for x, y in zip(both.x, both.y, strict=True)}
    assert {(x, y) for x, y in zip(lines.x, lines.y, strict=True) if x is not None} == ranked
    assert len(alone.x) == sum(not one.shared for level in found.levels for one in level.prefixes)
    assert both.marker.symbol != alone.marker.symbol
    assert counts.text[1] == f"level 2: {found.levels[1].shared} of {found.levels[1].model_kept}"


def test_every_prefix_can_be_chosen_and_is_explained(widget: DraftAgainstModel) -> None:
    found = widget.agreement
    assert found is not None
    unknown = 0
    prefixes = [one for level in found.levels for one in level.prefixes]
    assert [codes for _, codes in widget.prefix_choice.menu.options] == [p.codes for p in prefixes]
    for level in found.levels:
        for one in level.prefixes:
            widget.prefix_choice.menu.value = one.codes
            assert widget.prefix == one.codes
            text = html.unescape(widget.explanation.value)
            assert describe(one) in text
            for opinion, whose in ((one.head, "head"), (one.model, "model")):
                unknown += opinion.log_prob is None
                place = "not kept" if opinion.rank is None else f"rank {opinion.rank}"
                assert f"{place} by the {whose}" in text
            ring = widget.figures[0].data[1]
            ranks = [rank for rank in (one.head.rank, one.model.rank) if rank is not None]
            assert list(ring.y) == ranks
            assert {round(x) for x in ring.x} == {level.level}
    assert unknown, "some prefix was lost with its parent, so that sentence is shown"


def test_a_click_chooses_the_mark(widget: DraftAgainstModel) -> None:
    found = widget.agreement
    assert found is not None
    mark = rank_marks(found.levels, shared=False)[-1]

    class Points:
        point_inds = [len(rank_marks(found.levels, shared=False)) - 1]  # noqa: RUF012

    widget._clicked(False, None, Points, None)
    assert widget.prefix == mark.prefix.codes
    assert describe(mark.prefix) in html.unescape(widget.explanation.value)


def test_a_prefix_that_is_still_there_stays_chosen(widget: DraftAgainstModel) -> None:
    widget.beam = 12
    kept = widget.prefix_choice.menu.options[-1][1]
    widget.prefix = kept
    widget.beam = 20
    assert widget.prefix == widget.prefix_choice.menu.value == kept
    widget.beam = 1
    assert widget.prefix == widget.prefix_choice.menu.value != kept


def test_controls_and_traits_follow_each_other(model: NezhaModel) -> None:
    widget = DraftAgainstModel(model, IDS, DATASET, users=[3, 5], beam=5, verification="final")
    named = controls(widget)
    assert {*named} == {"User", "Beam width", "Verification", "Prefix"}
    assert (named["User"].value, named["Verification"].value) == (3, "final")
    named["Beam width"].value = 8
    named["User"].value = 5
    assert (widget.beam, widget.user) == (8, 5)
    assert widget.agreement is not None
    assert widget.agreement.levels[0].model_kept == 6  # no more codes than that
    assert widget.agreement.levels[1].model_kept == 8
    with pytest.raises(traitlets.TraitError, match="beam"):
        widget.beam = 65
    for child in parts(widget):
        interactive = not isinstance(child, ipywidgets.HTML) and hasattr(child, "value")
        assert not interactive or child.description


@pytest.mark.parametrize("weight", ["draft_weight", "next_code_weight"])
def test_a_decoder_that_fails_is_one_sentence(weight: str) -> None:
    widget = DraftAgainstModel(fresh_model(IDS, **{weight: 0.0}), IDS, DATASET)
    assert widget.agreement is None
    assert len(widget.sentences()) == 1
    assert f"{weight} is 0" in widget.summary.value
    assert not len(widget.figures[0].data[2].x)
    widget.beam, widget.user = 20, widget.subject.users[1]
    assert f"{weight} is 0" in widget.summary.value
    ElementTree.fromstring(widget.static_svg())


def test_a_model_without_placeholders_is_compared() -> None:
    widget = DraftAgainstModel(fresh_model(IDS, placeholders=False), IDS, DATASET)
    assert widget.agreement is not None


def test_a_model_of_another_shape_is_one_sentence() -> None:
    other = SemanticIds.from_codes(IDS.codes, (7, 7, 7))
    widget = DraftAgainstModel(fresh_model(other), IDS, DATASET)
    assert "radices" in widget.summary.value
    assert len(widget.sentences()) == 1


def test_hostile_titles_are_text_and_the_static_form_stays(model: NezhaModel) -> None:
    first, second = (DraftAgainstModel(model, IDS, DATASET, beam=20) for _ in range(2))
    assert any(html.escape(title) in first.summary.value for title in HOSTILE)
    for text in (first.summary.value, first.explanation.value, first.static_svg()):
        assert not ELEMENT.search(text)
    ElementTree.fromstring(first.static_svg())
    assert first._repr_mimebundle_()["image/svg+xml"] == second.static_svg()
