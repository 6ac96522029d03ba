"""`import_items STUDY FILE --user NAME`: the features a draft shows, and their explanations, from a table."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.errands import ErrandError
from annotation.domain.import_tables import read_table
from annotation.domain.importing_items import import_items
from annotation.models import Study, User


class Command(BaseCommand):
    help = "Set the list of features of a draft study (dictionary, hookpoint, latent[, pole, text]) from CSV or JSONL."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="the draft's short name, as in its address")
        parser.add_argument("file", type=Path)
        parser.add_argument("--user", required=True)
        parser.add_argument("--dry-run", action="store_true", help="check the file and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        user = User.objects.filter(username=options["user"]).first()
        if study is None or user is None or not options["file"].is_file():
            missing = "study" if study is None else "user" if user is None else "file"
            raise CommandError(f"There is no {missing} '{options[missing]}'.")
        path, is_dry_run = options["file"], options["dry_run"]
        try:
            report = import_items(
                study=study, user=user, lines=read_table(path, path.name), name=path.name, is_dry_run=is_dry_run
            )
        except ErrandError as error:
            raise CommandError(str(error)) from error
        for fault in report["errors"]:
            self.stderr.write(f"line {fault['line']}: {fault['error']}")
        self.stdout.write(f"{report['n_features']} features, {report['n_texts']} texts, {report['n_errors']} errors.")
