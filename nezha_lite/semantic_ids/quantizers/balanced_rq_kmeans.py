"""Balanced RQ-KMeans: residual k-means whose clusters at each level are equally large.

Plain k-means gives dense regions few, large clusters: many items share those codes, and collide.
Here each code has a price, and a vector takes the code of least squared distance plus price. The
prices balance the fitted vectors: at the right prices every code is taken equally often, and no
assignment with equal counts costs less in total. Such prices are the dual solution of an optimal
transport problem. The code of a new vector is the same function of its distances.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nezha_lite.common.checks import Count
from nezha_lite.semantic_ids.quantizers.base import (
    QuantizerConfig,
    by_level,
    check_rows,
    check_shape,
)
from nezha_lite.semantic_ids.quantizers.numerics import cluster, means
from nezha_lite.semantic_ids.quantizers.residual import (
    ResidualQuantizer,
    nearest_codes,
    squared_distances,
)


@dataclass(frozen=True)
class BalancedRQKMeansConfig(QuantizerConfig):
    """How to fit a `BalancedRQKMeans`.

    Attributes:
        rounds: at each level, so many times the rows are assigned in balance and the centroids
            moved to the means of their rows.
        sample: at most so many rows are used for that, drawn by the seed.

    Raises:
        ValueError: naming the field that is out of range.
    """

    rounds: Count = 6
    sample: Count = 30_000


class BalancedRQKMeans(ResidualQuantizer):
    """Residual k-means with equally large clusters.

    Guarantee: at each level, of M distinct fitted residuals each of the C codes gets floor(M / C)
    or ceil(M / C), unless exact ties make that impossible. Equal vectors share all codes, so items
    with equal vectors count once. With more than `config.sample` vectors, the guarantee is for the
    drawn sample, and all vectors are in balance up to the error of sampling. A level with no more
    distinct residuals than codes gives each its own code, and its codebook has that many rows.
    """

    kind = "balanced-rq-kmeans"
    config_class = BalancedRQKMeansConfig
    config: BalancedRQKMeansConfig

    @property
    def prices(self) -> tuple[Tensor, ...]:
        """What each code adds to the squared distance: float64 (rows of the codebook,), >= 0."""
        return self.of_levels("prices")

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Fit centroids and prices to `vectors` (N, D), level by level, on the CPU; returns self.

        `progress` shows a bar over the rounds of all levels.
        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
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
                    book, price = _in_balance(residual[first], book, price, config.rounds, bar)
                residual = residual - book[nearest_codes(residual, book, price)]
                codebooks.append(book)
                prices.append(price)
        self._state = by_level("codebook", codebooks) | by_level("prices", prices)
        return self

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Quantizer.restore`."""
        super().restore(tensors)
        for level, (book, price) in enumerate(zip(self.codebooks, self.prices, strict=True)):
            check_shape(f"prices.{level}", price, len(book))


def _in_balance(
    rows: Tensor, book: Tensor, price: Tensor, rounds: int, bar: "tqdm[Any]"
) -> tuple[Tensor, Tensor]:
    """Centroids and prices after `rounds` of assigning `rows` (M, D) in balance."""
    for _ in range(rounds):
        price = balance(squared_distances(rows, book.double()), price)
        book = means(rows, nearest_codes(rows, book, price), book)
        bar.update()
    return book, balance(squared_distances(rows, book.double()), price)


def balance(costs: Tensor, prices: Tensor) -> Tensor:
    """Prices (C,), all >= 0, at which each code is the cheapest for floor or ceil of M / C rows.

    `costs` is float64 (M, C), M >= C. Exact if no two rows tie; `prices` is a guess, and a better
    guess takes less time. Rows move along shortest paths between codes, the
    successive-shortest-paths method for transport problems: each assignment on the way is the
    cheapest for its own counts.
    """
    low, high = len(costs) // costs.shape[1], -(-len(costs) // costs.shape[1])

    def excess(guess: Tensor) -> int:
        counts = torch.bincount((costs + guess).argmin(1), minlength=costs.shape[1])
        return int((counts - high).clamp(min=0).sum() + (low - counts).clamp(min=0).sum())

    # Prices made for other centroids can be far too strong; weakened ones then start closer.
    start = min((prices * share for share in (1.0, 0.75, 0.5, 0.25, 0.0)), key=excess)
    moves = _Moves(costs.numpy(), start.numpy().copy())
    while (full := moves.counts > high).any():
        moves.along_path(full, moves.counts < high)
    while (empty := moves.counts < low).any():
        moves.along_path(moves.counts > low, empty)
    return torch.from_numpy(moves.untied_prices())


class _Moves:
    """The state of `balance`: each row's code, and what moving a row between codes costs.

    `least[a, b]` is the least loss, at current prices, of any row that moves from code a to b;
    `mover[a, b]` is that row. All losses are >= 0 as long as every row is at its cheapest code.
    """

    def __init__(self, costs: np.ndarray, prices: np.ndarray) -> None:
        self.costs, self.prices = costs, prices
        self.labels = (costs + prices).argmin(1)
        codes = costs.shape[1]
        self.counts = np.bincount(self.labels, minlength=codes)
        # Without the prices, which change with every path: they are added where needed.
        self.least = np.full((codes, codes), np.inf)
        self.mover = np.zeros((codes, codes), dtype=np.int64)
        for code in range(codes):
            self._refresh(code)

    def _refresh(self, code: int) -> None:
        rows = np.flatnonzero(self.labels == code)
        if not len(rows):
            self.least[code] = np.inf
            return
        losses = self.costs[rows] - self.costs[rows, code, None]  # (rows, C)
        best = losses.argmin(0)
        self.mover[code] = rows[best]
        self.least[code] = losses[best, np.arange(losses.shape[1])]

    def along_path(self, sources: np.ndarray, targets: np.ndarray) -> None:
        """Move one row from code to code along the cheapest path from a source to a target."""
        # Dijkstra's algorithm on a dense graph of C codes.
        distance = np.where(sources, 0.0, np.inf)
        parent = np.full(len(distance), -1)
        unvisited = np.ones(len(distance), dtype=bool)
        while True:
            code = int(np.where(unvisited, distance, np.inf).argmin())
            unvisited[code] = False
            if targets[code]:
                break
            step = self.least[code] + self.prices - self.prices[code]
            through = distance[code] + np.maximum(step, 0.0)  # below 0 by rounding only
            shorter = unvisited & (through < distance)
            distance[shorter] = through[shorter]
            parent[shorter] = code
        # At these prices the path's moves cost nothing and all others still cost >= 0.
        self.prices -= np.minimum(distance, distance[code])
        path = [code]
        while parent[path[-1]] >= 0:
            path.append(int(parent[path[-1]]))
        path.reverse()
        movers = [self.mover[a, b] for a, b in pairwise(path)]
        self.labels[movers] = path[1:]
        self.counts[path[0]] -= 1
        self.counts[path[-1]] += 1
        for changed in path:
            self._refresh(changed)

    def untied_prices(self) -> np.ndarray:
        """Prices for the present assignment that lie inside the set of all that support it."""
        # Those are p with p_a - p_b <= least[a, b]. Each column of the shortest paths' lengths is
        # an extreme solution, where some rows tie; their mean is tight only where all of them are.
        lengths = self.least + self.prices - self.prices[:, None]
        np.fill_diagonal(lengths, 0.0)
        for code in range(len(lengths)):
            np.minimum(lengths, lengths[:, code, None] + lengths[code], out=lengths)
        prices: np.ndarray = self.prices + lengths.mean(1)
        return prices - prices.min()
