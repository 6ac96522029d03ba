"""Try to tell the controls of a launched study from its features by the statistics of what is shown."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.blindness import TOLERANCE, BlindnessError, Figure, blindness
from annotation.models import Condition, Study


class Command(BaseCommand):
    help = (
        "Print how well a classifier tells each kind of control of a study from its features by counts, maps and "
        "pictures (area under the ROC curve, .5: not at all); fails where counts or density tell them."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("study", help="the address (slug) of a launched study")
        parser.add_argument("--seed", type=int, default=0, help="of the folds")
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            raise CommandError(f"There is no study '{options['study']}'.")
        try:
            figures = blindness(study, seed=options["seed"])
        except BlindnessError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps([figure._asdict() for figure in figures], indent=2))
        else:
            for line in table(figures):
                self.stdout.write(line)
        told = [figure for figure in figures if not figure.is_blind]
        if told:
            raise CommandError(
                f"{Condition(told[0].kind).label.capitalize()} can be told from features by {told[0].statistic}: "
                f"{told[0].area:.3f}, more than {TOLERANCE} from .5."
            )


def table(figures: list[Figure]) -> list[str]:
    rows = [f"{'control':<34} {'statistic':<16} {'AUROC':>6} {'SE':>6} {'controls':>9} {'features':>9}"]
    for one in figures:
        verdict = "" if not one.is_judged else "ok" if one.is_blind else "TOLD"
        if one.is_judged and one.is_blind and not one.can_tell:
            verdict = "ok, too few to see .05"
        rows.append(
            f"{Condition(one.kind).label:<34} {one.statistic:<16} {one.area:>6.3f} {one.error:>6.3f} "
            f"{one.n_controls:>9} {one.n_features:>9}  {verdict}"
        )
    return rows
