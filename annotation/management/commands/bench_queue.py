"""Measure the queue: claims in SQL at an empty and at a nearly full study, and answers per second over HTTP."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from annotation.benchmarks.queue_rows import QueueScale
from annotation.benchmarks.queue_run import QueueRun
from annotation.models import Study


class Command(BaseCommand):
    help = "Measure the queue on an empty database; ./run bench queue starts a throw-away one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slots", type=int, default=0, help="slots in the study (1,000,000; SQLite 20,000)")
        parser.add_argument("--annotators", type=int, default=32)
        parser.add_argument("--seconds", type=float, default=60.0, help="length of each measurement")
        parser.add_argument("--web-workers", type=int, default=0, help="processes of the web server")
        parser.add_argument("--output", help="write the figures to this JSON file")

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.benchmarks.report import report

        if Study.objects.exists():
            raise CommandError("This database has studies; measure on an empty one, as ./run bench queue does.")
        is_postgresql = connection.vendor == "postgresql"
        scale = QueueScale(options["slots"] or (1_000_000 if is_postgresql else 20_000), options["annotators"])
        n_workers = options["web_workers"] or (2 if is_postgresql else 1)
        run = QueueRun(scale, options["seconds"], n_workers, self.stdout.write)
        run.measure()
        if options["output"]:
            facts = {"database": connection.vendor, "slots": scale.n_slots}
            Path(options["output"]).write_text(json.dumps(facts | run.figures, indent=1) + "\n")
        for target in run.targets():
            report(name=target.name, figure=target.figure, target=target.target, is_met=target.is_met)
        if not all(target.is_met for target in run.targets()):
            raise CommandError("A target was missed.")
