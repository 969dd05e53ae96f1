"""ID spaces and catalogues to draw, and what exists in them by definition."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.verifiers import VERIFIER_KINDS, CatalogueKeys
from nezha_lite.verifiers.base import Verifier

KINDS = tuple(VERIFIER_KINDS)
FAST_KINDS = tuple(kind for kind in KINDS if kind != "hash-set")

# One code, one level, powers of two and not, more codes than a byte or two have numbers.
RADICES = st.one_of(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.sampled_from([[1], [300], [4, 8, 2], [1, 1, 7], [3, 300], [2, 70_000], [64, 64, 64, 4]]),
)


def key_lists(space: int, max_size: int = 30) -> st.SearchStrategy[list[int]]:
    """Keys inside the space, duplicates likely: most come from its beginning and its end."""
    near = st.integers(0, min(9, space - 1))
    key = st.one_of(near, near.map(lambda key: space - 1 - key), st.integers(0, space - 1))
    return st.lists(key, max_size=max_size)


@st.composite
def catalogues(draw: st.DrawFn) -> CatalogueKeys:
    radices = draw(RADICES)
    keys = draw(key_lists(math.prod(radices)))
    return CatalogueKeys(as_keys(keys), tuple(radices))


def as_keys(keys: Iterable[int]) -> Tensor:
    return torch.tensor(list(keys), dtype=torch.int64)


def every_kind(catalogue: CatalogueKeys) -> dict[str, Verifier]:
    return {kind: structure(catalogue) for kind, structure in VERIFIER_KINDS.items()}


def levels(radices: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Every level with its stride, and the number of prefixes that could be written there."""
    stride = 1
    for level, radix in enumerate(radices, start=1):
        yield level, stride, stride * radix
        stride *= radix


def check_answers(verifier: Verifier, ids: Iterable[int], probes: Iterable[int]) -> None:
    """Everything a verifier can be asked, against plain sets: the IDs, and `probes` beside them."""
    ids, radices = set(ids), verifier.radices
    assert verifier.n_ids == len(ids)
    for level, stride, n_prefixes in levels(radices):
        existing = {key % n_prefixes for key in ids}
        asked = sorted(existing) + [key % n_prefixes for key in probes]
        asked += [-1, -7, -(2**63), n_prefixes, n_prefixes + 1, 2**31, 2**32, 2**62, 2**63 - 1]
        expected = [key in existing for key in asked]
        assert verifier.prefix_contains(level, as_keys(asked)).tolist() == expected
        if level == len(radices):
            assert verifier.contains(as_keys(asked)).tolist() == expected

        parents = sorted({key % stride for key in asked if key >= 0})[:40]
        if level > 1:
            parents = [parents[-1], -1, *parents[:-1], -1, stride]  # dead ones, and no prefix
        check_candidates(verifier, level, [parents, parents[::-1]], existing)


def check_candidates(
    verifier: Verifier, level: int, prefixes: list[list[int]], existing: set[int]
) -> None:
    """The candidates are exactly the continuations that exist, each once and in order."""
    stride, radix = verifier.strides[level - 1], verifier.radices[level - 1]
    found = verifier.candidates(level, torch.tensor(prefixes))
    n_grid = len(prefixes[0]) * radix
    assert found.exists is not None
    assert found.exists.dtype == torch.bool
    if found.index is None:
        assert found.exists.shape == (len(prefixes), n_grid)
        index = torch.arange(n_grid).expand_as(found.exists)
    else:
        index = found.index
        assert index.dtype == torch.int64
        assert index.shape == found.exists.shape
        assert index.numel() == 0 or 0 <= int(index.min()) <= int(index.max()) < n_grid
    of_parent: dict[int, list[int]] = {}
    for key in sorted(existing):
        of_parent.setdefault(key % stride, []).append(key // stride)
    for row, exists, numbers in zip(prefixes, found.exists, index, strict=True):
        expected = [
            beam * radix + code
            for beam, prefix in enumerate(row)
            for code in of_parent.get(prefix, ())
        ]
        assert numbers[exists].tolist() == expected
