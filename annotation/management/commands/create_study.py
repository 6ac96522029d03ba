"""Make a draft of a study from a YAML file, and launch it if asked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError

from annotation.domain.launching import launch_study
from annotation.domain.studies import StudyError
from annotation.domain.study_file_checks import StudyFileError
from annotation.domain.study_files import create_study_from
from annotation.models import User
from config.wakeup import wake_workers


class Command(BaseCommand):
    help = (
        "Make a study from a YAML file (docs/guides/photographs.yaml is an example); with --launch, freeze and open it."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--user", required=True, help="the researcher it belongs to")
        parser.add_argument("--launch", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None or not user.is_researcher:
            raise CommandError(f"There is no researcher '{options['user']}'.")
        try:
            study = create_study_from(values=read_yaml(options["file"]), folder=options["file"].parent, user=user)
            self.stdout.write(f"Made the draft '{study.name}': /studies/{study.slug}/")
            if options["launch"]:
                run = launch_study(study=study, user=user)
                wake_workers(run.queue)
                self.stdout.write(f"Launched; run {run.pk} freezes what annotators will see.")
        except (StudyFileError, StudyError) as error:
            raise CommandError(str(error)) from error


def read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CommandError(f"There is no file {path}.")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise CommandError(f"{path.name} is not YAML{line}: {error.problem}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise CommandError(f"{path.name} must hold entries such as 'name: My study'.")
    return values
