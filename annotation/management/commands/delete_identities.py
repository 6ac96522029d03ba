"""`delete_identities`: deletes the outside identities whose retention period is over, in every study; run it daily."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from annotation.domain.retention import delete_due_identities, due_identities
from annotation.models import Study


class Command(BaseCommand):
    help = "Delete outside identities (Prolific IDs, e-mail addresses) whose retention period is over."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say how many are due, and delete none")

    def handle(self, *args: Any, **options: Any) -> None:
        for study in Study.objects.filter(external_identities__isnull=False).distinct().order_by("pk"):
            n_due = len(due_identities(study)) if options["dry_run"] else delete_due_identities(study=study)
            if n_due:
                self.stdout.write(f"{study.slug}: {n_due} {'due' if options['dry_run'] else 'deleted'}")
