"""Prices that make "take the cheapest" a balanced assignment: the dual of optimal transport.

Each of M rows takes the code of least cost plus price. At the right prices every code is taken
equally often, and no assignment with equal counts costs less in sum: that is linear-programming
duality. Since the prices do all the work, the assignment stays a plain function of a row's costs,
so that rows which were not there when the prices were found can be assigned as well.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def balance(costs: Tensor, prices: Tensor) -> Tensor:
    """Prices (C,), all >= 0, at which "cheapest first" gives each code floor or ceil of M / C rows.

    `costs` is float64 (M, C), M >= C. Exact if no two rows tie; `prices` is a guess, and the better
    it is, the sooner this ends. Rows are moved along shortest paths between codes, the
    successive-shortest-paths method for transport problems, which keeps each assignment on the way
    the cheapest for its own counts.
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
    """The state of `balance`: who has which code, and what moving a row between codes would cost.

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
