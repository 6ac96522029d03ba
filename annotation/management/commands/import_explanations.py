"""Import a set of explanations from CSV or JSONL, or take the labels of a closed and unblinded study."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.explanations import ExplanationError, explanations_from_labels, import_explanations
from annotation.models import ExplanationSet, Study, User


class Command(BaseCommand):
    help = (
        "Import explanations from a CSV or JSONL file (columns feature, or dictionary, hookpoint and latent; and "
        "text), or from the labels of a study."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", help="what the set will be called")
        parser.add_argument("file", type=Path, nargs="?")
        parser.add_argument("--source", default="", help="which model, method or people wrote them")
        parser.add_argument("--study", help="the address (slug) of a study whose labels are taken instead of a file")
        parser.add_argument("--user", help="the researcher it belongs to")

    def handle(self, *args: Any, **options: Any) -> None:
        user = None
        if options["user"]:
            user = User.objects.filter(username=options["user"]).first()
            if user is None or not user.is_researcher:
                raise CommandError(f"There is no researcher '{options['user']}'.")
        if (options["file"] is None) == (options["study"] is None):
            raise CommandError("Give either a file or --study.")
        try:
            made = from_study(options, user) if options["study"] else from_file(options, user)
        except ExplanationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Made the set '{made.name}' of {made.explanations.count()} explanations.")


def from_file(options: dict[str, Any], user: User | None) -> ExplanationSet:
    path: Path = options["file"]
    if not path.is_file():
        raise CommandError(f"There is no file {path}.")
    return import_explanations(
        name=options["name"], source=options["source"], content=path.read_bytes(), file_name=path.name, user=user
    )


def from_study(options: dict[str, Any], user: User | None) -> ExplanationSet:
    study = Study.objects.filter(slug=options["study"]).first()
    if study is None:
        raise CommandError(f"There is no study '{options['study']}'.")
    return explanations_from_labels(study=study, name=options["name"], user=user)
