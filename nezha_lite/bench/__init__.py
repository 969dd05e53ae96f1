"""Benchmarks: decoding, verifiers, training. Never run inside a test for their figures.

Every comparison happens in one process on the same prompts, beams, precision and threads, after a
warm-up, with the device synchronised; percentiles are reported, and a ratio to the alternative from
the same run. Run them on an otherwise idle machine.
"""

from nezha_lite.bench.decode import DecodeBench, bench_decoding
from nezha_lite.bench.decoders import DECODERS
from nezha_lite.bench.timing import time_calls

__all__ = ["DECODERS", "DecodeBench", "bench_decoding", "time_calls"]
