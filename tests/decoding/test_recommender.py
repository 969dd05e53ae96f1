"""From a trained folder to a list of items."""

import random
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nezha_lite.decoding import VERIFICATIONS, CapturedDecoder, NezhaDecoder, Verification
from nezha_lite.decoding.recommender import (
    Recommendation,
    Recommender,
    captured_nezha,
    find_device,
)
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier, TrieVerifier, Verifier
from tests.helpers.toys import N_ITEMS, shared_ids, toy_ids, toy_model

HISTORIES = [[0, 1, 2], [17], [], [5, 4, 3, 2, 1, 0, 19, 18, 17]]


def recommender(semantic_ids: SemanticIds | None = None, sharp: float = 8.0) -> Recommender:
    """Random weights, made large so that the lists of different users differ."""
    ids = semantic_ids or toy_ids()
    model = toy_model(ids)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(sharp)
    return Recommender(model, ids)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trained = recommender()
    trained.model.save_pretrained(tmp_path)
    trained.semantic_ids.save(tmp_path / "semantic_ids.safetensors")
    return tmp_path


def items(ranked: list[Recommendation]) -> list[int]:
    return [entry.item for entry in ranked]


def test_loading_gives_the_same_lists(folder: Path) -> None:
    loaded = Recommender.load(str(folder))
    assert not loaded.model.training
    # Weights at other addresses may be summed in another order.
    lists = (loaded.recommend(HISTORIES), recommender().recommend(HISTORIES))
    for one, other in zip(*lists, strict=True):
        assert [each.item for each in one] == [each.item for each in other]
        assert [each.score for each in one] == pytest.approx([each.score for each in other])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "semantic_ids.safetensors"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{folder.name} has no {name}: expected a folder"):
        Recommender.load(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere has no config.json"):  # noqa: RUF043
        Recommender.load(tmp_path / "nowhere")
    (tmp_path / "a-file").write_text("")
    with pytest.raises(FileNotFoundError, match="a-file has no"):
        Recommender.load(tmp_path / "a-file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "semantic_ids.safetensors"])
def test_a_damaged_file_is_named(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises((ValueError, OSError), match=name.split(".")[0]):
        Recommender.load(folder)


def test_a_device_that_is_not_here_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="device is 'abacus'"):
        Recommender.load(folder, "abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is 'cuda'"):
            Recommender.load(folder, "cuda")


def test_a_device_beyond_the_last_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="device is 'cuda:2', but this machine has auto, cpu or"):
        find_device("cuda:2")


def test_the_ids_of_another_model_are_refused(folder: Path) -> None:
    shared_ids().save(folder / "semantic_ids.safetensors")
    with pytest.raises(ValueError, match="radices"):
        Recommender.load(folder).recommend(HISTORIES)


@pytest.mark.parametrize("k", [1, 3, 10, N_ITEMS])
def test_prefix_fills_the_list_with_existing_items(k: int) -> None:
    for ranked in recommender().recommend(HISTORIES, k=k, beam=3):  # k above the beam raises it
        assert len(ranked) == k
        assert len(set(items(ranked))) == k
        assert all(0 <= item < N_ITEMS for item in items(ranked))
        assert [entry.name for entry in ranked] == [f"i{item}" for item in items(ranked)]
        scores = [entry.score for entry in ranked]
        assert scores == sorted(scores, reverse=True)
        assert all(score < 0 for score in scores)


def test_a_wide_beam_ranks_the_catalogue_as_its_probabilities_do() -> None:
    trained = recommender()
    model, ids = trained.model, trained.semantic_ids
    prompts = model.build_prompts(HISTORIES, ids)
    with torch.no_grad():
        hidden = model.draft_states(prompts)
        expected = []
        for row in hidden:
            logits = model.head(row.expand(N_ITEMS, -1, -1), ids.codes)
            scores = sum(
                torch.log_softmax(level, -1).gather(1, ids.codes[:, i : i + 1]).squeeze(1)
                for i, level in enumerate(logits)
            )
            expected.append(scores.sort(descending=True))
    lists = trained.recommend(HISTORIES, k=N_ITEMS, beam=40)
    for ranked, best in zip(lists, expected, strict=True):
        assert items(ranked) == best.indices.tolist()
        torch.testing.assert_close(torch.tensor([p.score for p in ranked]), best.values)
    assert items(lists[0]) != items(lists[1])


def test_more_than_the_catalogue_gives_the_catalogue() -> None:
    for ranked in recommender().recommend(HISTORIES, k=100):
        assert sorted(items(ranked)) == list(range(N_ITEMS))


def test_off_returns_the_existing_among_the_drafts_only() -> None:
    trained = recommender()
    lists = trained.recommend(HISTORIES, k=10, beam=10, verification="off")
    decoder = NezhaDecoder(trained.model, None, "off")
    keys = decoder.decode(trained.model.build_prompts(HISTORIES, trained.semantic_ids), 10).keys
    exists = HashSetVerifier(trained.semantic_ids).contains(keys)
    assert [len(ranked) for ranked in lists] == exists.sum(1).tolist()
    assert not exists.all()
    for ranked, row, mask in zip(lists, keys, exists, strict=True):
        assert trained.semantic_ids.keys[items(ranked)].tolist() == row[mask].tolist()
    assert lists == trained.recommend(HISTORIES, k=10, beam=10, verification="final")


def test_shared_ids_are_expanded_by_popularity_and_cut_to_k() -> None:
    trained = recommender(shared_ids())
    plain = trained.recommend(HISTORIES, k=5)
    odd_first = [item % 2 for item in range(N_ITEMS)]
    popular = trained.recommend(HISTORIES, k=5, popularity=odd_first)
    for without, ordered in zip(plain, popular, strict=True):
        assert len(without) == len(ordered) == 5
        assert [item % 2 for item in items(without)] == [0, 1, 0, 1, 0]
        assert [item % 2 for item in items(ordered)] == [1, 0, 1, 0, 1]
        assert [item // 2 for item in items(without)] == [item // 2 for item in items(ordered)]
        assert without[0].score == without[1].score > without[2].score


def test_one_history_gets_what_it_gets_in_a_batch() -> None:
    trained = recommender()
    together = trained.recommend(HISTORIES, k=6)
    assert together == trained.recommend(HISTORIES, k=6)
    for history, ranked in zip(HISTORIES, together, strict=True):
        (alone,) = trained.recommend([history], k=6)
        assert items(alone) == items(ranked)
    # Only the last max_items of a history are read.
    assert items(trained.recommend([HISTORIES[3][-6:]], k=6)[0]) == items(together[3])


def test_wrong_requests_are_named() -> None:
    trained = recommender()
    with pytest.raises(ValueError, match="k is 0, but must be at least 1"):
        trained.recommend(HISTORIES, k=0)
    with pytest.raises(ValueError, match="History 1 holds item 20, but the catalogue's items are"):
        trained.recommend([[0], [20]])
    with pytest.raises(ValueError, match="histories is empty"):
        trained.recommend([])
    with pytest.raises(ValueError, match=r"len\(popularity\) is 3, but must be 20, the cat"):
        trained.recommend(HISTORIES, popularity=[1, 2, 3])
    with pytest.raises(ValueError, match="verification is 'sometimes'"):
        trained.recommend(HISTORIES, verification="sometimes")


def test_a_folder_can_be_moved(folder: Path, tmp_path: Path) -> None:
    expected = Recommender.load(folder).recommend(HISTORIES)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("config.json", "model.safetensors", "semantic_ids.safetensors"):
        shutil.move(folder / name, moved / name)
    assert Recommender.load(moved).recommend(HISTORIES) == expected


# ---- changes of the catalogue, and sets of a request ---------------------------------------------


def expected(
    trained: Recommender,
    k: int,
    refused: Sequence[Collection[int]],
    popularity: Sequence[int] | None = None,
) -> list[list[int]]:
    """The whole catalogue's ranking, without what each history must not be given."""
    full = trained.recommend(HISTORIES, k=N_ITEMS, popularity=popularity)
    return [
        [item for item in items(ranked) if item not in refused_items][:k]
        for ranked, refused_items in zip(full, refused, strict=True)
    ]


@pytest.mark.parametrize("ids", [toy_ids(), shared_ids()], ids=["own", "shared"])
def test_lists_stay_full_whatever_is_denied(ids: SemanticIds) -> None:
    trained = recommender(ids)
    # A beam as wide as the catalogue drops nothing, so that both orders are the same.
    ask = {"k": 6, "beam": N_ITEMS}
    draw = random.Random(3)
    for _ in range(10):
        allow = [set(draw.sample(range(N_ITEMS), draw.randrange(N_ITEMS))) for _ in HISTORIES]
        deny = [draw.sample(range(N_ITEMS), draw.randrange(N_ITEMS)) for _ in HISTORIES]
        popularity = [draw.randrange(9) for _ in range(N_ITEMS)]
        others = [set(range(N_ITEMS)) - row for row in allow]

        def lists_with(popularity: Sequence[int] = popularity, **sets: object) -> list[list[int]]:
            return [
                items(ranked)
                for ranked in trained.recommend(HISTORIES, popularity=popularity, **ask, **sets)
            ]

        assert lists_with(deny=deny) == expected(trained, 6, deny, popularity)
        assert lists_with(allow=allow) == expected(trained, 6, others, popularity)
        both = [{*row, *more} for row, more in zip(others, deny, strict=True)]
        assert lists_with(allow=allow, deny=deny) == expected(trained, 6, both, popularity)
        assert lists_with(allow=allow[:1]) == expected(trained, 6, others[:1] * 4, popularity)
        seen = [{*row, *past} for row, past in zip(deny, HISTORIES, strict=True)]
        assert lists_with(deny=deny, exclude_seen=True) == expected(trained, 6, seen, popularity)
    some = [None, {3}, None, {4, 5}]
    others = [[], set(range(N_ITEMS)) - {3}, [], set(range(N_ITEMS)) - {4, 5}]
    assert lists_with(allow=some, popularity=None) == expected(trained, 6, others)


def test_a_narrow_beam_fills_its_list_with_what_is_left() -> None:
    for trained in (recommender(), recommender(shared_ids())):
        for ranked, history in zip(
            trained.recommend(HISTORIES, k=5, beam=5, exclude_seen=True), HISTORIES, strict=True
        ):
            assert len(ranked) == 5
            assert not {*items(ranked)} & {*history}
        (ranked,) = trained.recommend([[0]], k=5, beam=5, deny=[range(17)])
        assert sorted(items(ranked)) == [17, 18, 19]
        assert trained.recommend([[0]], deny=[range(N_ITEMS)]) == [[]]
        assert trained.recommend([[0], [1]], allow=[[]]) == [[], []]


def test_all_that_was_bought_counts_not_only_what_is_read() -> None:
    history = list(range(12))  # the model reads the last six
    (ranked,) = recommender().recommend([history], k=N_ITEMS, exclude_seen=True)
    assert sorted(items(ranked)) == list(range(12, N_ITEMS))


@pytest.mark.parametrize("ids", [toy_ids(), shared_ids()], ids=["own", "shared"])
def test_removed_items_are_never_recommended_until_restored(ids: SemanticIds) -> None:
    trained, fresh = recommender(ids), recommender(ids)
    before = trained.recommend(HISTORIES, k=N_ITEMS)
    draw = random.Random(1)
    removed: set[int] = set()
    for _ in range(25):
        some = draw.sample(range(N_ITEMS), draw.randrange(8))
        if draw.random() < 0.6:
            trained.remove_items(some)
            removed |= {*some}
        else:
            trained.restore_items(some)
            removed -= {*some}
        assert trained.removed == removed
        assert trained.verifier.n_ids == len(
            {int(ids.keys[item]) for item in range(N_ITEMS) if item not in removed}
        )
        n_left = N_ITEMS - len(removed)
        lists = [items(ranked) for ranked in trained.recommend(HISTORIES, k=5)]
        assert lists == expected(fresh, 5, [removed] * 4)
        assert all(len(row) == min(5, n_left) for row in lists)
        # Also where the twin of a removed item is denied, or not allowed.
        deny = [draw.sample(range(N_ITEMS), 8) for _ in HISTORIES]
        refused = [removed | {*row} for row in deny]
        wide = [items(ranked) for ranked in trained.recommend(HISTORIES, k=5, beam=5, deny=deny)]
        assert [len(row) for row in wide] == [min(5, N_ITEMS - len(row)) for row in refused]
        assert not any({*row} & bad for row, bad in zip(wide, refused, strict=True))
        (ranked,) = trained.recommend([[0]], k=5, beam=5, allow=[range(8)])
        assert len(ranked) == min(5, len({*range(8)} - removed))
        assert {*items(ranked)} <= {*range(8)} - removed
    trained.restore_items(range(N_ITEMS))
    assert trained.recommend(HISTORIES, k=N_ITEMS) == before


def test_the_filter_alone_keeps_what_outlived_its_item_off() -> None:
    trained, ids = recommender(shared_ids()), shared_ids()
    twins = next(group for group in map(ids.items_of, ids.keys.tolist()) if len(group) == 2)
    first, second = twins
    trained.remove_items([first])
    key = ids.keys[first].view(1, 1)
    assert trained.request_filter().admits(ids.levels, key).item() is True
    assert trained.request_filter(deny=[[second]]).admits(ids.levels, key).item() is False
    assert trained.request_filter(allow=[[first]]).admits(ids.levels, key).item() is False


def test_an_empty_catalogue_gives_empty_lists_in_every_mode() -> None:
    trained = recommender()
    trained.remove_items(range(N_ITEMS))
    for verification in ("off", "final", "prefix"):
        assert trained.recommend(HISTORIES, verification=verification) == [[], [], [], []]
    trained.restore_items([7])
    assert [items(ranked) for ranked in trained.recommend(HISTORIES)] == [[7]] * 4


@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_items_may_be_numbers_of_arrays_and_tensors(kind: Callable[[list[int]], Any]) -> None:
    """A set of tensors holds no number: its items would neither be allowed nor denied."""
    plain, changed = recommender(), recommender()
    plain.remove_items([2])
    changed.remove_items(kind([2]))
    assert changed.removed == plain.removed
    for sets in ({"allow": [3, 4, 5, 6]}, {"deny": [3, 4, 5, 6]}):
        expected = plain.recommend(HISTORIES, **{name: [set_] for name, set_ in sets.items()})
        arrays = {name: [kind(set_)] for name, set_ in sets.items()}
        assert changed.recommend(HISTORIES, **arrays) == expected
    with_seen = changed.recommend([kind([0, 1])], exclude_seen=True)
    assert with_seen == plain.recommend([[0, 1]], exclude_seen=True)
    assert not {0, 1, 2} & set(items(with_seen[0]))


@pytest.mark.parametrize("item", [1.5, 1.0, float("nan"), "1", None, [1]], ids=repr)
def test_what_is_no_whole_number_is_no_item(item: Any) -> None:
    trained = recommender()
    with pytest.raises(ValueError, match=r"History 0 holds item .*, but the catalogue's items"):
        trained.recommend([[0, item]])
    with pytest.raises(ValueError, match=r"allow of prompt 0 holds item .*, but the catalogue's"):
        trained.recommend([[0]], allow=[[item]])
    with pytest.raises(ValueError, match=r"The change holds item .*, but the catalogue's items"):
        trained.remove_items([item])
    assert not trained.removed


def test_wrong_sets_are_named_and_change_nothing() -> None:
    trained = recommender()
    for change in (trained.remove_items, trained.restore_items):
        with pytest.raises(ValueError, match=r"The change holds item 20, but .* 0 to 19"):
            change([3, 20])
    assert trained.removed == frozenset()
    assert trained.verifier.n_ids == N_ITEMS
    for name in ("allow", "deny"):
        with pytest.raises(ValueError, match=f"{name} holds sets for 3 histories, but there are 2"):
            trained.recommend([[0], [1]], **{name: [[], [], []]})
        with pytest.raises(ValueError, match=f"{name} of prompt 1 holds item 20"):
            trained.recommend([[0], [1]], **{name: [None, [20]]})


# ---- the decoder behind it ----------------------------------------------------------------------


class CountingFactory:
    """Makes captured decoders without a compiler, and counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, model: NezhaModel, verifier: Verifier, verification: Verification
    ) -> CapturedDecoder:
        self.calls += 1
        return CapturedDecoder(NezhaDecoder(model, verifier, verification), compile=False)


@pytest.mark.parametrize("ids", [toy_ids(), shared_ids()], ids=["own", "shared"])
def test_a_captured_decoder_gives_the_same_lists_while_the_catalogue_changes(
    ids: SemanticIds,
) -> None:
    plain = recommender(ids)
    factory = CountingFactory()
    fast = Recommender(plain.model, ids, decoder=factory)
    for change in ([], [3, 4, 5], [0, 1], [12]):
        plain.remove_items(change)
        fast.remove_items(change)
        for verification in VERIFICATIONS:
            expected = plain.recommend(HISTORIES, verification=verification, exclude_seen=True)
            lists = fast.recommend(HISTORIES, verification=verification, exclude_seen=True)
            assert [items(row) for row in lists] == [items(row) for row in expected]
    assert factory.calls == len(VERIFICATIONS), "one for each mode, whatever the catalogue is"


def test_loading_with_compile_makes_the_captured_decoder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(
        captured_nezha(toy_model(), TrieVerifier(toy_ids()), "final"), CapturedDecoder
    )
    used: list[Verification] = []

    def factory(
        model: NezhaModel, verifier: Verifier, verification: Verification
    ) -> CapturedDecoder:
        used.append(verification)
        return CapturedDecoder(NezhaDecoder(model, verifier, verification), compile=False)

    monkeypatch.setattr("nezha_lite.decoding.recommender.captured_nezha", factory)
    expected = Recommender.load(folder).recommend(HISTORIES)
    assert used == []
    lists = Recommender.load(folder, compile=True).recommend(HISTORIES)
    assert used == ["prefix"]
    assert [items(row) for row in lists] == [items(row) for row in expected]


# ---- large sets ---------------------------------------------------------------------------------


def test_sets_are_read_as_arrays_not_item_by_item(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = recommender()
    deny = [np.array([3, 4, 4]), torch.tensor([5]), [], {1, 2}]
    expected = trained.recommend(HISTORIES, allow=[range(2, 15)], deny=[*map(list, deny)])

    def refuse(self: SemanticIds, items: Collection[int], holder: str) -> list[int]:
        raise AssertionError(f"{holder} was checked one by one")

    prompts = trained.model.build_prompts(HISTORIES, trained.semantic_ids)
    monkeypatch.setattr(trained.model, "build_prompts", lambda *_: prompts)
    monkeypatch.setattr(SemanticIds, "known_items", refuse)
    deny[2] = None
    assert trained.recommend(HISTORIES, allow=[np.arange(2, 15)], deny=deny) == expected


def test_one_allow_set_for_all_is_stored_once_beside_what_each_one_has_seen() -> None:
    n_items, radices = 3000, (16, 16, 16)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(16, (n_items, 3), generator=generator)
    ids = SemanticIds.from_codes(codes, radices)
    trained = Recommender(toy_model(ids), ids)
    allow, deny = [range(2000)], [range(row, 2100, 9) for row in range(8)]
    shared = trained.request_filter(allow, deny)
    separate = trained.request_filter(allow * 8, deny)
    assert len(shared) == len(separate) == 8
    numbers = sum(tensor.numel() for tensor in shared.tensors())
    assert numbers < sum(tensor.numel() for tensor in separate.tensors()) / 2
    for level in range(1, 4):
        keys = torch.arange(16**level).expand(8, -1)
        assert torch.equal(shared.admits(level, keys), separate.admits(level, keys))
