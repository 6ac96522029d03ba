"""`bench_coverage`: over simulated studies of each protocol, how often the 95 % interval covers the truth."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from analysis.benchmarks.coverage import HIGH, KINDS, LOW, N_RESAMPLES, N_STUDIES, Coverage, cover


class Command(BaseCommand):
    help = "Simulate studies of each protocol and count how often the 95 % interval covers the truth."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--protocol", choices=sorted(KINDS), help="only this one")
        parser.add_argument("--studies", type=int, default=N_STUDIES)

    def handle(self, *args: Any, **options: Any) -> None:
        n = options["studies"]
        names = [options["protocol"]] if options["protocol"] else list(KINDS)
        self.stdout.write(f"{n} simulated studies each, {N_RESAMPLES} resamples; coverage of the 95 % interval.")
        for name in names:
            started = time.perf_counter()
            found = cover(name, n)
            seconds = time.perf_counter() - started
            self.stdout.write(f"{name}: {KINDS[name].design}; {seconds:.0f} s")
            for coverage in found:
                show(coverage, is_full_size=n >= N_STUDIES)


def show(coverage: Coverage, *, is_full_size: bool) -> None:
    from workers.benchmarks.report import report

    what = (
        f"{coverage.protocol}, {coverage.quantity}: truth {coverage.truth:.3f}, mean {coverage.mean_value:.3f} "
        f"± {coverage.mean_half_width:.3f}"
    )
    is_met = coverage.is_met if is_full_size else None
    report(is_met=is_met, name=what, figure=f"{coverage.share:.4f}", target=f"{LOW:g} to {HIGH:g}")
