"""`export_bundle STUDY --out FILE`: a study for another site; of a study from there, its answers for the way back."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.bundles import export_bundle
from annotation.domain.bundles_answers import export_answers
from annotation.domain.errands import ErrandError
from annotation.models import Study


class Command(BaseCommand):
    help = "Write a launched study as a bundle for another site; of a received study, write its answers to send back."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the study's short name, as in its address")
        parser.add_argument("--out", type=Path, required=True, metavar="FILE")
        parser.add_argument(
            "--per-item", type=int, help="judgements wanted of every item; without it, those still open"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            raise CommandError(f"There is no study '{options['study']}'.")
        try:
            if study.origin == Study.Origin.BUNDLE:
                report = export_answers(study=study, path=options["out"])
                self.stdout.write(f"{report['n_answers']} answers in {options['out']}, for the site the study is from.")
            else:
                report = export_bundle(study=study, user=None, path=options["out"], per_item=options["per_item"])
                said = f"{report['n_items']} items, {report['n_judgements']} judgements wanted"
                self.stdout.write(f"{said}, {report['n_bytes']} bytes in {options['out']}.")
        except ErrandError as error:
            raise CommandError(str(error)) from error
