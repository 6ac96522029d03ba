"""`import_answers FILE --name STUDY --protocol NAME --user NAME`: earlier answers as a study of their own."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.errands import ErrandError
from annotation.domain.import_tables import read_table
from annotation.domain.importing_answers import draft_of, import_answers
from annotation.domain.protocols import PROTOCOLS
from annotation.models import Study, User


class Command(BaseCommand):
    help = "Store earlier answers (an export, or any CSV or JSONL with named columns) in a study marked as imported."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--name", default="", help="of the study to be made")
        parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="rate-describe-categorise")
        parser.add_argument("--study", default="", help="instead: the short name of a study made by an earlier import")
        parser.add_argument("--user", required=True)
        parser.add_argument("--map", action="append", default=[], metavar="OURS=THEIRS", help="a column's name there")
        parser.add_argument("--dry-run", action="store_true", help="check the file and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None or not options["file"].is_file():
            missing = "user" if user is None else "file"
            raise CommandError(f"There is no {missing} '{options[missing]}'.")
        path = options["file"]
        try:
            report = import_answers(
                study=self.study_of(options), user=user, lines=read_table(path, path.name),
                mapping=mapping_of(options["map"]), is_dry_run=options["dry_run"],
            )  # fmt: skip
        except ErrandError as error:
            raise CommandError(str(error)) from error
        for fault in report["errors"]:
            self.stderr.write(f"line {fault['line']}: {fault['error']}")
        said = f"{report['n_new']} new answers to {report['n_items']} items by {report['n_annotators']} annotators"
        self.stdout.write(f"{said}, {report['n_known']} known, {report['n_errors']} errors.")

    def study_of(self, options: dict[str, Any]) -> Study:
        if not options["study"]:
            return draft_of(options)
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            raise CommandError(f"There is no study '{options['study']}'.")
        return study


def mapping_of(pairs: list[str]) -> dict[str, str]:
    if not all("=" in pair for pair in pairs):
        raise CommandError("A mapping is written OURS=THEIRS, such as --map annotator=rater.")
    return dict(pair.split("=", 1) for pair in pairs)
