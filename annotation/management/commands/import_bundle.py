"""`import_bundle FILE --user NAME`: take in a study of another site, or answers that come home from one."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.bundle_files import ANSWERS_KIND, kind_of
from annotation.domain.bundles_received import import_bundle
from annotation.domain.bundles_returned import return_answers
from annotation.domain.errands import ErrandError
from annotation.models import User


class Command(BaseCommand):
    help = "Take in a study bundle of another site (it arrives paused), or the answers to a bundle made here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--user", required=True, help="the researcher who takes it in")
        parser.add_argument("--dry-run", action="store_true", help="answers only: check them and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None or not user.is_researcher:
            raise CommandError(f"There is no researcher '{options['user']}'.")
        if not options["file"].is_file():
            raise CommandError(f"There is no file {options['file']}.")
        try:
            if kind_of(options["file"]) == ANSWERS_KIND:
                self.stdout.write(self.taken_in(options["file"], user, is_dry_run=options["dry_run"]))
            else:
                study = import_bundle(path=options["file"], user=user)
                self.stdout.write(f"'{study.name}' is here, paused: /studies/{study.slug}/")
        except ErrandError as error:
            raise CommandError(str(error)) from error

    def taken_in(self, path: Path, user: User, *, is_dry_run: bool) -> str:
        report = return_answers(path=path, user=user, is_dry_run=is_dry_run)
        would = "would be" if is_dry_run else "are"
        told = f"{report['n_new']} answers {would} new in '{report['study']}', {report['n_known']} were there already."
        return " ".join([told, *(f"Line {one['line']}: {one['error']}" for one in report["errors"])])
