"""What holds for both quantizers: codes, seeds, files, bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from slow_quantizing import SMALL_VAE, clustered

from nezha_lite.quantizers import RQVAE, Quantizer, RQKMeans, RQKMeansConfig, RQVAEConfig


@pytest.fixture(params=["rq-kmeans", "rq-vae"])
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    if request.param == "rq-kmeans":
        return RQKMeans(RQKMeansConfig(levels=2, codes=(4, 6)))
    return RQVAE(SMALL_VAE)


def test_codes_have_the_configured_ranges(quantizer: Quantizer) -> None:
    codes = quantizer.fit(clustered(200)).encode(clustered(50, seed=1))
    assert codes.shape == (50, 2)
    assert codes.dtype == torch.int64
    assert quantizer.radices == (4, 6)
    assert [len(book) for book in quantizer.codebooks] == [4, 6]
    assert (codes >= 0).all()
    assert (codes < torch.tensor([4, 6])).all()


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
    for a, b in zip(first.codebooks, second.codebooks, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(first.encode(vectors), second.encode(vectors))

    other = type(quantizer)(replace(quantizer.config, seed=1)).fit(vectors)
    assert not torch.equal(first.codebooks[0], other.codebooks[0])


def test_codes_do_not_depend_on_the_batch(quantizer: Quantizer) -> None:
    vectors = clustered(60)
    codes = quantizer.fit(vectors).encode(vectors)
    assert torch.equal(codes, torch.cat([quantizer.encode(row[None]) for row in vectors]))
    assert quantizer.encode(vectors[:0]).shape == (0, 2)


def test_equal_vectors_get_equal_codes(quantizer: Quantizer) -> None:
    vectors = clustered(20).repeat(5, 1)
    codes = quantizer.fit(vectors).encode(vectors).view(5, 20, 2)
    assert (codes == codes[0]).all()


def test_one_vector_is_reconstructed(quantizer: Quantizer) -> None:
    vectors = torch.tensor([[3.0, -4.0, 0.5]])
    decoded = quantizer.fit(vectors).decode(quantizer.encode(vectors))
    torch.testing.assert_close(decoded, vectors, atol=0.1, rtol=0)


def test_fewer_vectors_than_codes_stay_apart(quantizer: Quantizer) -> None:
    vectors = torch.eye(3)
    codes = quantizer.fit(vectors).encode(vectors)
    assert len(codes.unique(dim=0)) == 3


def test_save_and_load_give_the_same_codes(quantizer: Quantizer, tmp_path: Path) -> None:
    vectors = clustered(100)
    quantizer.fit(vectors)
    path = tmp_path / "quantizer.safetensors"
    path.write_text("an older file")
    quantizer.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["quantizer.safetensors"]
    state = torch.get_rng_state()
    loaded = type(quantizer).load(path)
    assert torch.equal(state, torch.get_rng_state())
    assert loaded.config == quantizer.config
    codes = quantizer.encode(vectors)
    assert torch.equal(loaded.encode(vectors), codes)
    assert torch.equal(loaded.decode(codes), quantizer.decode(codes))


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
    with pytest.raises(FileNotFoundError, match="no quantizer file"):
        type(quantizer).load(path)
    path.write_text("not tensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        type(quantizer).load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="kind None"):
        type(quantizer).load(path)
    other = RQVAE(SMALL_VAE) if isinstance(quantizer, RQKMeans) else RQKMeans()
    quantizer.fit(clustered(30)).save(path)
    with pytest.raises(ValueError, match="is needed"):
        type(other).load(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_row_that_is_not_finite_is_named(quantizer: Quantizer, bad: float) -> None:
    vectors = clustered(30)
    vectors[7, 2] = vectors[9, 0] = bad
    with pytest.raises(ValueError, match="row 7 holds NaN or inf"):
        quantizer.fit(vectors)
    quantizer.fit(clustered(30))
    with pytest.raises(ValueError, match="row 7 holds NaN or inf"):
        quantizer.encode(vectors)


def test_wrong_inputs_are_named(quantizer: Quantizer) -> None:
    for unfitted in (lambda: quantizer.codebooks, lambda: quantizer.encode(torch.zeros(2, 3))):
        with pytest.raises(RuntimeError, match="call fit or load first"):
            unfitted()
    for shape in ((5,), (5, 0), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"shape .*: \(N, D\) needed"):
            quantizer.fit(torch.zeros(shape))
    with pytest.raises(ValueError, match="vectors has no rows"):
        quantizer.fit(torch.zeros(0, 4))
    quantizer.fit(clustered(30))
    with pytest.raises(ValueError, match=r"shape \(2, 5\): \(N, 16\) needed"):
        quantizer.encode(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"l in 1\.\.2"):
        quantizer.decode(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"code 6 at level 1 .* 0\.\.5"):
        quantizer.decode(torch.tensor([[0, 0], [3, 6]]))
    with pytest.raises(ValueError, match="code -1 at level 0"):
        quantizer.decode(torch.tensor([[-1, 0]]))


def test_the_bar_is_shown_on_request_only(
    quantizer: Quantizer, capfd: pytest.CaptureFixture[str]
) -> None:
    quantizer.fit(clustered(30))
    assert capfd.readouterr().err == ""
    quantizer.fit(clustered(30), progress=True)
    assert "RQ-" in capfd.readouterr().err


@pytest.mark.parametrize("config", [RQKMeansConfig, RQVAEConfig])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"codes": 0}, "codes is 0"),
        ({"codes": 2.5}, "codes is 2.5"),
        ({"codes": (4, 4)}, r"codes is \(4, 4\): one number, or one per level \(3\)"),
        ({"codes": (4, 0, 4)}, "codes is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_configs_name_the_field(config: type, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)
