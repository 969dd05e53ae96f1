"""Verifiers inside decoding: as one static program, and with the same lists whichever is used."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter

from nezha_lite.decoding import NezhaDecoder, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import CatalogueKeys, Verifier, make_verifier
from nezha_lite.verifiers.sorted_ops import with_room
from tests.helpers.builders import catalogue, tiny_model
from tests.helpers.id_spaces import FAST_KINDS, as_keys, every_kind

CAPTURABLE = tuple(kind for kind in FAST_KINDS if kind != "isin")


def compiled(function: object) -> object:
    """One graph, without breaks, of static shapes; "eager" runs it without a compiler."""
    return torch.compile(function, fullgraph=True, dynamic=False, backend="eager")


@pytest.mark.parametrize("kind", FAST_KINDS)
@pytest.mark.parametrize("radices", [(8, 8, 8), (5, 7, 3)])
def test_every_question_is_one_static_program(kind: str, radices: tuple[int, ...]) -> None:
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(6)
    space = radices[0] * radices[1] * radices[2]
    keys = torch.randint(0, space, (60,), generator=generator)
    verifier = make_verifier(kind, CatalogueKeys(keys, radices))
    prefixes = torch.stack([torch.randperm(space // radices[2], generator=generator)[:6]] * 2)
    prefixes[:, 2] = -1
    asked = torch.cat([keys, torch.arange(-3, space + 3)])
    for answer, arguments in (
        (verifier.contains, (asked,)),
        (verifier.prefix_contains, (2, asked)),
        (verifier.candidates, (1, torch.zeros(2, 1, dtype=torch.int64))),
        (verifier.candidates, (3, prefixes)),
    ):
        expected = answer(*arguments)
        found = compiled(answer)(*arguments)
        if isinstance(expected, torch.Tensor):
            assert torch.equal(found, expected)
        else:
            assert torch.equal(found.exists, expected.exists)
            assert expected.index is None or torch.equal(found.index, expected.index)


@pytest.mark.parametrize("kind", CAPTURABLE)
def test_nothing_waits_for_the_device(kind: str) -> None:
    # Tensors of the meta device have shapes but no values: whatever needs one raises.
    verifier = make_verifier(kind, CatalogueKeys(torch.arange(0, 64, 3), (4, 4, 4)))
    for name, value in list(moved(verifier).items()):
        setattr(verifier, name, value)
    prefixes = torch.zeros(2, 5, dtype=torch.int64, device="meta")
    assert verifier.candidates(3, prefixes).exists.device.type == "meta"
    assert verifier.prefix_contains(2, prefixes).shape == (2, 5)


def moved(structure: object) -> dict[str, object]:
    """A structure's attributes with every tensor, however deep, on the meta device."""

    def move(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return value.to("meta")
        if isinstance(value, list):
            return [move(each) for each in value]
        if type(value).__module__.startswith("nezha_lite"):
            for name, inner in moved(value).items():
                setattr(value, name, inner)
        return value

    return {name: move(value) for name, value in vars(structure).items()}


@pytest.mark.parametrize("kind", CAPTURABLE)
def test_one_program_serves_every_state_of_a_catalogue(kind: str) -> None:
    torch._dynamo.reset()
    verifier = make_verifier(kind, CatalogueKeys(torch.arange(0, 64, 10), (4, 4, 4)))
    shape_of = verifier.with_tensors(())
    made = CompileCounter()

    @torch.compile(fullgraph=True, dynamic=False, backend=made)
    def program(keys: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return shape_of.with_tensors(tensors).contains(keys)

    every = torch.arange(64)
    assert program(every, *verifier.tensors).sum() == 7
    changed = copy.deepcopy(verifier)
    changed.remove(as_keys([0]))
    assert program(every, *changed.tensors).sum() == 6
    verifier.add(as_keys([1, 63]))
    verifier.remove(as_keys([10]))
    expected = {0, 20, 30, 40, 50, 60, 1, 63}
    found = program(every, *verifier.tensors)
    assert set(found.nonzero().flatten().tolist()) == expected
    assert made.frame_count == 1


@given(
    keys=st.lists(st.integers(0, 119), max_size=40),
    level=st.integers(1, 3),
    beams=st.integers(1, 12),
    data=st.data(),
)
@settings(max_examples=60)
def test_the_number_of_candidates_is_known_beforehand(
    keys: list[int], level: int, beams: int, data: st.DataObject
) -> None:
    radices, strides = (4, 5, 6), (1, 4, 20)
    stride, radix = strides[level - 1], radices[level - 1]
    beams = min(beams, stride)
    row = st.permutations(range(stride)).map(lambda order: order[:beams])
    drawn = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=3)))
    dead = torch.full((1, beams), -1)
    prefixes_below = {key % (stride * radix) for key in keys}
    counts = sorted(
        (sum(key % stride == prefix for key in prefixes_below) for prefix in range(stride)),
        reverse=True,
    )
    for kind, verifier in every_kind(CatalogueKeys(as_keys(keys), radices)).items():
        most = min(with_room(sum(counts[:beams])), beams * radix)
        shapes = set()
        for prefixes in (drawn, dead):
            found = verifier.candidates(level, prefixes)
            assert len(found.exists) == len(prefixes)
            shapes.add(found.exists.shape[1])
        (width,) = shapes
        if kind == "trie":
            assert max(1, sum(counts[:beams])) <= width <= most
        else:
            assert width == beams * radix
        assert not found.exists.any()


def test_a_beam_too_wide_for_the_tries_table_still_gets_every_child() -> None:
    # 5,000 prefixes of 1 to 3 children; the table of largest sums ends at 4,096.
    keys = torch.arange(5_000)
    keys = torch.cat([keys, keys[:900] + 5_000, keys[:300] + 10_000])
    verifier = make_verifier("trie", CatalogueKeys(keys, (5_000, 8)))
    for beams, expected in ((300, 900), (900, 2_100), (1_000, 2_200), (4_096, 5_296)):
        found = verifier.candidates(2, torch.arange(beams).unsqueeze(0))
        assert found.exists.shape == (1, with_room(expected))
        assert int(found.exists.sum()) == expected
    found = verifier.candidates(2, torch.arange(4_500).unsqueeze(0))
    assert int(found.exists.sum()) == 4_500 + 900 + 300


@pytest.mark.parametrize("radices", [(3, 4, 2), (4, 1, 3, 2)])
@pytest.mark.parametrize("beam", [1, 4, 30])
@pytest.mark.parametrize("verification", ["final", "prefix"])
def test_the_lists_are_the_same_with_every_structure(
    radices: tuple[int, ...], beam: int, verification: Verification
) -> None:
    ids = catalogue(9, radices, seed=beam)
    model = tiny_model(ids).double()
    prompts = model.build_prompts([[0, 3], [5], [1, 2, 8]], ids)
    lists = {}
    for kind, verifier in every_kind(CatalogueKeys(ids.keys, ids.radices)).items():
        lists[kind] = decoded(model, verifier, prompts, beam, verification)
    keys, scores = lists["hash-set"]
    assert (keys[:, 0] >= 0).all() or verification == "final"
    for kind, (other_keys, other_scores) in lists.items():
        assert torch.equal(other_keys, keys), kind
        assert torch.equal(other_scores, scores), kind


@pytest.mark.parametrize("kind", FAST_KINDS)
def test_lists_follow_the_living_catalogue_down_to_nothing(kind: str) -> None:
    ids = catalogue(9)
    model = tiny_model(ids).double()
    prompts = model.build_prompts([[0, 3], [5]], ids)
    verifier = make_verifier(kind, ids)
    left = ids.keys.unique()
    while len(left):
        keys, _ = decoded(model, verifier, prompts, 5, "prefix")
        for row in keys.tolist():
            found = [key for key in row if key >= 0]
            assert len(found) == min(5, len(left))
            assert set(found) <= set(left.tolist())
        verifier.remove(keys[0][:1])
        left = left[left != keys[0, 0]]
    keys, scores = decoded(model, verifier, prompts, 5, "prefix")
    assert (keys == -1).all()
    assert (scores == -torch.inf).all()
    verifier.add(ids.keys[3:4])
    keys, _ = decoded(model, verifier, prompts, 5, "prefix")
    assert keys.tolist() == [[int(ids.keys[3]), -1, -1, -1, -1]] * 2


def decoded(
    model: NezhaModel,
    verifier: Verifier,
    prompts: Prompts,
    beam: int,
    verification: Verification,
) -> tuple[torch.Tensor, torch.Tensor]:
    result = NezhaDecoder(model, verifier, verification).decode(prompts, beam)
    return result.keys, result.scores
