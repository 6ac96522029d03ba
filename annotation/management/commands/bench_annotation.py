"""Measure what annotators feel: claims and answers per second at a million slots, and the page itself in a browser."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from annotation.benchmarks.figures import Row, Target
from annotation.benchmarks.player_run import PlayerRun
from annotation.benchmarks.queue_rows import QueueScale
from annotation.benchmarks.queue_run import QueueRun
from annotation.demo.browser import NoBrowserError
from annotation.models import Study

QUICK = {"slots": 20_000, "seconds": 5.0, "answers": 20, "people": 1}


class Command(BaseCommand):
    help = "Measure queue and player on an empty database; ./run bench annotation does it on PostgreSQL and SQLite."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--quick", action="store_true", help="small: shows that it works, measures nothing")
        parser.add_argument("--slots", type=int, default=1_000_000)
        parser.add_argument("--annotators", type=int, default=32)
        parser.add_argument("--seconds", type=float, default=60.0, help="length of each measurement of the queue")
        parser.add_argument("--web-workers", type=int, default=0, help="processes of the web server")
        parser.add_argument("--answers", type=int, default=100, help="answers of each person in the browser")
        parser.add_argument("--people", type=int, default=3, help="people in the browser, one after the other")
        parser.add_argument("--only", choices=("queue", "player"))
        parser.add_argument("--output", help="write the figures to this JSON file")

    def handle(self, *args: Any, **options: Any) -> None:
        if Study.objects.exists():
            raise CommandError("This database has studies; measure on an empty one, as ./run bench annotation does.")
        given = options | (QUICK if options["quick"] else {})
        self.figures: dict[str, Row] = {}
        self.targets: list[Target] = []
        if given["only"] != "queue":
            self.player(given)
        if given["only"] != "player":
            self.queue(given)
        if given["output"]:
            facts = {"database": connection.vendor, "slots": given["slots"]}
            Path(given["output"]).write_text(json.dumps(facts | self.figures, indent=1) + "\n")
        self.verdict(is_binding=not given["quick"])

    def queue(self, given: dict[str, Any]) -> None:
        n_workers = given["web_workers"] or (2 if connection.vendor == "postgresql" else 1)
        scale = QueueScale(given["slots"], given["annotators"])
        run = QueueRun(scale, given["seconds"], n_workers, self.stdout.write)
        run.measure()
        self.figures |= run.figures
        self.targets += run.targets()

    def player(self, given: dict[str, Any]) -> None:
        run = PlayerRun(given["people"], given["answers"], self.stdout.write)
        try:
            run.measure()
        except NoBrowserError as error:
            raise CommandError(str(error)) from error
        for problem in run.problems:
            self.stderr.write(problem)
        self.figures |= run.figures
        self.targets += run.targets()

    def verdict(self, *, is_binding: bool) -> None:
        """A line per target; one that is missed ends with an error, unless the run was a quick one."""
        from workers.benchmarks.report import report

        for target in self.targets:
            name = f"{connection.vendor}: {target.name}"
            report(name=name, figure=target.figure, target=target.target, is_met=target.is_met)
        if is_binding and not all(target.is_met for target in self.targets):
            raise CommandError("A target was missed.")
