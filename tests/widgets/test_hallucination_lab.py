"""The lab where drafts land on the map of what exists, driven through its traits."""

import html
import re
from xml.etree import ElementTree

import ipywidgets
import pytest
import traitlets
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.decoding import VERIFICATIONS, NezhaDecoder, Verification
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.model import NezhaModel
from nezha_lite.plots.id_map_figures import IdOutcome
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets import HallucinationLab
from tests.helpers.living import CATEGORIES, HOSTILE, IDS, N_ITEMS, catalogue, dataset, random_model
from tests.helpers.panels import controls, parts


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return random_model(IDS)


@pytest.fixture
def lab(model: NezhaModel) -> HallucinationLab:
    return HallucinationLab(model, IDS, dataset())


def listed(lab: HallucinationLab) -> list[int]:
    return lab.served.items


def draft_codes(lab: HallucinationLab) -> list[tuple[int, ...]]:
    """The unchecked drafts, from a decoder that has never heard of any catalogue."""
    subject = lab.subject
    prompts = subject.model.build_prompts([subject.histories[lab.user]], IDS)
    keys = NezhaDecoder(subject.model, None, "off").decode(prompts, lab.beam).keys[0]
    return [tuple(codes) for codes in IDS.codes_of(keys).tolist()]


def gone(lab: HallucinationLab) -> set[int]:
    forbidden = {item for item in range(N_ITEMS) if CATEGORIES[item % 3] == lab.forbidden}
    return set(lab.removed) | (set(range(N_ITEMS)) if lab.forbidden == "Home" else forbidden)


def marks(figure: object, outcome: IdOutcome) -> int:
    (trace,) = (trace for trace in figure.data if trace.name == outcome.value)  # type: ignore[attr-defined]
    return sum(int(text.split(": ")[1].split()[0]) for text in trace.hovertext)


# ---- the map ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("removed", "forbidden"),
    [((), ""), (tuple(range(40)), ""), ((1, 2), CATEGORIES[1]), ((), "Home")],
)
@pytest.mark.parametrize("mode", VERIFICATIONS)
def test_the_map_counts_what_a_set_counts(
    lab: HallucinationLab, removed: tuple[int, ...], forbidden: str, mode: Verification
) -> None:
    lab.verification, lab.removed, lab.forbidden = mode, removed, forbidden
    whole = set(map(tuple, IDS.codes.tolist()))
    left = {tuple(IDS.codes[item].tolist()) for item in range(N_ITEMS) if item not in gone(lab)}
    drafts = draft_codes(lab)
    assert len(drafts) == 50
    expected = {
        IdOutcome.ACCEPTED: sum(codes in left for codes in drafts),
        IdOutcome.REJECTED: sum(codes not in whole for codes in drafts),
        IdOutcome.WITHDRAWN: sum(codes in whole - left for codes in drafts),
    }
    assert expected[IdOutcome.REJECTED] > 0, "this model hallucinates, so the test can fail"
    assert lab.served.counts() == expected
    for outcome, count in expected.items():
        assert marks(lab.figures[0], outcome) == count
    rejected = len(drafts) - expected[IdOutcome.ACCEPTED]
    assert f"Of 50 drafts {expected[IdOutcome.ACCEPTED]} " in lab.summary.value
    assert f"; {rejected} are rejected" in lab.summary.value


# ---- a catalogue that changes -------------------------------------------------------------------


def test_a_removed_item_leaves_list_and_map_and_comes_back(lab: HallucinationLab) -> None:
    lab.beam = 20
    before, drafts = listed(lab), draft_codes(lab)
    first = next(item for item in before if 10 <= item < 50)  # its ID is its own
    assert tuple(IDS.codes[first].tolist()) in drafts
    accepted = lab.served.counts()[IdOutcome.ACCEPTED]
    lab.removed = (first,)
    assert first not in listed(lab)
    assert lab.served.counts()[IdOutcome.ACCEPTED] == accepted - 1
    assert lab.served.counts()[IdOutcome.WITHDRAWN] == 1
    assert marks(lab.figure, IdOutcome.WITHDRAWN) == 1
    assert "1 item is removed" in lab.summary.value
    assert set(listed(lab)) - set(before)
    assert "← new" in lab.table.value
    assert "Gone from it: 1." in lab.summary.value
    lab.removed = ()
    assert listed(lab) == before
    assert lab.served.counts()[IdOutcome.WITHDRAWN] == 0


def test_an_id_lives_until_the_last_of_its_items_is_removed(lab: HallucinationLab) -> None:
    lab.beam = 64
    one = next(item for item in listed(lab) if item < 10)
    twin = one + 50
    assert twin in listed(lab)
    lab.removed = (one,)
    assert lab.served.counts()[IdOutcome.WITHDRAWN] == 0
    assert one not in listed(lab)
    assert twin in listed(lab)
    lab.forbidden = CATEGORIES[twin % 3]
    assert not {one, twin} & set(listed(lab))
    lab.forbidden, lab.removed = "", (one, twin)
    assert not {one, twin} & set(listed(lab))
    assert tuple(IDS.codes[one].tolist()) in {
        draft.codes for draft in lab.served.drafts if draft.outcome is IdOutcome.WITHDRAWN
    }


@pytest.mark.parametrize("mode", VERIFICATIONS)
@pytest.mark.parametrize("category", CATEGORIES)
def test_a_forbidden_category_is_nowhere_on_the_list(
    lab: HallucinationLab, mode: Verification, category: str
) -> None:
    lab.verification = mode
    banned = {item for item in range(N_ITEMS) if CATEGORIES[item % 3] == category}
    before = listed(lab)
    assert banned & set(before)
    lab.forbidden = category
    assert not banned & set(listed(lab))
    assert html.escape(f"category {category} is forbidden") in lab.summary.value
    lab.forbidden = ""
    assert listed(lab) == before


@given(st.lists(st.integers(0, N_ITEMS - 1), max_size=55), st.sampled_from(["", *CATEGORIES]))
@pytest.mark.slow
def test_the_list_is_the_recommenders(
    shared: HallucinationLab, removed: list[int], forbidden: str
) -> None:
    shared.removed, shared.forbidden = tuple(removed), forbidden
    recommender = Recommender(shared.subject.model, IDS)
    recommender.remove_items(removed)
    deny = {item for item in range(N_ITEMS) if CATEGORIES[item % 3] == forbidden}
    (expected,) = recommender.recommend(
        [shared.subject.histories[shared.user]],
        k=shared.beam,
        beam=shared.beam,
        popularity=shared.subject.popularity,
        deny=[deny],
    )
    # Its lists end after k items; where items share IDs, a beam of k IDs names more.
    assert listed(shared)[: len(expected)] == [place.item for place in expected]
    assert not (set(removed) | deny) & set(listed(shared))


@pytest.fixture(scope="module")
def shared(model: NezhaModel) -> HallucinationLab:
    return HallucinationLab(model, IDS, dataset(), beam=40)


@pytest.mark.parametrize("mode", VERIFICATIONS)
def test_without_any_item_the_lab_says_so(lab: HallucinationLab, mode: Verification) -> None:
    lab.verification = mode
    before = listed(lab)
    lab.removed = tuple(range(N_ITEMS))
    assert listed(lab) == []
    assert lab.served.counts()[IdOutcome.ACCEPTED] == 0
    if mode == "off":  # nothing is checked: the places are filled with what is gone
        assert "← removed: thing" in lab.table.value
    else:
        assert lab.table.value == ""
        assert "The list is empty: every item is removed or forbidden." in lab.summary.value
        assert lab.item_choice.menu.disabled
        assert all(button.disabled for button in lab.item_choice.buttons)
    ElementTree.fromstring(lab.static_svg())
    lab.removed_choice.buttons[1].click()
    assert (lab.removed, listed(lab)) == ((), before)


def test_each_lab_has_a_catalogue_of_its_own(lab: HallucinationLab, model: NezhaModel) -> None:
    other = HallucinationLab(model, IDS, dataset())
    before = listed(other)
    lab.removed = tuple(listed(lab)[:10])
    other.verification = "final"
    other.verification = "prefix"
    assert listed(other) == before


# ---- controls -----------------------------------------------------------------------------------


def test_buttons_remove_and_restore_what_their_sliders_stand_at(lab: HallucinationLab) -> None:
    before = listed(lab)
    lab.item_choice.menu.index = 2
    third = before[2]
    assert f"thing {third} " in lab.item_choice.menu.label
    remove = lab.item_choice.buttons[0]
    remove.click()
    assert lab.removed == (third,)
    assert lab.item_choice.menu.index == 2
    remove.click()
    assert len(lab.removed) == 2
    lab.removed_choice.menu.value = third
    lab.removed_choice.buttons[0].click()
    assert third not in lab.removed
    assert len(lab.removed) == 1
    lab.removed_choice.buttons[1].click()
    assert (lab.removed, listed(lab)) == ((), before)
    assert lab.removed_choice.menu.disabled


def test_every_control_has_a_name_and_follows_its_trait(lab: HallucinationLab) -> None:
    found = controls(lab)
    for part in parts(lab):
        interactive = hasattr(part, "value") and not isinstance(part, ipywidgets.HTML)
        assert not interactive or part.description
    assert {"User", "Beam width", "Verification", "Forbid category"} < set(found)
    found["Beam width"].value = 7
    assert (lab.beam, len(lab.served.drafts)) == (7, 7)
    found["Forbid category"].value = "Bath"
    assert lab.forbidden == "Bath"
    lab.user = lab.subject.users[1]
    assert found["User"].value == lab.user
    assert "← new" not in lab.table.value


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("removed", (60,), "removed holds item 60, but"),
        ("removed", (-1,), "removed holds item -1, but"),
        ("forbidden", "Cars", "forbidden is 'Cars', but must be a category of 'toy'"),
        ("beam", 0, "beam"),
    ],
)
def test_what_makes_no_sense_is_refused(
    lab: HallucinationLab, trait: str, value: object, message: str
) -> None:
    before = getattr(lab, trait)
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(lab, trait, value)
    assert getattr(lab, trait) == before


# ---- what is shown ------------------------------------------------------------------------------


def test_hostile_titles_and_categories_are_text(lab: HallucinationLab) -> None:
    lab.forbidden = CATEGORIES[1]
    lab.removed = tuple(listed(lab)[:3])
    lab.verification = "off"
    everything = lab.summary.value + lab.table.value
    assert html.escape(HOSTILE[0]) in everything
    assert html.escape(CATEGORIES[1]) in everything
    assert not re.search(r"<(script|img|i)\b", everything)
    assert not re.search(r"<(script|img|i)\b", lab.static_svg())


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_static_form_is_well_formed_and_the_same_each_time(levels: int) -> None:
    ids = catalogue(levels)
    model = random_model(ids)
    first, second = (HallucinationLab(model, ids, dataset(texts=levels > 2)) for _ in range(2))
    bundle = first._repr_mimebundle_()
    ElementTree.fromstring(bundle["image/svg+xml"])
    assert bundle["image/svg+xml"] == second._repr_mimebundle_()["image/svg+xml"]
    assert "drafts" in bundle["text/plain"]


def test_a_decode_that_fails_is_one_sentence() -> None:
    other = SemanticIds.from_codes(IDS.codes, (7, 7, 7))
    lab = HallucinationLab(NezhaModel.from_preset("tiny", other), IDS, dataset())
    assert lab.sentences() == [lab.problem]
    assert "radices" in lab.problem
    assert lab.table.value == ""
    ElementTree.fromstring(lab.static_svg())
