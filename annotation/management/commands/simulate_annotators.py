"""Fill a study that is marked as simulated with answers by programs of known skill."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError

from annotation.domain.simulation import (
    DEFAULT_ANNOTATORS,
    SimulatedAnnotator,
    alike,
    annotators_from,
    simulate_annotators,
)
from annotation.domain.studies import StudyError
from annotation.models import Study

PROPERTIES = ("accuracy", "separation", "bias", "seconds", "lapse_rate", "error_rate")


class Command(BaseCommand):
    help = "Let simulated annotators answer a study marked as simulated; their answers are marked as such everywhere."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("study", help="the study's address, as in /studies/ADDRESS/")
        parser.add_argument("--limit", type=int, help="stop after so many answers")
        parser.add_argument("--annotators", type=Path, metavar="FILE", help="YAML: a list of name, accuracy, bias, ...")
        parser.add_argument("-n", type=int, help="so many annotators alike, with the properties below")
        parser.add_argument("--by-sight", action="store_true", help="these too rate what is in the pictures")
        for name in PROPERTIES:
            parser.add_argument(f"--{name.replace('_', '-')}", type=float)

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            raise CommandError(f"There is no study '{options['study']}'.")
        try:
            annotators = annotators_of(options)
            by_sight = options["by_sight"] or annotators is DEFAULT_ANNOTATORS
            n_answers = simulate_annotators(
                study=study, annotators=annotators, limit=options["limit"], by_sight=by_sight
            )
        except StudyError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{n_answers} simulated answers given to '{study.name}'.")


def annotators_of(options: dict[str, Any]) -> tuple[SimulatedAnnotator, ...]:
    if options["annotators"]:
        try:
            return tuple(annotators_from(yaml.safe_load(options["annotators"].read_text())))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise CommandError(f"{options['annotators']} cannot be read: {error}") from error
    properties = {name: options[name] for name in PROPERTIES if options[name] is not None}
    if options["n"] or properties:
        return tuple(alike(options["n"] or len(DEFAULT_ANNOTATORS), **properties))
    return DEFAULT_ANNOTATORS
