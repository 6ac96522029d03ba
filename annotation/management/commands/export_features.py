"""`export_features STUDY`: what people decided about its features, as an artefact that debiasing and circuits read."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.decided_features import write_feature_set
from annotation.domain.studies import StudyError
from annotation.models import Study


class Command(BaseCommand):
    help = "Write what people decided about a study's features as an artefact of kind feature-set."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's short name, as in its address")

    def handle(self, *args: Any, study: str, **options: Any) -> None:
        found = Study.objects.filter(slug=study).first()
        if found is None:
            raise CommandError(f"There is no study '{study}'; the short name is the last part of its address.")
        try:
            artifact = write_feature_set(study=found)
        except StudyError as error:
            raise CommandError(str(error)) from error
        n_features = len(artifact.path("features.jsonl").read_text().splitlines())
        self.stdout.write(f"{n_features} features in {artifact.path('features.jsonl')}")
