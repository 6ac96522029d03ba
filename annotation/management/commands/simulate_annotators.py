"""Fill a study that is marked as simulated with answers by programs."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.simulation import simulate_annotators
from annotation.domain.studies import StudyError
from annotation.models import Study


class Command(BaseCommand):
    help = "Let simulated annotators answer a study marked as simulated; their answers are marked as such everywhere."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("study", help="the study's address, as in /studies/ADDRESS/")
        parser.add_argument("--limit", type=int, help="stop after so many answers")

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            raise CommandError(f"There is no study '{options['study']}'.")
        try:
            n_answers = simulate_annotators(study=study, limit=options["limit"])
        except StudyError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{n_answers} simulated answers given to '{study.name}'.")
