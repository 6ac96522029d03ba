"""`export_study STUDY --format csv|jsonl|parquet --out FOLDER`: every stored answer as a file with its data card."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.export_writers import WRITERS
from annotation.domain.exports import export_study
from annotation.domain.unblinding import unblinding_of
from annotation.models import Study


class Command(BaseCommand):
    help = "Export every stored answer of a study, with a data card."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's short name, as in its address")
        parser.add_argument("--format", choices=sorted(WRITERS), default="csv")
        parser.add_argument("--after", type=int, default=0, help="only answers after the cursor of an earlier export")
        parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            known = ", ".join(Study.objects.values_list("slug", flat=True)[:10]) or "none yet"
            raise CommandError(f"There is no study '{options['study']}'; there is: {known}.")
        result = export_study(
            study=study, file_format=options["format"], folder=options["out"], after=options["after"]
        )  # fmt: skip
        self.stdout.write(f"{result.n_rows} answers in {result.folder / result.data.name}, sha256 {result.data.sha256}")
        self.stdout.write(f"To go on from here: --after {result.last}")
        if unblinding_of(study) is None:
            self.stdout.write("The study is blind: condition, dictionary and block are left out.")
