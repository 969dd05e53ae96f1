"""From a trained folder to a list of items."""

import shutil
from pathlib import Path

import pytest
import torch
from toys import N_ITEMS, shared_ids, toy_ids, toy_model

from nezha_lite.decoding import NezhaDecoder
from nezha_lite.recommender import Recommendation, Recommender
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier

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
    return [place.item for place in ranked]


def test_loading_gives_the_same_lists(folder: Path) -> None:
    loaded = Recommender.load(str(folder))
    assert not loaded.model.training
    assert loaded.recommend(HISTORIES) == recommender().recommend(HISTORIES)


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
        assert [place.name for place in ranked] == [f"i{item}" for item in items(ranked)]
        scores = [place.score for place in ranked]
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
    found = trained.recommend(HISTORIES, k=N_ITEMS, beam=40)
    for ranked, best in zip(found, expected, strict=True):
        assert items(ranked) == best.indices.tolist()
        torch.testing.assert_close(torch.tensor([p.score for p in ranked]), best.values)
    assert items(found[0]) != items(found[1])


def test_more_than_the_catalogue_gives_the_catalogue() -> None:
    for ranked in recommender().recommend(HISTORIES, k=100):
        assert sorted(items(ranked)) == list(range(N_ITEMS))


def test_off_returns_the_existing_among_the_drafts_only() -> None:
    trained = recommender()
    found = trained.recommend(HISTORIES, k=10, beam=10, verification="off")
    decoder = NezhaDecoder(trained.model, None, "off")
    keys = decoder.decode(trained.model.build_prompts(HISTORIES, trained.semantic_ids), 10).keys
    exists = HashSetVerifier(trained.semantic_ids).contains(keys)
    assert [len(ranked) for ranked in found] == exists.sum(1).tolist()
    assert not exists.all()
    for ranked, row, mask in zip(found, keys, exists, strict=True):
        assert trained.semantic_ids.keys[items(ranked)].tolist() == row[mask].tolist()
    assert found == trained.recommend(HISTORIES, k=10, beam=10, verification="final")


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
    with pytest.raises(ValueError, match="verification is 'sometimes'"):
        trained.recommend(HISTORIES, verification="sometimes")


def test_a_folder_can_be_moved(folder: Path, tmp_path: Path) -> None:
    expected = Recommender.load(folder).recommend(HISTORIES)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("config.json", "model.safetensors", "semantic_ids.safetensors"):
        shutil.move(folder / name, moved / name)
    assert Recommender.load(moved).recommend(HISTORIES) == expected
