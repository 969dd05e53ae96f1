"""From the start of a process to its first list: `python tools/bench_start.py RUN --results FILE`.

Every figure comes from fresh processes: exported programs, the eager decoder, and the compiled one
with an empty compiler cache. All must return the same lists.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer

from nezha_lite.cli import run
from nezha_lite.cli.options import Results, keep
from nezha_lite.common.results import ResultRow
from nezha_lite.decoding.programs import ProgramShape, export_programs
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.training import read_training_record

CALLS = 200  # of the median list

CHILD = """
import json, sys, time
how = json.loads(sys.argv[1])
seconds = {}
def mark(name, since):
    seconds[name] = time.time() - since
import torch
mark("import_torch_s", how["started"])
from nezha_lite.decoding.recommender import Recommender
trained = Recommender.load(how["run"], programs=how["programs"])
if how["compile"]:
    from nezha_lite import CapturedDecoder, NezhaDecoder
    def waiting(*parts):
        return CapturedDecoder(NezhaDecoder(*parts), compile=True, background=False)
    trained = Recommender(trained.model, trained.semantic_ids, waiting)
mark("loaded_s", how["started"])
histories = how["histories"]
lists = [trained.recommend(histories[:1], beam=how["beam"])]
mark("first_list_s", how["started"])
begun = time.time()
lists.append(trained.recommend(histories[:2], beam=how["beam"]))
mark("next_shape_s", begun)
times = []
for _ in range(how["calls"]):
    begun = time.perf_counter()
    trained.recommend(histories[:1], beam=how["beam"])
    times.append(time.perf_counter() - begun)
seconds["list_ms"] = 1e3 * sorted(times)[len(times) // 2]
names = [[[entry.name for entry in row] for row in rows] for rows in lists]
print(json.dumps({"seconds": seconds, "lists": names}))
"""


def one_start(how: Mapping[str, Any], cache: str) -> dict[str, Any]:
    """Start a process, and what it measured."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
    told = json.dumps({**how, "started": time.time(), "calls": CALLS})
    done = subprocess.run(
        [sys.executable, "-c", CHILD, told],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


app = typer.Typer(add_completion=False)


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="folder written by `train`")],
    starts: Annotated[int, typer.Option(help="processes for each way but the compiled one")] = 5,
    beam: int = 50,
    results: Results = None,
) -> None:
    """Measure the start of a service by exported programs, by the eager decoder, and compiled."""
    trained = Recommender.load(folder)
    ids, longest = trained.semantic_ids, trained.model.config.max_items
    histories = [[(3 * row + item) % ids.n_items for item in range(longest)] for row in range(2)]
    rows, lists = [], []
    with TemporaryDirectory() as scratch:
        programs = Path(scratch) / "programs.pt2"
        begun = time.perf_counter()
        shapes = [ProgramShape(batch, longest, beam) for batch in (1, 2)]
        export_programs(trained.model, ids, programs, shapes)
        exporting = time.perf_counter() - begun
        for name, count in (("exported", starts), ("eager", starts), ("compiled", 1)):
            started = time.perf_counter()
            how = {
                "run": str(folder),
                "programs": str(programs) if name == "exported" else None,
                "compile": name == "compiled",
                "histories": histories,
                "beam": beam,
            }
            found = [one_start(how, f"{scratch}/cache") for _ in range(count)]
            lists += [each["lists"] for each in found]
            metrics = {
                key: median(each["seconds"][key] for each in found) for key in found[0]["seconds"]
            }
            if name == "exported":
                metrics |= {"export_s": exporting, "mib": programs.stat().st_size / 2**20}
            rows.append(
                ResultRow.measured(
                    device=torch.device("cpu"),
                    started=started,
                    digits=4,
                    kind="latency",
                    dataset=read_training_record(folder)["dataset"],
                    model=trained.model.describe(),
                    decoder=f"nezha-{name}",
                    verifier="prefix",
                    beam=beam,
                    metrics=metrics,
                    settings={
                        "starts": count,
                        "calls": CALLS,
                        "history": longest,
                        "threads": torch.get_num_threads(),
                        "equal_lists": all(each == lists[0] for each in lists),
                    },
                )
            )
    for row in rows:
        print(f"{row.decoder:16s} {row.metrics} equal lists: {row.settings['equal_lists']}")
    keep(results, rows)


def main() -> None:
    """Run the command."""
    run(app)


if __name__ == "__main__":
    main()
