"""A race as it is run, piece by piece, and its figure."""

from xml.etree import ElementTree

import pytest

from nezha_lite.bench.race import Finish, Race, entry
from nezha_lite.plots import figure_svg
from nezha_lite.plots.speed_figures import RaceBar, race_figure
from nezha_lite.plots.static_svg import WIDTH, text_width
from nezha_lite.verifiers import SortedVerifier
from tests.helpers.hostile import fresh_model, hostile_ids

IDS = hostile_ids()
BARS = [RaceBar("a name <b>" * 2, 1000.0, 12, 100, 99), RaceBar("b", 250.0, 1, 10, 0)]


def finished(race: Race, *names: str, turns: int = 3, calls: int = 2) -> list[Finish]:
    prompts = race.model.build_prompts([[1, 2, 3]], IDS)
    pieces = race.run(names, "off", prompts, 4, turns, calls)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            found: list[Finish] = end.value
            return found


def test_pieces_are_told_before_they_are_done() -> None:
    model = fresh_model(IDS)
    race = Race(model, IDS, SortedVerifier(IDS))
    prompts = model.build_prompts([[1, 2, 3]], IDS)
    names = ("nezha", "nezha-unchecked", "speculative")
    pieces = [*race.run(names, "off", prompts, 4, turns=3)]
    # With verification off the first two are one decoder.
    assert [(done, total) for done, total, _ in pieces] == [(n, 8) for n in range(8)]
    assert ["speculative" in text for _, _, text in pieces] == [False, True] * 4


def test_every_turn_is_timed() -> None:
    race = Race(fresh_model(IDS), IDS, SortedVerifier(IDS))
    one, other = finished(race, "autoregressive", "nezha")
    assert (one.decoder, other.decoder) == ("autoregressive", "nezha")
    for finish in (one, other):
        assert len(finish.times) == 3 * 2
        assert finish.median_ms == pytest.approx(sum(sorted(finish.times)[2:4]) / 2)
        assert finish.result is not None
        assert finish.result.keys.shape == (1, 4)


def test_one_that_fails_has_no_time() -> None:
    race = Race(fresh_model(IDS, next_code_weight=0.0), IDS, SortedVerifier(IDS))
    failed, through = finished(race, "autoregressive", "nezha")
    assert (failed.result, failed.times) == (None, ())
    assert "next_code_weight is 0" in str(failed.failure)
    assert failed.median_ms != failed.median_ms
    assert through.failure is None
    assert len(through.times) == 6


def test_names_stand_for_decoders() -> None:
    assert entry("nezha", "final") == ("nezha", "final")
    assert entry("nezha-unchecked", "prefix") == ("nezha", "off")
    assert entry("generate", "prefix") == ("generate", "off")
    assert entry("generate-constrained", "off") == ("generate-constrained", "prefix")
    assert entry("exact-draft", "off") == ("exact-draft", "prefix")
    with pytest.raises(ValueError, match="decoder is 'medusa'"):
        entry("medusa", "off")


def test_bars_lie_and_texts_stay_inside_the_figure() -> None:
    svg = ElementTree.fromstring(figure_svg(race_figure(BARS, "t")))
    texts = {element.text: float(element.get("x", 0)) for element in svg.iter() if element.text}
    end = next(x for text, x in texts.items() if "99 of 100" in text)
    assert 500 < end + text_width(BARS[0].text, 12) <= WIDTH
    assert "a name <b>a name <b>" in texts
    drawn = [rect for rect in svg.findall(".//{*}rect") if rect.get("x")]
    bars = [rect for rect in drawn if rect.get("height") != "11"]  # those are the legend's
    solid = {rect.get("fill"): rect for rect in bars}
    short, long, striped = solid["#0072B2"], solid["#E69F00"], solid["url(#pattern-cross)"]
    assert float(long.get("width", 0)) == pytest.approx(4 * float(short.get("width", 0)), rel=0.01)
    assert striped.get("width") == long.get("width")
    assert long.get("x") == short.get("x")
    assert float(long.get("y", 0)) < float(short.get("y", 0)), "the first is on top"


def test_nobody_raced() -> None:
    ElementTree.fromstring(figure_svg(race_figure([], "t")))
