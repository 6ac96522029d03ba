"""Measure the queue: claims in SQL at an empty and at a nearly full study, and answers per second over HTTP."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from annotation.benchmarks.queue_claims import ClaimLoad, ClaimTimes, measure_claims, times_inside_postgresql
from annotation.benchmarks.queue_http import HttpResult, measure_http
from annotation.benchmarks.queue_rows import QueueScale, annotators, make_study, mark_done
from annotation.models import Study

PACE = 0.5  # 32 annotators who claim 5 items every half second are 320 items per second
CLAIM_MS, ANSWERS_PER_SECOND, NEXT_MS = 10, 150, 200  # the floors of design.md §12


class Command(BaseCommand):
    help = "Measure the queue on an empty database; ./run bench queue starts a throw-away one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slots", type=int, default=0, help="slots in the study (1,000,000; SQLite 20,000)")
        parser.add_argument("--annotators", type=int, default=32)
        parser.add_argument("--seconds", type=float, default=60.0, help="length of each measurement")
        parser.add_argument("--web-workers", type=int, default=0, help="processes of the web server")
        parser.add_argument("--output", help="write the figures to this JSON file")

    def handle(self, *args: Any, **options: Any) -> None:
        if Study.objects.exists():
            raise CommandError("This database has studies; measure on an empty one, as ./run bench queue does.")
        is_postgresql = connection.vendor == "postgresql"
        scale = QueueScale(options["slots"] or (1_000_000 if is_postgresql else 20_000), options["annotators"])
        self.figures: dict[str, Any] = {"database": connection.vendor, "slots": scale.n_slots}
        self.stdout.write(f"Making a study of {scale.n_slots:,} slots.")
        study = make_study(scale)
        if is_postgresql:
            self.claims(study, options["seconds"], "0 % done")
        self.http(study, options["seconds"], options["web_workers"] or (2 if is_postgresql else 1))
        if is_postgresql:
            mark_done(study, scale, share=0.95)
            self.claims(study, options["seconds"], "95 % done, one annotator has judged 99 % of the items")
        if options["output"]:
            Path(options["output"]).write_text(json.dumps(self.figures, indent=1) + "\n")
        self.verdict()

    def claims(self, study: Study, seconds: float, title: str) -> None:
        users = tuple(user.pk for user in annotators(study))
        inside = percentiles(times_inside_postgresql(study, users), "ms")
        self.figures[f"first look inside PostgreSQL, {title}"] = inside
        self.stdout.write(f"First look of a claim of 5 inside PostgreSQL, alone, {title}: {sentence(inside)}")
        for pace, name in ((PACE, "paced"), (0.0, "closed loop")):
            times = measure_claims(ClaimLoad(study.pk, users, seconds, pace))
            row = self.claim_row(times, users[0], seconds)
            self.figures[f"claims, {title}, {name}"] = row
            self.stdout.write(
                f"Claims of 5 as {len(users)} clients see their statements, {title}, {name}: {sentence(row)}"
            )

    def claim_row(self, times: ClaimTimes, heavy: int, seconds: float) -> dict[str, float]:
        everybody = [ms for one in times.milliseconds.values() for ms in one]
        given = [slot for one in times.slots.values() for slot in one]
        return {
            **percentiles(everybody, "ms in SQL"),
            "heavy annotator p95 ms": percentile(times.milliseconds[heavy], 95),
            "claims per second": round(len(everybody) / seconds, 1),
            "empty claims": times.n_empty,
            "slots given twice": len(given) - len(set(given)),
        }

    def http(self, study: Study, seconds: float, n_workers: int) -> None:
        result = measure_http(study, annotators(study), seconds=seconds, n_workers=n_workers, n_threads=4)
        row = http_row(result)
        self.figures["http, closed loop"] = row
        self.stdout.write(f"HTTP, closed loop: {sentence(row)}")

    def verdict(self) -> None:
        """One line per target of design.md §12; a target that is missed ends with an error.

        The claim is judged as the clients see it while all work at their pace, which is never below the time in SQL.
        """
        from workers.benchmarks.report import report

        http = self.figures["http, closed loop"]
        paced = {
            name: row for name, row in self.figures.items() if name.startswith("claims") and name.endswith("paced")
        }
        n_wrong = sum(http[name] for name in ("over-assigned", "repeats", "lost", "server errors"))
        n_wrong += sum(row["slots given twice"] for row in paced.values())
        targets = [
            (f"p95 of {name}", f"{row['p95 ms in SQL']} ms", row["p95 ms in SQL"] <= CLAIM_MS, f"<= {CLAIM_MS} ms")
            for name, row in paced.items()
        ]
        rate, slowest = http["answers per second"], http["next p95 ms"]
        targets += [
            ("answers per second", f"{rate}", rate >= ANSWERS_PER_SECOND, f">= {ANSWERS_PER_SECOND}"),
            ("next item, p95", f"{slowest} ms", slowest <= NEXT_MS, f"<= {NEXT_MS} ms"),
            ("over-assigned, repeats, lost, server errors", f"{n_wrong}", n_wrong == 0, "0"),
        ]
        for name, figure, is_met, target in targets:
            report(name=name, figure=figure, target=target, is_met=is_met)
        if not all(is_met for _, _, is_met, _ in targets):
            raise CommandError("A target was missed.")


def http_row(result: HttpResult) -> dict[str, float]:
    return {
        "answers per second": round(result.answers_per_second, 1),
        **{f"next {name}": value for name, value in percentiles(result.next_ms, "ms").items()},
        **{f"submit {name}": value for name, value in percentiles(result.submit_ms, "ms").items()},
        "accepted": result.n_accepted, "over-assigned": result.n_over_assigned, "repeats": result.n_repeats,
        "lost": result.n_lost, "server errors": result.n_server_errors,
    }  # fmt: skip


def percentiles(values: Sequence[float], unit: str) -> dict[str, float]:
    return {f"p{share} {unit}": percentile(values, share) for share in (50, 95, 99)}


def percentile(values: Sequence[float], share: int) -> float:
    """The smallest value that at least this share of the values does not exceed; 0 without values."""
    ordered = sorted(values)
    return round(ordered[max(0, -(-len(ordered) * share // 100) - 1)], 2) if ordered else 0.0


def sentence(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in row.items())
