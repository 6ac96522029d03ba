"""`prune_runs`: removes what failed and cancelled runs left unfinished; they can be retried, from the beginning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from annotation.domain.run_estimates import readable_bytes
from annotation.domain.run_folders import leftovers, prune_run, unknown_folders


class Command(BaseCommand):
    help = "Remove the working folders of failed and cancelled runs; no artefact is touched."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=float, default=7.0, help="only of runs that stopped so many days ago (default 7)"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] < 0:
            raise CommandError("--days must be 0 or more.")
        is_dry_run = options["dry_run"]
        n_bytes = 0
        for run, size in leftovers(before=timezone.now() - timedelta(days=options["days"])):
            if is_dry_run or prune_run(run=run):
                n_bytes += size
                self.stdout.write(f"Run {run.pk}, {run.state}: {readable_bytes(size)}")
        self.stdout.write(f"{readable_bytes(n_bytes)} {'would be' if is_dry_run else 'were'} freed.")
        for folder in unknown_folders():
            self.stdout.write(f"Left alone, of no run in this database: {folder}")
