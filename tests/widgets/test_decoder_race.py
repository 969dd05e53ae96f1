"""The race of decoders, driven through its traits; what it counts is counted again by hand."""

import html
import re
import threading
from xml.etree import ElementTree

import ipywidgets
import pytest
import traitlets

from nezha_lite.bench.race import RACERS, entry
from nezha_lite.decoding import (
    AutoregressiveDecoder,
    Decoder,
    ExactDecoder,
    GenerateDecoder,
    NezhaDecoder,
    ParallelHeadsDecoder,
    SpeculativeDecoder,
    Verification,
)
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier
from nezha_lite.widgets import DecoderRace
from nezha_lite.widgets.decoder_race import PENDING
from tests.helpers.hostile import ELEMENT, HOSTILE, fresh_model, hostile_dataset, hostile_ids

IDS = hostile_ids()
CODES = [tuple(row) for row in IDS.codes.tolist()]
DATASET = hostile_dataset()


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return fresh_model(IDS)


def race_of(model: NezhaModel, **settings: object) -> DecoderRace:
    """With all decoders, each timed once."""
    race = DecoderRace(model, IDS, DATASET, **{"decoders": tuple(RACERS), "beam": 12} | settings)
    race.run(turns=1, calls=1)
    return race


def by_hand(model: NezhaModel, name: str, verification: Verification) -> Decoder:
    verifier = SortedVerifier(IDS)
    return {
        "nezha": lambda: NezhaDecoder(model, verifier, verification),
        "nezha-unchecked": lambda: NezhaDecoder(model, None, "off"),
        "parallel-heads": lambda: ParallelHeadsDecoder(model, verifier, verification),
        "autoregressive": lambda: AutoregressiveDecoder(model, verifier, verification),
        "speculative": lambda: SpeculativeDecoder(model, verifier, verification),
        "generate-constrained": lambda: GenerateDecoder(model, verifier, "prefix"),
        "generate": lambda: GenerateDecoder(model, None, "off"),
        "exact-draft": lambda: ExactDecoder(model, IDS, "draft"),
        "exact-backbone": lambda: ExactDecoder(model, IDS, "backbone"),
    }[name]()


def codes_of_key(key: int) -> tuple[int, ...]:
    return key % 6, key // 6 % 6, key // 36


def items_by_hand(keys: list[int]) -> list[set[int]]:
    """The items of every listed ID."""
    listed = [codes_of_key(key) for key in keys if key >= 0]
    return [{item for item, codes in enumerate(CODES) if codes == one} for one in listed]


@pytest.mark.parametrize("verification", ["off", "final", "prefix"])
def test_counts_equal_a_recount(model: NezhaModel, verification: Verification) -> None:
    race = race_of(model, verification=verification)
    history = race.subject.histories[race.user]
    prompts = model.build_prompts([history], IDS)
    lists = {}
    for name in RACERS:
        result = by_hand(model, name, verification).decode(prompts, 12)
        lists[name] = items_by_hand(result.keys[0].tolist())
        entrant = race.raced.entrant(name)
        assert entrant is not None
        assert entrant.calls == result.backbone_calls
        assert len(entrant.rows) == len(lists[name])
        assert entrant.missing == sum(not items for items in lists[name])

    def first_ten(name: str) -> set[int]:
        """Items of the first ten places; of those that share an ID, the popular come first."""
        counts, order = DATASET.popularity(), []
        for items in lists[name]:
            order += sorted(items, key=lambda item: -counts[item]) or [None]
        return {*order[:10]} - {None}

    reference = race.raced.reference
    assert reference is not None
    for name in RACERS:
        shared = len(first_ten(name) & first_ten("autoregressive"))
        entrant = race.raced.entrant(name)
        assert entrant is not None
        assert entrant.shared_with(reference) == shared
    text = html.unescape(race.summary.value)
    shared = len(first_ten("nezha") & first_ten("autoregressive"))
    length = min(10, len(reference.items))
    assert (
        "NEZHA called the backbone once, the autoregressive decoder 3 times; "
        f"their lists share {shared} of {length} items."
    ) in text
    wrong = sum(not items for items in lists["nezha-unchecked"])
    assert wrong > 1, "this model hallucinates, so the test can fail"
    table = {row[0]: row[1:] for row in race.raced.outcomes().rows}
    for name in RACERS:
        one = race.raced.entrant(name)
        assert one is not None
        shared = str(len(first_ten(name) & first_ten("autoregressive")))
        filled = f"{len(lists[name])} of 12"
        assert table[one.name] == (str(one.calls), filled, str(one.missing), shared)
        assert html.escape(one.name) in race.outcomes.value


def test_bars_are_the_decoders_in_order_and_striped_where_they_hallucinate(
    model: NezhaModel,
) -> None:
    race = race_of(model)
    sound, striped, texts = race.figure.data
    entrants = race.raced.entrants
    assert [entry(name, "prefix") for name in RACERS] == [
        (one.decoder, one.verification) for one in entrants
    ]
    assert {entrants[place].name for place in striped.y} == {
        one.name for one in entrants if one.missing
    }
    assert len(sound.y) + len(striped.y) == len(texts.text) == len(RACERS)
    assert striped.marker.pattern.shape != sound.marker.pattern.shape
    for place, text in enumerate(texts.text):
        assert f"{entrants[place].calls} backbone call" in text
        assert ("do not exist" in text) == (entrants[place].missing > 0)
    assert all(ms > 0 for ms in (*sound.x, *striped.x))


def test_the_first_race_is_of_the_cheap_ones_and_says_so(model: NezhaModel) -> None:
    race = DecoderRace(model, IDS, DATASET)
    raced = {(finish.decoder, finish.verification) for finish in race.raced.finishes}
    assert ("generate-constrained", "prefix") not in raced
    assert {("nezha", "prefix"), ("nezha", "off"), ("autoregressive", "prefix")} <= raced
    assert PENDING in race.summary.value
    race.work.start()
    race.work.wait(60)
    assert PENDING not in race.summary.value
    assert race.raced.entrant("generate-constrained") is not None
    assert all(len(finish.times) == 20 for finish in race.raced.finishes)


def test_a_change_waits_for_the_start(model: NezhaModel) -> None:
    race = race_of(model, decoders=("nezha", "autoregressive"))
    before = race.raced
    assert PENDING not in race.summary.value
    race.beam = 5
    assert race.raced is before
    assert PENDING in race.summary.value
    assert "Beam width 12." in race.summary.value
    race.work.start()
    race.work.wait(60)
    assert race.raced.beam == 5
    assert "Beam width 5." in race.summary.value
    assert len(race.raced.entrants[0].rows) == 5


def test_cancelling_leaves_what_is_shown(model: NezhaModel) -> None:
    race = race_of(model, decoders=("nezha", "autoregressive"))
    shown = race.raced, race.table.value, race.figure.data[2].text, race.sentences()
    threads = threading.active_count()
    race.beam = 3
    race.work.bar.observe(lambda change: change.new == 1 and race.work.cancel(), "value")
    race.work.start()
    race.work.wait(60)
    assert "Cancelled" in race.work.message.value
    assert not race.work.running
    now = race.raced, race.table.value, race.figure.data[2].text, race.sentences()
    assert now == shown
    assert threading.active_count() == threads


def test_no_decoder_chosen_is_said(model: NezhaModel) -> None:
    race = race_of(model, decoders=("nezha",))
    before = race.raced
    race.boxes["nezha"].value = False
    assert race.decoders == ()
    race.work.start()
    race.work.wait(60)
    assert "tick at least one" in race.work.message.value
    assert race.raced is before


def test_ticks_and_the_trait_follow_each_other(model: NezhaModel) -> None:
    race = race_of(model, decoders=("autoregressive", "nezha"))
    assert race.decoders == ("nezha", "autoregressive")  # in the order of RACERS
    race.boxes["speculative"].value = True
    race.boxes["nezha"].value = False
    assert race.decoders == ("autoregressive", "speculative")
    race.decoders = ("exact-draft", "nezha-unchecked")
    assert {name for name, box in race.boxes.items() if box.value} == {*race.decoders}
    with pytest.raises(traitlets.TraitError, match=r"'beam',., but must be some of nezha"):
        race.decoders = ("beam",)
    with pytest.raises(traitlets.TraitError, match="beam"):
        race.beam = 129


def test_every_control_says_what_it_is(model: NezhaModel) -> None:
    race = race_of(model)
    stack, found = [race], []
    while stack:
        widget = stack.pop()
        stack += getattr(widget, "children", ())
        if hasattr(widget, "description") and not isinstance(widget, ipywidgets.HTML):
            found.append(widget.description)
    assert all(found)
    assert {"User", "Beam width", "Verification", "NEZHA, unchecked", "Cancel"} <= {*found}


@pytest.mark.parametrize(
    ("weight", "left"),
    [
        ("next_code_weight", {"nezha", "nezha-unchecked", "parallel-heads", "exact-draft"}),
        ("draft_weight", {*RACERS} - {"nezha", "nezha-unchecked", "parallel-heads", "exact-draft"}),
    ],
)
def test_one_that_cannot_run_is_said_and_the_others_run(weight: str, left: set[str]) -> None:
    race = race_of(fresh_model(IDS, **{weight: 0.0}))
    assert {name for name in RACERS if race.raced.entrant(name) is not None} == left
    text = html.unescape(race.summary.value)
    assert text.count(f"did not run: {weight} is 0") == len(RACERS) - len(left)
    assert len(race.figure.data[2].text) == len(left)


def test_empty_places_are_counted(model: NezhaModel) -> None:
    race = race_of(model, decoders=("nezha", "autoregressive"), beam=100)
    assert [row[2] for row in race.raced.outcomes().rows] == [f"{IDS.n_distinct} of 100"] * 2


def test_a_model_without_placeholders_races_too() -> None:
    race = race_of(fresh_model(IDS, placeholders=False))
    assert len(race.raced.entrants) == len(RACERS)


def test_a_model_of_another_shape_is_one_sentence() -> None:
    other = SemanticIds.from_codes(IDS.codes, (7, 7, 7))
    race = DecoderRace(fresh_model(other), IDS, DATASET)
    assert "radices" in race.summary.value
    assert race.table.value == ""
    ElementTree.fromstring(race.static_svg())


def test_equal_lists_share_a_column(model: NezhaModel) -> None:
    race = race_of(model, decoders=("nezha", "autoregressive", "speculative"))
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', race.table.value)
    assert heads == ["rank", "NEZHA", "autoregressive; speculative"]
    rows = re.findall(r"<tr>(<td.*?)</tr>", race.table.value)
    assert len(rows) == 10
    reference = race.raced.reference
    assert reference is not None
    for row, mine in zip(rows, race.raced.entrants[0].rows, strict=False):
        cell = re.findall(r"<td[^>]*>(.*?)</td>", row)[1]
        stranger = not {*mine.items} & {*reference.items[:10]}
        assert cell.startswith("△") == stranger
        assert html.escape(f"thing {mine.items[0]} ") in cell
    assert race.table.value.count("△") > 1, "the lists differ, so the test can fail"


def test_hostile_titles_are_text(model: NezhaModel) -> None:
    race = race_of(model)
    assert html.escape(HOSTILE[0]) in race.table.value
    for text in (race.table.value, race.summary.value, race.static_svg()):
        assert not ELEMENT.search(text)
    ElementTree.fromstring(race.static_svg())


def test_sentences_are_the_same_each_time(model: NezhaModel) -> None:
    first, second = race_of(model), race_of(model)
    bundles = [race._repr_mimebundle_() for race in (first, second)]
    assert bundles[0]["text/plain"] == bundles[1]["text/plain"]
    assert " ms" not in bundles[0]["text/plain"]
    assert " ms, " in bundles[0]["image/svg+xml"]
