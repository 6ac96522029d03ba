"""Execute a stage here, without a broker, with a progress bar; its rows and artefacts are those of any other run."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.artifact_names import with_digests
from annotation.domain.runs import RunError, cancel_run, create_run, retry_run, run_progress
from annotation.models import Run
from workers.artifacts import ArtifactError
from workers.stages.configs import STAGES, ConfigError

QUEUE = "command"  # no worker serves it, so that only this process takes the chunks


class Command(BaseCommand):
    help = (
        "Execute a stage in this process, chunk by chunk, with a progress bar and without a broker. "
        "If it is interrupted, --resume RUN goes on from the last finished chunk."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("stage", nargs="?", choices=list(STAGES), help="what to execute")
        parser.add_argument(
            "--config", type=Path, help="a YAML file with the settings of the stage; artefacts by name or digest"
        )
        parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting, in YAML")
        parser.add_argument("--title", default="")
        parser.add_argument("--resume", type=int, metavar="RUN", help="go on with an unfinished run of this command")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run = self.resumed(options["resume"]) if options["resume"] else self.created(options)
        except (ConfigError, ArtifactError, RunError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Run {run.pk}: {run.title or run.stage}")
        for name in ("time", "memory", "disk"):
            self.stdout.write(f"  {name}: {run.estimate[name]['sentence']}")
        self.execute_chunks(run)
        run.refresh_from_db()
        if run.note:
            self.stdout.write(run.note)
        for digest in run.artifacts:
            self.stdout.write(f"Artefact: {digest}")

    def created(self, options: dict[str, Any]) -> Run:
        if not options["stage"]:
            raise CommandError(f"Name a stage: {', '.join(STAGES)}.")
        config = with_digests(read_config(options["config"], options["set"]))
        return create_run(stage=options["stage"], config=config, user=None, title=options["title"], queue=QUEUE)

    def resumed(self, pk: int) -> Run:
        run = Run.objects.filter(pk=pk, queue=QUEUE).first()
        if run is None:
            raise CommandError(f"There is no run {pk} of this command; runs of workers are retried on their page.")
        return retry_run(run=run) if run.state in {Run.State.FAILED, Run.State.CANCELLED} else run

    def execute_chunks(self, run: Run) -> None:
        from workers.stages.local import ProgressBar
        from workers.tasks import execute_next, is_fit_for_the_user

        bar = ProgressBar(run.title or run.stage)
        try:
            while not (run.is_over or Run.objects.get(pk=run.pk).is_over):
                if not execute_next(queue=run.queue, run=run):
                    time.sleep(1)  # the lease of a killed predecessor has yet to run out
                self.draw(bar, run)
        except Exception as error:
            if is_fit_for_the_user(error):
                raise CommandError(f"{error} Mend that, then: manage.py run_stage --resume {run.pk}") from error
            raise
        except KeyboardInterrupt:
            cancel_run(run=run)
            raise CommandError(f"Stopped. Go on with: manage.py run_stage --resume {run.pk}") from None
        finally:
            bar.close()

    def draw(self, bar: Any, run: Run) -> None:
        run.refresh_from_db()
        bar.n_units = run.n_units
        bar.progress(round(run_progress(run).share * run.n_units))


def read_config(path: Path | None, assignments: list[str]) -> dict[str, Any]:
    """The settings of a YAML file, then the single ones; raises ConfigError with a sentence."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text()) if path else {}
        if not isinstance(values, dict):
            raise ConfigError(f"The file {path} must hold settings, one 'name: value' per line.")
        for assignment in assignments:
            name, sign, value = assignment.partition("=")
            if not sign:
                raise ConfigError(f"'{assignment}' is no setting; write NAME=VALUE.")
            values[name] = yaml.safe_load(value)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"The config cannot be read: {error}") from error
    return values
