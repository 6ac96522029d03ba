"""`bench_analysis`: export and report over N answers, in seconds and in memory (design.md §12).

Run it as `./run bench analysis`, on a throw-away database: it fills the database it finds with a million answers.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from analysis.benchmarks.throughput import Measurement, make_study, measure
from annotation.models import Study

N_ANSWERS = 1_000_000
MAX_SECONDS = 60.0
MAX_GROWTH = 1.25
"""Memory is flat when ten times the answers take at most a quarter more."""


class Command(BaseCommand):
    help = "Measure exports and the report; run it as './run bench analysis', on a throw-away database."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--answers", type=int, default=N_ANSWERS)
        parser.add_argument("--formats", nargs="*", default=["csv", "parquet"], help="none after it: the report alone")
        parser.add_argument("--report", metavar="STUDY", help="only compute the report of this study (for measuring)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["report"]:
            compute_report(options["report"])
            return
        n = options["answers"]
        small, full = make_study("bench-tenth", n // 10), make_study("bench-full", n)
        self.is_full_size = n >= N_ANSWERS
        with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as folder:
            for file_format in options["formats"]:
                export = ["--format", file_format, "--out", str(Path(folder) / file_format)]
                tenth = measure(["export_study", small.slug, *export])
                self.show(
                    f"{file_format} export of {n:,} answers", tenth, measure(["export_study", full.slug, *export])
                )
            tenth = measure(["bench_analysis", "--report", small.slug])
            self.show(f"report over {n:,} answers", tenth, measure(["bench_analysis", "--report", full.slug]))
            for file_format in options["formats"][:1]:
                again = ["recompute_report", str(Path(folder) / file_format), "--include-simulated"]
                self.line(f"report recomputed from {file_format}", measure(again).seconds, MAX_SECONDS, "s")

    def show(self, name: str, tenth: Measurement, full: Measurement) -> None:
        self.line(name, full.seconds, MAX_SECONDS, "s")
        growth = full.peak_bytes / tenth.peak_bytes
        sizes = f"{tenth.peak_bytes / 2**20:.0f} MB for a tenth, {full.peak_bytes / 2**20:.0f} MB for all"
        self.line(f"{name}, growth of memory ({sizes})", growth, MAX_GROWTH, "times")

    def line(self, name: str, figure: float, target: float, unit: str) -> None:
        from workers.benchmarks.report import report

        is_met = figure <= target if self.is_full_size else None
        report(is_met=is_met, name=name, figure=f"{figure:.2f} {unit}", target=f"<= {target:g} {unit}")


def compute_report(slug: str) -> None:
    from analysis.domain.report import report_of_study

    report_of_study(Study.objects.get(slug=slug), include_simulated=True)
