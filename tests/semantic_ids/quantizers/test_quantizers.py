"""What holds for every kind of quantizer: codes, costs, seeds, files, edges, bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nezha_lite.semantic_ids.quantizers import (
    LSH,
    OPQ,
    QUANTIZERS,
    RQVAE,
    BalancedRQKMeans,
    BalancedRQKMeansConfig,
    LSHConfig,
    OPQConfig,
    Quantizer,
    QuantizerConfig,
    RandomCodes,
    RQKMeans,
    RQKMeansConfig,
    RQVAEConfig,
    load_quantizer,
    make_quantizer,
)
from tests.helpers.slow_quantizing import clustered, greedy_codes, small_quantizer

CONFIGS = {
    "rq-kmeans": RQKMeansConfig,
    "balanced-rq-kmeans": BalancedRQKMeansConfig,
    "rq-vae": RQVAEConfig,
    "opq": OPQConfig,
    "lsh": LSHConfig,
    "random": QuantizerConfig,
}
DECODING = ["rq-kmeans", "balanced-rq-kmeans", "rq-vae", "opq"]


@pytest.fixture(params=list(CONFIGS))
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return small_quantizer(request.param, (4, 8))


@pytest.fixture(params=DECODING)
def decoding(request: pytest.FixtureRequest) -> RQKMeans | BalancedRQKMeans | RQVAE | OPQ:
    return small_quantizer(request.param, (4, 8))


def test_all_kinds_are_made_by_name() -> None:
    assert list(QUANTIZERS) == list(CONFIGS)
    assert set(QUANTIZERS.values()) == {RQKMeans, BalancedRQKMeans, RQVAE, OPQ, LSH, RandomCodes}
    for kind in QUANTIZERS:
        made = make_quantizer(kind, 2, (4, 8), seed=3)
        assert made.kind == kind
        assert type(made) is QUANTIZERS[kind]
        assert made.config == CONFIGS[kind](levels=2, codes=(4, 8), seed=3)
        assert make_quantizer(kind).radices == (64, 64, 64)
    with pytest.raises(ValueError, match=r"quantizer is 'pq', .* one of 'rq-kmeans', .*'random'"):
        make_quantizer("pq")
    with pytest.raises(ValueError, match="levels is 0"):
        make_quantizer("opq", levels=0)


def test_codes_have_the_configured_ranges(quantizer: Quantizer) -> None:
    codes = quantizer.fit(clustered(200)).encode(clustered(50, seed=1))
    assert codes.shape == (50, 2)
    assert codes.dtype == torch.int64
    assert quantizer.radices == (4, 8)
    assert (codes >= 0).all()
    assert (codes < torch.tensor([4, 8])).all()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("radices", [(8, 8, 8), (16, 2, 4, 1, 8), (4,)])
def test_encode_is_greedy_over_level_costs(kind: str, radices: tuple[int, ...]) -> None:
    quantizer = small_quantizer(kind, radices).fit(clustered(150))
    seen, new = clustered(150), clustered(50, seed=1)
    for vectors in (seen, new, 100 * new):
        assert torch.equal(quantizer.encode(vectors), greedy_codes(quantizer, vectors))
    costs = quantizer.level_costs(seen, torch.zeros(150, 0, dtype=torch.int64))
    assert costs.dtype == torch.float64
    assert costs.shape == (150, radices[0])
    # A group's costs are those of its members, whatever the group.
    some = quantizer.level_costs(seen[7:9], torch.zeros(2, 0, dtype=torch.int64))
    assert torch.equal(some, costs[7:9])


def test_costs_of_codes_without_a_row_are_infinite(
    decoding: RQKMeans | BalancedRQKMeans | OPQ | RQVAE,
) -> None:
    vectors = clustered(3)
    quantizer = decoding.fit(vectors)
    for level, (book, radix) in enumerate(zip(quantizer.codebooks, quantizer.radices, strict=True)):
        prefix = quantizer.encode(vectors)[:, :level]
        costs = quantizer.level_costs(vectors, prefix)
        assert costs.shape == (3, radix)
        assert costs[:, : len(book)].isfinite().all()
        assert (costs[:, len(book) :] == torch.inf).all()


def test_level_costs_say_what_is_wrong(quantizer: Quantizer) -> None:
    vectors = clustered(30)
    none = torch.zeros(30, 0, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="call fit or load first"):
        quantizer.level_costs(vectors, none)
    quantizer.fit(vectors)
    for shape in ((29, 1), (30, 2), (30,)):
        with pytest.raises(ValueError, match=r"shape of prefix is .* \(30, l\) with l in 0\.\.1"):
            quantizer.level_costs(vectors, torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"code 4 at level 0 .* 0\.\.3"):
        quantizer.level_costs(vectors, torch.full((30, 1), 4))
    with pytest.raises(ValueError, match=r"shape of vectors is \(30, 5\), .* \(N, 16\)"):
        quantizer.level_costs(torch.zeros(30, 5), none)


def test_same_seed_gives_the_same_codes_and_global_random_state_is_kept(
    quantizer: Quantizer,
) -> None:
    vectors = clustered(200)
    fitted = []
    with torch.random.fork_rng(devices=[]):
        for state_seed in (11, 12):  # what others left in the global generator must not matter
            torch.manual_seed(state_seed)
            before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
            fitted.append(type(quantizer)(quantizer.config).fit(vectors))
            assert torch.equal(before, torch.get_rng_state())
            assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002
    first, second = fitted
    assert torch.equal(first.encode(vectors), second.encode(vectors))
    none = torch.zeros(200, 0, dtype=torch.int64)
    assert torch.equal(first.level_costs(vectors, none), second.level_costs(vectors, none))

    other = type(quantizer)(replace(quantizer.config, seed=1)).fit(vectors)
    assert not torch.equal(first.encode(vectors), other.encode(vectors))


def test_codes_do_not_depend_on_the_batch(quantizer: Quantizer) -> None:
    vectors = clustered(60)
    codes = quantizer.fit(vectors).encode(vectors)
    assert torch.equal(codes, torch.cat([quantizer.encode(row[None]) for row in vectors]))
    assert quantizer.encode(vectors[:0]).shape == (0, 2)


def test_equal_vectors_get_equal_codes(quantizer: Quantizer) -> None:
    vectors = clustered(20).repeat(5, 1)
    codes = quantizer.fit(vectors).encode(vectors).view(5, 20, 2)
    assert (codes == codes[0]).all()


def test_one_vector_is_reconstructed(decoding: RQKMeans | BalancedRQKMeans | RQVAE | OPQ) -> None:
    vectors = torch.tensor([[3.0, -4.0, 0.5]])
    decoded = decoding.fit(vectors).decode(decoding.encode(vectors))
    torch.testing.assert_close(decoded, vectors, atol=0.1, rtol=0)


@pytest.mark.parametrize("kind", DECODING)
def test_fewer_vectors_than_codes_stay_apart(kind: str) -> None:
    vectors = torch.eye(3)
    codes = small_quantizer(kind, (4, 4)).fit(vectors).encode(vectors)
    assert len(codes.unique(dim=0)) == 3


@pytest.mark.parametrize(
    "vectors",
    [
        clustered(1),
        clustered(3),
        clustered(1).repeat(20, 1),
        clustered(3, clusters=3).repeat(20, 1),
        torch.zeros(6, 5),
        torch.cat([torch.zeros(4, 16), clustered(30)]),
        1e30 * clustered(30),
        1e-30 * clustered(30),
        torch.arange(12.0)[:, None],
        torch.cartesian_prod(*[torch.arange(3.0)] * 3),  # a grid: exact ties everywhere
    ],
    ids=[
        "one",
        "few",
        "equal",
        "duplicates",
        "zeros",
        "zero-rows",
        "huge",
        "tiny",
        "one-wide",
        "grid",
    ],
)
def test_edges_give_valid_codes_and_finite_costs(quantizer: Quantizer, vectors: Tensor) -> None:
    codes = quantizer.fit(vectors).encode(vectors)
    assert (codes >= 0).all()
    assert (codes < torch.tensor(quantizer.radices)).all()
    assert torch.equal(codes, greedy_codes(quantizer, vectors))
    distinct, inverse = vectors.unique(dim=0, return_inverse=True)
    assert torch.equal(quantizer.encode(distinct)[inverse], codes)  # equal vectors, equal codes
    for level in range(2):
        costs = quantizer.level_costs(vectors, codes[:, :level])
        assert not costs.isnan().any()
        assert costs.min(1).values.isfinite().all()
    if not isinstance(quantizer, LSH | RandomCodes):
        assert quantizer.decode(codes).isfinite().all()


def test_one_code_per_level_tells_nothing_apart(quantizer: Quantizer) -> None:
    vectors = clustered(40)
    single = type(quantizer)(replace(quantizer.config, codes=(1, 8))).fit(vectors)
    codes = single.encode(vectors)
    assert not codes[:, 0].any()
    assert len(codes[:, 1].unique()) > 1


def test_save_and_load_give_the_same_codes(quantizer: Quantizer, tmp_path: Path) -> None:
    vectors = clustered(100)
    quantizer.fit(vectors)
    path = tmp_path / "quantizer.safetensors"
    path.write_text("an older file")
    quantizer.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["quantizer.safetensors"]
    state = torch.get_rng_state()
    codes = quantizer.encode(vectors)
    for loaded in (type(quantizer).load(path), load_quantizer(path)):
        assert type(loaded) is type(quantizer)
        assert loaded.config == quantizer.config
        assert torch.equal(loaded.encode(vectors), codes)
        costs = [q.level_costs(vectors, codes[:, :1]) for q in (loaded, quantizer)]
        assert torch.equal(*costs)
        if not isinstance(quantizer, LSH | RandomCodes):
            assert torch.equal(loaded.decode(codes), quantizer.decode(codes))
    assert torch.equal(state, torch.get_rng_state())


def test_load_quantizer_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_quantizer(path)
    for kind in (None, "pq"):
        metadata = {"quantizer": kind, "config": json.dumps({})} if kind else None
        save_file({"x": torch.zeros(1)}, path, metadata)
        with pytest.raises(ValueError, match=f"kind of .* is {kind!r}, .*'rq-kmeans'"):
            load_quantizer(path)


def test_a_failed_save_leaves_the_old_file(
    quantizer: Quantizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    quantizer.fit(clustered(30))
    path = tmp_path / "q.safetensors"
    path.write_text("an older file")
    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        quantizer.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["q.safetensors"]
    assert path.read_text() == "an older file"


def test_load_says_what_is_wrong(quantizer: Quantizer, tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    with pytest.raises(FileNotFoundError, match="There is no file"):
        type(quantizer).load(path)
    path.write_text("not tensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        type(quantizer).load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="kind None"):
        type(quantizer).load(path)
    quantizer.fit(clustered(30)).save(path)
    for other in set(QUANTIZERS.values()) - {type(quantizer)}:
        with pytest.raises(ValueError, match=f"kind '{quantizer.kind}': '{other.kind}' is needed"):
            other.load(path)


@pytest.mark.parametrize("config", [None, "{", '{"foo": 1}', "[1]", "good"])
def test_a_damaged_file_is_named(config: str | None, quantizer: Quantizer, tmp_path: Path) -> None:
    """Settings that are missing or wrong; or good ones, with all tensors gone."""
    path = tmp_path / "q.safetensors"
    quantizer.fit(clustered(30)).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    changed = {"quantizer": quantizer.kind}
    if config is not None:
        changed["config"] = metadata["config"] if config == "good" else config
    save_file({"x": torch.zeros(1)}, path, metadata=changed)
    for load in (type(quantizer).load, load_quantizer):
        with pytest.raises(ValueError, match=r"q\.safetensors is damaged"):
            load(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_row_that_is_not_finite_is_named(quantizer: Quantizer, bad: float) -> None:
    vectors = clustered(30)
    vectors[7, 2] = vectors[9, 0] = bad
    with pytest.raises(ValueError, match="row 7 holds NaN or inf"):
        quantizer.fit(vectors)
    quantizer.fit(clustered(30))
    with pytest.raises(ValueError, match="row 7 holds NaN or inf"):
        quantizer.encode(vectors)


def test_wrong_inputs_are_named(quantizer: Quantizer, tmp_path: Path) -> None:
    for unfitted in (
        lambda: quantizer.encode(torch.zeros(2, 3)),
        lambda: quantizer.save(tmp_path / "q.safetensors"),
    ):
        with pytest.raises(RuntimeError, match="call fit or load first"):
            unfitted()
    assert not list(tmp_path.iterdir())
    for shape in ((5,), (5, 0), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"shape of vectors is .*\(N, D\)"):
            quantizer.fit(torch.zeros(shape))
    with pytest.raises(ValueError, match="vectors has no rows"):
        quantizer.fit(torch.zeros(0, 4))
    quantizer.fit(clustered(30))
    with pytest.raises(ValueError, match=r"shape of vectors is \(2, 5\), .* \(N, 16\)"):
        quantizer.encode(torch.zeros(2, 5))


def test_wrong_codes_are_named(decoding: RQKMeans | BalancedRQKMeans | RQVAE | OPQ) -> None:
    with pytest.raises(RuntimeError, match="call fit or load first"):
        decoding.codebooks  # noqa: B018
    decoding.fit(clustered(30))
    with pytest.raises(ValueError, match=r"l in 1\.\.2"):
        decoding.decode(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"code 8 at level 1 .* 0\.\.7"):
        decoding.decode(torch.tensor([[0, 0], [3, 8]]))
    with pytest.raises(ValueError, match="code -1 at level 0"):
        decoding.decode(torch.tensor([[-1, 0]]))


def test_the_bar_is_shown_on_request_only(
    decoding: RQKMeans | BalancedRQKMeans | RQVAE | OPQ, capfd: pytest.CaptureFixture[str]
) -> None:
    decoding.fit(clustered(30))
    assert capfd.readouterr().err == ""
    decoding.fit(clustered(30), progress=True)
    shown = capfd.readouterr().err
    assert "Q" in shown
    assert "100%" in shown


@pytest.mark.parametrize("config", CONFIGS.values())
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"codes": 0}, "codes is 0"),
        ({"codes": 2.5}, "codes is 2.5"),
        ({"codes": (4, 4)}, r"codes is \(4, 4\), .* one number, or one per level \(3\)"),
        ({"codes": (4, 0, 4)}, "codes is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_configs_name_the_field(config: type, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)
