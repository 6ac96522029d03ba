"""`recompute_report EXPORT`: the figures of a report again, from exported raw answers alone."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from analysis.domain.answers import collect
from analysis.domain.export_reader import ExportReadError, rows_of_export, subject_of_export
from analysis.domain.report import Report, figures_of, make_report
from analysis.plots import describe
from annotation.domain.protocols import PROTOCOLS


class Command(BaseCommand):
    help = "Print the figures of a report, computed from an export (its folder or its file of annotations)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("export", type=Path)
        parser.add_argument("--include-simulated", action="store_true", help="as on the page of a simulated study")
        parser.add_argument("--json", action="store_true", help="one JSON object per figure")
        parser.add_argument("--protocol", default="", choices=sorted(PROTOCOLS), help="where no card.json tells it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = recompute(options["export"], options["protocol"], options["include_simulated"])
        except ExportReadError as error:
            raise CommandError(str(error)) from error
        for level, group, name, figure in figures_of(report):
            if options["json"]:
                line = json.dumps({"level": level, "group": group, "name": name} | figure._asdict())
            else:
                line = describe(figure)
            self.stdout.write(line)
        self.stdout.write(tally_line(report) if not options["json"] else json.dumps({"tally": report.tally._asdict()}))


def recompute(export: Path, protocol: str, include_simulated: bool) -> Report:
    subject = subject_of_export(export, protocol)
    rows = rows_of_export(export, subject.protocol)
    answers = collect(rows, protocol=subject.protocol, options=subject.options, include_simulated=include_simulated)
    return make_report(answers, subject, include_simulated=include_simulated)


def tally_line(report: Report) -> str:
    tally = report.tally
    excluded = ", ".join(f"{n} {reason}" for reason, n in tally.excluded.items()) or "0"
    unscored = f", {tally.n_unscored} without a right answer" if tally.n_unscored else ""
    return (
        f"{tally.n_used} of {tally.n_rows} answers used ({tally.n_used_simulated} simulated); left out: "
        f"{tally.n_revised} revised, {tally.n_late_extra} late extras, {tally.n_repeats} repeats, "
        f"{tally.n_simulated_left_out} simulated{unscored}; excluded: {excluded}."
    )
