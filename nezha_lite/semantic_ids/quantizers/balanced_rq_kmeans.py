"""Balanced RQ-KMeans: residual k-means whose clusters at each level are equally large.

Plain k-means gives dense regions few, large clusters: many items share those codes, and collide.
Here each code carries a price, and a vector takes the code of least squared distance plus price.
The prices are those that balance the fitted vectors (see `transport`); for a new vector they are
as good as for the fitted ones, and its codes are as plain a function of it.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from nezha_lite.semantic_ids.quantizers.balanced_assignment import balance
from nezha_lite.semantic_ids.quantizers.base import QuantizerConfig
from nezha_lite.semantic_ids.quantizers.files import (
    StoredQuantizer,
    check_shape,
    codebooks_of,
    named_codebooks,
)
from nezha_lite.semantic_ids.quantizers.numerics import cluster, means
from nezha_lite.semantic_ids.quantizers.residual import (
    encode_residuals,
    nearest_codes,
    residual_costs,
    squared_distances,
    sum_codewords,
)
from nezha_lite.semantic_ids.quantizers.validation import check_range, check_rows, check_vectors


@dataclass(frozen=True)
class BalancedRQKMeansConfig(QuantizerConfig):
    """How to fit a `BalancedRQKMeans`.

    At each level, `rounds` times, the rows are assigned in balance and the centroids moved to the
    means of their rows. At most `sample` rows are used for that, drawn by the seed.
    Raises ValueError naming the field for values out of range.
    """

    rounds: int = 6
    sample: int = 30_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rounds", "sample"):
            check_range(name, getattr(self, name), 1)


class BalancedRQKMeans(StoredQuantizer[BalancedRQKMeansConfig]):
    """Residual k-means with equally large clusters.

    Guarantee: at each level, of M distinct fitted residuals each of the C codes gets floor(M / C)
    or ceil(M / C), unless exact ties make that impossible. Equal vectors share all codes, so items
    with equal vectors count once. With more than `config.sample` vectors, the guarantee is for the
    drawn sample, and all vectors are in balance up to the error of sampling. A level with no more
    distinct residuals than codes gives each its own code, and its codebook has that many rows.
    """

    kind: ClassVar[str] = "balanced-rq-kmeans"
    config_class = BalancedRQKMeansConfig

    def __init__(self, config: BalancedRQKMeansConfig | None = None) -> None:
        super().__init__(config)
        self._levels: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None = None

    @property
    def _fitted(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        if self._levels is None:
            raise RuntimeError("this BalancedRQKMeans has no codebooks yet: call fit or load first")
        return self._levels

    @property
    def codebooks(self) -> tuple[Tensor, ...]:
        """Centroids per level: float32 (at most C_l, D) each. RuntimeError before `fit`."""
        return self._fitted[0]

    @property
    def prices(self) -> tuple[Tensor, ...]:
        """What each code adds to the squared distance: float64 (rows of the codebook,), >= 0."""
        return self._fitted[1]

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Fit centroids and prices to `vectors` (N, D), level by level, on the CPU; returns self.

        `progress` shows a bar over the rounds of all levels.
        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        from tqdm import tqdm

        config = self.config
        vectors = check_rows(vectors)
        random = np.random.RandomState(config.seed)
        if len(vectors) > config.sample:
            drawn = random.choice(len(vectors), config.sample, replace=False)
            vectors = vectors[np.sort(drawn)]
        residual = vectors.double()
        noise = max(1e-6 * float(residual.abs().max()), 1e-300)
        codebooks, prices = [], []
        total = config.levels * config.rounds
        with tqdm(total=total, desc="Balanced RQ-KMeans", disable=not progress) as bar:
            for radix in self.radices:
                # Rows that differ by rounding noise only count as one.
                rounded = (residual / noise).round().numpy()
                first = np.unique(rounded, axis=0, return_index=True)[1]
                book = cluster(residual.numpy()[first], radix, random, iterations=20).float()
                price = torch.zeros(len(book), dtype=torch.float64)
                if len(book) < len(first):
                    rows = residual[first]
                    for _ in range(config.rounds):
                        price = balance(squared_distances(rows, book.double()), price)
                        codes = nearest_codes(rows, book, price)
                        book = means(rows, codes, book)
                        bar.update()
                    price = balance(squared_distances(rows, book.double()), price)
                residual = residual - book[nearest_codes(residual, book, price)]
                codebooks.append(book)
                prices.append(price)
        self._levels = tuple(codebooks), tuple(prices)
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """Per level the code of least squared distance plus price, ties to the lowest: (N, L)."""
        books, prices = self._fitted
        return encode_residuals(check_vectors(vectors, books[0].shape[1]), books, prices)

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Squared distance plus price of each code for what `prefix` (N, l) leaves of `vectors`.

        float64 (N, C_{l+1}), computed as `encode` does; inf for a code without a centroid.
        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        books, prices = self._fitted
        vectors = check_vectors(vectors, books[0].shape[1])
        return residual_costs(vectors, prefix, books, self.radices, prices)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum of the chosen centroids: float32 (N, D) for `codes` (N, l), 1 <= l <= L.

        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        return sum_codewords(codes, self.codebooks)

    def state(self) -> dict[str, Tensor]:
        """Codebooks and prices, by name."""
        return named_codebooks(self.codebooks) | named_codebooks(self.prices, "prices")

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave; LookupError or ValueError if it is damaged."""
        books = codebooks_of(self.config, tensors)
        prices = tuple(tensors[f"prices.{level}"] for level in range(len(books)))
        for level, (book, price) in enumerate(zip(books, prices, strict=True)):
            check_shape(f"prices.{level}", price, len(book))
        self._levels = (books, prices)
