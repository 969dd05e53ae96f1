"""The draft head, one code at a time: its chances against enumeration, and the widget's words."""

import copy
import html
import itertools
import math
from xml.etree import ElementTree

import pytest
import torch
import traitlets

from nezha_lite.decoding import NezhaDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.plots.numbers import probability
from nezha_lite.widgets import DraftHeadExplorer, draft_head_explorer
from nezha_lite.widgets.draft_head_explorer import HeadSteps
from tests.helpers.hostile import ELEMENT, HOSTILE, fresh_model, hostile_dataset, hostile_ids
from tests.plots.test_static_layout import assert_readable

IDS, DATASET = hostile_ids(), hostile_dataset()
HISTORY = [3, 1, 4]


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    """Random weights, large enough that a code changes what follows it."""
    made = fresh_model(IDS)
    with torch.no_grad():
        for parameter in made.head.parameters():
            parameter.mul_(4)
    return made


@pytest.fixture
def explorer(model: NezhaModel) -> DraftHeadExplorer:
    return DraftHeadExplorer(model, IDS, DATASET)


def everything(model: NezhaModel) -> torch.Tensor:
    """log p of every ID by teacher forcing, level by level: (6, 6, 6, 3)."""
    codes = torch.tensor(list(itertools.product(range(6), repeat=3)))
    with torch.inference_mode():
        hidden = model.draft_states(model.build_prompts([HISTORY], IDS)).expand(len(codes), -1, -1)
        logits = model.head(hidden, codes)
    chosen = [one.log_softmax(-1).gather(1, codes[:, [n]]) for n, one in enumerate(logits)]
    return torch.cat(chosen, dim=1).view(6, 6, 6, 3)


def test_after_any_beginning_the_chances_are_those_of_teacher_forcing(model: NezhaModel) -> None:
    steps = HeadSteps(model, model.build_prompts([HISTORY], IDS))
    slow = everything(model)
    for first, second in itertools.product(range(6), repeat=2):
        log_prob, following = steps.after([first, second])
        known = slow[first, second, 0]
        assert log_prob == pytest.approx(float(known[0] + known[1]), abs=1e-5)
        assert torch.allclose(following, slow[first, second, :, 2], atol=1e-5)
    assert torch.allclose(steps.after([])[1], slow[:, 0, 0, 0], atol=1e-5)
    assert steps.after([])[0] == 0


def test_averages_are_over_all_beginnings_where_they_are_few(model: NezhaModel) -> None:
    steps = HeadSteps(model, model.build_prompts([HISTORY], IDS))
    slow = everything(model).sum(-1).exp()  # p of every ID
    assert steps.covered == pytest.approx([1, 1, 1], abs=1e-5)
    for level, others in enumerate(((1, 2), (0, 2), (0, 1))):
        assert torch.allclose(steps.averages[level], slow.sum(others), atol=1e-5)


def test_averages_are_over_the_likeliest_beginnings_where_they_are_many(
    model: NezhaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_head_explorer, "BEGINNINGS", 3)
    steps = HeadSteps(model, model.build_prompts([HISTORY], IDS))
    slow = everything(model)
    first = slow[:, 0, 0, 0].exp()  # p of level 1's codes
    likeliest = first.argsort(descending=True)[:3]
    weights = first[likeliest] / first[likeliest].sum()
    average = (weights[:, None] * slow[likeliest, :, 0, 1].exp()).sum(0)
    assert torch.allclose(steps.averages[1], average, atol=1e-5)
    assert steps.covered[1] == pytest.approx(float(first[likeliest].sum()), abs=1e-5)
    assert steps.covered[2] < steps.covered[1] < 1


def test_a_model_in_double_precision_is_explored_too(model: NezhaModel) -> None:
    double = copy.deepcopy(model).double()
    explorer = DraftHeadExplorer(double, IDS, DATASET)
    explorer.codes = (1, 2)
    plain = DraftHeadExplorer(model, IDS, DATASET)
    plain.codes = (1, 2)
    assert explorer.log_prob == pytest.approx(plain.log_prob, abs=1e-4)
    assert explorer.average.dtype == torch.float64


def test_an_id_taken_code_by_code_has_the_score_of_the_decoder(
    explorer: DraftHeadExplorer, model: NezhaModel
) -> None:
    prompts = model.build_prompts([explorer.subject.histories[explorer.user]], IDS)
    result = NezhaDecoder(model, verification="off").decode(prompts, beam=216)
    codes = IDS.codes_of(result.keys[0])
    for place in (0, 1, 100):
        explorer.codes = tuple(codes[place].tolist())
        score = probability(float(result.scores[0, place]))
        assert f" has probability {score} and names " in explorer.sentences()[1]


def test_buttons_take_codes_and_give_them_back(explorer: DraftHeadExplorer) -> None:
    choice, (take,) = explorer.next_choice, explorer.next_choice.buttons
    assert explorer.back.disabled
    for level in range(3):
        options = dict(choice.menu.options)
        assert list(options.values()) == [one.code for one in explorer.nexts]
        assert choice.menu.index == 0
        second = explorer.nexts[1].code
        choice.menu.value = second
        take.click()
        assert explorer.codes[level] == second
        assert not explorer.back.disabled
    assert take.disabled, "an ID has three codes"
    take.click()  # a second click may come before the page hears of it
    assert len(explorer.codes) == 3
    taken = explorer.codes
    for length in (2, 1, 0):
        explorer.back.click()
        assert explorer.codes == taken[:length]
    assert explorer.back.disabled
    assert not take.disabled


def test_a_bar_that_is_clicked_is_taken(explorer: DraftHeadExplorer) -> None:
    bars, wanted = explorer.figure.data[0], explorer.nexts[3].code
    for _ in range(3):
        bars._dispatch_on_click(_Points([3]), None)
    assert explorer.codes[0] == wanted
    assert len(explorer.codes) == 3
    bars._dispatch_on_click(_Points([0]), None)
    assert len(explorer.codes) == 3


class _Points:
    def __init__(self, point_inds: list[int]) -> None:
        self.point_inds = point_inds


def test_every_code_on_show_says_how_many_items_it_leads_to(explorer: DraftHeadExplorer) -> None:
    empty = 0
    for codes in ((), (0,), (0, 1), (5, 5)):
        explorer.codes = codes
        for one in explorer.nexts:
            begun = (*codes, one.code)
            items = sum(tuple(row[: len(begun)]) == begun for row in IDS.codes.tolist())
            assert one.items == items
            label = next(text for text, code in explorer.next_choice.menu.options)
            assert label.startswith(f"{explorer.nexts[0].code}: ")
            shown = f"{one.code}: {probability(one.log_prob)}" + ("" if items else ", no item")
            assert (shown, one.code) in explorer.next_choice.menu.options
            empty += not items
        ticks = explorer.figure.layout.xaxis.ticktext
        assert [tick.endswith("×") for tick in ticks] == [not one.items for one in explorer.nexts]
    assert empty, "some code leads to nothing, so the test can fail"


def test_what_moved_is_the_distance_of_the_two_distributions(explorer: DraftHeadExplorer) -> None:
    explorer.codes = (2,)
    given = explorer.steps.after((2,))[1].exp()
    moved = torch.clamp(given - explorer.steps.averages[1], min=0).sum()
    assert explorer.moved == pytest.approx(float(moved), abs=1e-5)
    assert moved > 0.01
    said = f"The state moved {probability(math.log(float(moved)))} of the probability elsewhere."
    assert said in explorer.sentences()[2]


def test_another_user_is_asked_the_same_beginning(explorer: DraftHeadExplorer) -> None:
    explorer.codes = (1, 2)
    before = explorer.log_prob
    explorer.user = explorer.subject.users[1]
    assert explorer.codes == (1, 2)
    assert explorer.log_prob != before
    fresh = DraftHeadExplorer(explorer.subject.model, IDS, DATASET, [explorer.user])
    fresh.codes = (1, 2)
    assert fresh.sentences() == explorer.sentences()


def test_the_figure_is_the_same_redrawn_as_new(explorer: DraftHeadExplorer) -> None:
    for codes in ((), (1,), (1, 2), (1, 2, 3), ()):
        explorer.codes = codes
        fresh = explorer._figure()
        for old, new in zip(explorer.figure.data, fresh.data, strict=True):
            assert (old.x, old.y, old.text, old.name) == (new.x, new.y, new.text, new.name)
        assert explorer.figure.layout.title.text == fresh.layout.title.text
        assert explorer.figure.layout.xaxis.ticktext == fresh.layout.xaxis.ticktext


def test_titles_stay_text(explorer: DraftHeadExplorer) -> None:
    seen = ""
    for item in range(6):
        explorer.codes = tuple(IDS.codes[item].tolist())
        seen += explorer.summary.value + explorer.static_svg()
        ElementTree.fromstring(explorer.static_svg())
        assert_readable(explorer.static_svg())
    assert not ELEMENT.search(seen)
    assert html.escape(HOSTILE[0]) in seen


@pytest.mark.parametrize("codes", [(6,), (-1,), (0, 0, 0, 0), (0.5,), ("0",)])
def test_codes_that_no_id_has_are_refused(
    explorer: DraftHeadExplorer, codes: tuple[object, ...]
) -> None:
    with pytest.raises(traitlets.TraitError, match="at most 3 whole numbers from 0, below 6, 6, 6"):
        explorer.codes = codes
    assert explorer.codes == ()


def test_a_model_without_a_trained_head_is_refused() -> None:
    with pytest.raises(ValueError, match="draft_weight is 0"):
        DraftHeadExplorer(fresh_model(IDS, draft_weight=0.0), IDS, DATASET)


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.9951, "100 %"), (0.9949, "99 %"), (0.123, "12 %"), (0.00012, "0.012 %")],
)
def test_percentages_have_two_digits(share: float, text: str) -> None:
    assert probability(math.log(share)) == text
