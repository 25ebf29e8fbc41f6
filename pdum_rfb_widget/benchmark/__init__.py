"""Benchmark of speed, size and exactness on this machine: ``python -m pdum_rfb_widget.benchmark --help``.

Needs ``pip install "pdum-rfb-widget[benchmark]"``; only `benchmark_image` with its own pattern does without.
"""

from .cli import main
from .encode import BenchmarkResult, benchmark_image, format_table

__all__ = ["BenchmarkResult", "benchmark_image", "format_table", "main"]
