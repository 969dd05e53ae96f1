"""Allow and deny sets inside decoding, against a slow search over what each prompt may be given."""

import itertools
import math
import random
from collections.abc import Collection, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.decoding import VERIFICATIONS, DecodeResult, NezhaDecoder, Verification
from nezha_lite.decoding.captured import CapturedDecoder
from nezha_lite.model.prompts import Vocabulary, build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import (
    VERIFIER_KINDS,
    RequestFilter,
    SortedVerifier,
    TrieVerifier,
    Verifier,
    child_keys,
    make_verifier,
)
from tests.helpers.builders import catalogue, tiny_model
from tests.helpers.slow_decoding import (
    LogProbs,
    Prefix,
    ScriptedModel,
    check_list,
    check_shape,
    key_of,
    slow_search,
)

Items = Collection[int] | None


@st.composite
def catalogues(draw: st.DrawFn) -> SemanticIds:
    """Up to 12 items, some of which share an ID."""
    radices = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    return SemanticIds.from_codes(draw(st.lists(row, min_size=1, max_size=12)), radices)


@st.composite
def requests(draw: st.DrawFn, n_items: int, batch: int) -> tuple[list[Items], list[Items]]:
    item_sets = st.none() | st.sets(st.integers(0, n_items - 1))
    rows = st.lists(item_sets, min_size=batch, max_size=batch)
    return draw(rows), draw(rows)


def random_table(ids: SemanticIds, seed: int) -> LogProbs:
    generator = random.Random(seed)
    table = {}
    for level, radix in enumerate(ids.radices):
        for prefix in itertools.product(*(range(r) for r in ids.radices[:level])):
            weights = [math.exp(generator.gauss(0, 2)) for _ in range(radix)]
            table[prefix] = [math.log(weight / sum(weights)) for weight in weights]
    return table.__getitem__


def scripted(
    ids: SemanticIds,
    tables: Sequence[LogProbs],
    beam: int,
    verification: Verification,
    verifier: Verifier,
    filtered: RequestFilter | None,
) -> DecodeResult:
    prompts = build_prompts([[]] * len(tables), ids, Vocabulary(ids.radices), 1)
    decoder = NezhaDecoder(ScriptedModel(ids, tables), verifier, verification)
    return decoder.decode(prompts, beam, requests=filtered)


def codes_left(
    ids: SemanticIds, living: Collection[Prefix], allow: Items, deny: Items
) -> list[Prefix]:
    """The IDs that a prompt may be given, item by item."""
    kept = set()
    for item, codes in enumerate(map(tuple, ids.codes.tolist())):
        if (allow is None or item in allow) and item not in (deny or ()):
            kept.add(codes)
    owned = set(map(tuple, ids.codes.tolist()))
    strangers = set(living) - owned if allow is None else set()  # no item that could be denied
    return sorted((kept & set(living)) | strangers)


def slow_list(
    table: LogProbs,
    ids: SemanticIds,
    beam: int,
    verification: Verification,
    living: Collection[Prefix],
    allow: Items,
    deny: Items,
) -> list[tuple[Prefix, float]]:
    left = codes_left(ids, living, allow, deny)
    if verification == "prefix":
        if not left:
            return []
        return slow_search(table, SemanticIds.from_codes(left, ids.radices), beam, "prefix")[0]

    gone = {
        tuple(codes)
        for codes in ids.codes.tolist()
        if all(item in (deny or ()) for item in ids.items_of(key_of(codes, ids.radices)))
    }

    def refused(prefix: Prefix) -> bool:
        ends = [codes for codes in left if codes[: len(prefix)] == prefix]
        if allow is not None:
            return not ends
        return not ends and any(codes[: len(prefix)] == prefix for codes in gone)

    def filtered(prefix: Prefix) -> list[float]:
        return [
            -math.inf if refused((*prefix, code)) else log_prob
            for code, log_prob in enumerate(table(prefix))
        ]

    if not living:
        return [] if verification == "final" else slow_search(filtered, ids, beam, "off")[0]
    alive = SemanticIds.from_codes(sorted(living), ids.radices)
    return slow_search(filtered, alive, beam, verification)[0]


@given(data=st.data(), ids=catalogues(), seed=st.integers(0, 10_000), beam=st.integers(1, 12))
@pytest.mark.parametrize("kind", VERIFIER_KINDS)
@settings(max_examples=60)
def test_requests_against_a_search_over_what_is_left(
    kind: str, data: st.DataObject, ids: SemanticIds, seed: int, beam: int
) -> None:
    """Also after IDs left and others came, of which the catalogue knows no item."""
    batch = data.draw(st.integers(1, 3))
    allow, deny = data.draw(requests(ids.n_items, batch))
    verification = data.draw(st.sampled_from(VERIFICATIONS))
    every = list(itertools.product(*(range(radix) for radix in ids.radices)))
    living = set(map(tuple, ids.codes.tolist()))
    verifier = make_verifier(kind, ids)
    if data.draw(st.booleans()):
        come, gone = data.draw(st.tuples(*[st.sets(st.sampled_from(every), max_size=4)] * 2))
        living = (living | come) - gone
        for change, codes in ((verifier.add, come), (verifier.remove, gone)):
            change(torch.tensor([key_of(c, ids.radices) for c in codes], dtype=torch.int64))
    tables = [random_table(ids, seed + row) for row in range(batch)]
    filtered = RequestFilter.build(ids, verifier, allow, deny)
    assert len(filtered) == batch
    result = scripted(ids, tables, beam, verification, verifier, filtered)
    check_shape(result, batch, beam)
    for row, table in enumerate(tables):
        expected = slow_list(table, ids, beam, verification, living, allow[row], deny[row])
        check_list(result, row, expected, ids)
        if verification == "prefix":
            left = codes_left(ids, living, allow[row], deny[row])
            assert len(expected) == min(beam, len(left)), "full whenever enough is left"
        alone = RequestFilter.build(ids, verifier, [allow[row]], [deny[row]])
        single = scripted(ids, [table], beam, verification, verifier, alone)
        assert torch.equal(single.keys[0], result.keys[row])


@given(data=st.data(), ids=catalogues(), seed=st.integers(0, 10_000), beam=st.integers(1, 12))
@settings(max_examples=60)
def test_one_set_serves_the_whole_batch(
    data: st.DataObject, ids: SemanticIds, seed: int, beam: int
) -> None:
    allow, deny = data.draw(requests(ids.n_items, 3))
    verifier = SortedVerifier(ids)
    tables = [random_table(ids, seed + row) for row in range(3)]

    def keys(*sets: Sequence[Items] | None) -> Tensor:
        filtered = RequestFilter.build(ids, verifier, *sets)
        return scripted(ids, tables, beam, "prefix", verifier, filtered).keys

    assert torch.equal(keys(allow[:1], deny[:1]), keys(allow[:1] * 3, deny[:1] * 3))
    assert torch.equal(keys(allow[:1], deny), keys(allow[:1] * 3, deny))
    assert torch.equal(keys(allow, deny[:1]), keys(allow, deny[:1] * 3))
    assert torch.equal(keys(allow), keys(allow, [None] * 3))
    assert torch.equal(keys(None, deny), keys([None] * 3, deny))
    plain = scripted(ids, tables, beam, "prefix", verifier, None)
    assert torch.equal(keys(), plain.keys)


@given(data=st.data(), ids=catalogues(), batch=st.integers(1, 3))
@settings(max_examples=60)
def test_children_are_admitted_as_their_keys_are(
    data: st.DataObject, ids: SemanticIds, batch: int
) -> None:
    rows = data.draw(st.sampled_from([1, batch]))
    allow, deny = data.draw(requests(ids.n_items, rows))
    filtered = RequestFilter.build(ids, SortedVerifier(ids), allow, deny)
    for level in range(1, ids.levels + 1):
        every = list(range(math.prod(ids.radices[: level - 1])))
        beams = [data.draw(st.permutations([*every, -1, -1]))[:4] for _ in range(batch)]
        width = min(map(len, beams))
        prefixes = torch.tensor([row[:width] for row in beams])
        keys = child_keys(prefixes, level, ids.radices).flatten(1)
        wanted = filtered.admits(level, keys)
        assert torch.equal(filtered.admits_children(level, prefixes), wanted)


def test_a_beam_never_follows_a_prefix_to_a_dead_end() -> None:
    # Code 1 is likelier, but both IDs below it are denied: a beam of one must take the other way.
    ids = SemanticIds.from_codes([[0, 0], [1, 0], [1, 2]], (2, 3))
    verifier = SortedVerifier(ids)

    def table(prefix: Prefix) -> list[float]:
        return [-3.0, -0.1] if not prefix else [-1.0, -1.1, -1.2]

    found = []
    for deny in ([], [1], [2], [1, 2], [0, 1, 2]):
        filtered = RequestFilter.build(ids, verifier, deny=[deny])
        result = scripted(ids, [table], 1, "prefix", verifier, filtered)
        found.append(ids.items_of(int(result.keys)))
    assert found == [[1], [2], [1], [0], []]


def test_an_id_is_denied_with_the_last_of_its_items() -> None:
    ids = SemanticIds.from_codes([[0, 0], [1, 1], [0, 0]], (2, 2))
    verifier = SortedVerifier(ids)
    tables = [random_table(ids, 0)]

    def found(**sets: Sequence[Items]) -> set[int]:
        filtered = RequestFilter.build(ids, verifier, **sets)
        keys = scripted(ids, tables, 4, "prefix", verifier, filtered).keys[0].tolist()
        return {item for key in keys for item in ids.items_of(key)}

    assert found(deny=[[0]]) == {0, 1, 2}
    assert found(deny=[[2, 0]]) == {1}
    assert found(allow=[[2]]) == {0, 2}
    assert found(allow=[[2]], deny=[[0]]) == {0, 2}
    assert found(allow=[[2]], deny=[[2]]) == set()
    assert found(allow=[[]]) == set()


def test_more_continuations_than_are_looked_at_together() -> None:
    ids = SemanticIds.from_codes([[item // 5, item % 5 * 400] for item in range(1500)], (300, 2000))
    for verifier in (SortedVerifier(ids), TrieVerifier(ids)):
        deny = [range(1500), range(1499), range(700, 1500), [0, 1, 2, 3, 5, 6, 7, 8]]
        filtered = RequestFilter.build(ids, verifier, deny=deny)
        firsts = filtered.admits(1, torch.arange(300).expand(4, -1))
        assert firsts.sum(dim=1).tolist() == [0, 1, 140, 300]
        assert firsts[1, 299]
        assert firsts[2, :140].all()


def test_a_filter_can_be_padded_and_its_tensors_exchanged() -> None:
    ids = SemanticIds.from_codes([[0, 0], [1, 1], [1, 0], [0, 1]], (2, 2))
    verifier = SortedVerifier(ids)
    keys = torch.tensor([[0, 1, 2, 3, -1]])
    filtered = RequestFilter.build(ids, verifier, [[0, 1], None, None], [None, [2], []])
    assert filtered.admits(2, keys.expand(3, -1)).tolist() == [
        [True, False, False, True, False],
        [True, False, True, True, True],
        [True] * 5,
    ]
    padded = filtered.padded_to(5)
    assert len(padded) == 5
    assert padded.to("cpu").admits(2, keys.expand(5, -1)).tolist() == [
        *filtered.admits(2, keys.expand(3, -1)).tolist(),
        *([[True] * 5] * 2),
    ]
    assert filtered.padded_to(3).signature == filtered.signature != padded.signature
    with pytest.raises(ValueError, match="batch is 2, but must be at least the 3 rows of this"):
        filtered.padded_to(2)

    for_all = RequestFilter.build(ids, verifier, deny=[[2]])
    assert (
        for_all.padded_to(4).admits(2, keys.expand(4, -1)).tolist()
        == [[True, False, True, True, True]] * 4
    )

    other = RequestFilter.build(ids, verifier, [None, [3], None], [[0], None, [1]])
    assert other.signature == filtered.signature
    exchanged = filtered.with_tensors(tuple(tensor.clone() for tensor in other.tensors()))
    for level in (1, 2):
        assert torch.equal(
            exchanged.admits(level, keys.expand(3, -1)), other.admits(level, keys.expand(3, -1))
        )
    hash(filtered.signature)


def test_sets_of_similar_size_have_one_shape() -> None:
    ids = SemanticIds.from_codes([[code // 32, code % 32] for code in range(300)], (10, 32))
    verifier = SortedVerifier(ids)
    shapes = {
        RequestFilter.build(ids, verifier, deny=[range(n)]).signature for n in (*range(33), 20)
    }
    assert shapes == {(2, 1, 32)}
    assert RequestFilter.build(ids, verifier, allow=[range(33)]).signature == (2, 1, 64)
    assert RequestFilter.build(ids, verifier, [range(5), None], [None, range(129)]).signature == (
        *(2, 2, 256),
    )


def test_admitting_is_one_program_without_waiting() -> None:
    ids = SemanticIds.from_codes([[0, 0], [1, 1]], (2, 2))
    filtered = RequestFilter.build(ids, SortedVerifier(ids), deny=[[0], [1]])

    def admits(keys: Tensor, *tensors: Tensor) -> Tensor:
        return filtered.with_tensors(tensors).admits(2, keys)

    def children(prefixes: Tensor, *tensors: Tensor) -> Tensor:
        return filtered.with_tensors(tensors).admits_children(2, prefixes)

    for ask, keys, wanted in (
        (admits, [[0, 3], [0, 3]], [[False, True], [True, False]]),
        (children, [[1], [1]], [[True, True], [True, False]]),
    ):
        program = torch.compile(ask, fullgraph=True, backend="eager")
        assert program(torch.tensor(keys), *filtered.tensors()).tolist() == wanted


def test_fixed_programs_take_requests_of_any_content() -> None:
    ids = catalogue(9, seed=2)
    model = tiny_model(ids).double()
    verifier = make_verifier("trie", ids)
    eager = NezhaDecoder(model, verifier)
    fixed = CapturedDecoder(eager, compile=False)
    prompts = model.build_prompts([[3, 1, 4], [5], [0, 1, 2]], ids)
    for allow, deny in (
        (None, [[3, 1, 4], [5], [0, 1, 2]]),
        ([None, range(5), range(9)], [[0], [1], None]),
        (None, [[7]]),
        ([[]], None),
    ):
        filtered = RequestFilter.build(ids, verifier, allow, deny)
        wanted = eager.decode(prompts, 4, requests=filtered)
        found = fixed.decode(prompts, 4, requests=filtered)
        assert torch.equal(found.keys, wanted.keys)
        torch.testing.assert_close(found.scores, wanted.scores)
    plain = eager.decode(prompts, 4)
    assert not torch.equal(plain.keys, wanted.keys)
    assert torch.equal(fixed.decode(prompts, 4).keys, plain.keys)


def test_wrong_sets_are_named() -> None:
    ids = SemanticIds.from_codes([[0], [1], [2]], (4,))
    verifier = SortedVerifier(ids)
    for name in ("allow", "deny"):
        for item in (3, -1):
            with pytest.raises(
                ValueError, match=f"{name} of prompt 1 holds item {item}, but .* are 0 to 2"
            ):
                RequestFilter.build(ids, verifier, **{name: [None, [0, item]]})
    with pytest.raises(ValueError, match="allow holds sets for 2 prompts and deny for 3"):
        RequestFilter.build(ids, verifier, [None] * 2, [None] * 3)
    with pytest.raises(ValueError, match="allow holds sets for 0 prompts"):
        RequestFilter.build(ids, verifier, [])
    filtered = RequestFilter.build(ids, verifier, deny=[[0], [1]])
    with pytest.raises(ValueError, match="requests holds sets for 2 prompts, but there are 3"):
        scripted(ids, [random_table(ids, 0)] * 3, 2, "prefix", verifier, filtered)
