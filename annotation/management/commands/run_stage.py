"""Execute a stage here, without a broker, with a progress bar; its rows and artefacts are those of any other run."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.db.models import Sum

from annotation.domain.artifact_names import with_digests
from annotation.domain.run_estimates import Amount, estimate, readable_bytes, readable_seconds
from annotation.domain.runs import RunError, cancel_run, create_run, retry_run, run_progress
from annotation.domain.storage import artifact_store, image_root
from annotation.models import Chunk, ImageSet, Run
from workers.artifacts import ArtifactError
from workers.stages.configs import (
    STAGES,
    ConfigError,
    TrainDictionaryConfig,
    config_from_dict,
    refuse_without_effect,
)

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
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="start nothing, but say what time, memory and disk it would take; train-dictionary measures for half "
            "a minute, the other stages are estimated",
        )
        parser.add_argument("--resume", type=int, metavar="RUN", help="go on with an unfinished run of this command")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self.say_cost(options)
            return
        try:
            run = self.resumed(options["resume"]) if options["resume"] else self.created(options)
        except (ConfigError, ArtifactError, RunError) as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            self.tell(error)
            raise
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
        config = asked_config(options)
        return create_run(stage=options["stage"], config=config, user=None, title=options["title"], queue=QUEUE)

    def say_cost(self, options: dict[str, Any]) -> None:
        """Time, memory and disk of a run that is not started."""
        from workers.stages.memory import OutOfMemoryError

        try:
            config = config_from_dict(options["stage"] or "", asked_config(options))
            guessed = estimate(options["stage"], config)
            if isinstance(config, TrainDictionaryConfig):
                amounts = measured_cost(config)
            else:
                amounts = [guessed.time, guessed.memory, guessed.disk]
        except (ArtifactError, OutOfMemoryError, ValueError) as error:
            raise CommandError(str(error)) from error
        for name, amount in zip(("time", "memory", "disk"), amounts, strict=True):
            self.stdout.write(f"{name}: {amount.sentence}")

    def resumed(self, pk: int) -> Run:
        run = Run.objects.filter(pk=pk, queue=QUEUE).first()
        if run is None:
            raise CommandError(f"There is no run {pk} of this command; runs of workers are retried on their page.")
        return retry_run(run=run) if run.state in {Run.State.FAILED, Run.State.CANCELLED} else run

    def execute_chunks(self, run: Run) -> None:
        from workers.stages.local import ProgressBar
        from workers.tasks import execute_next

        bar = ProgressBar(run.title or run.stage)
        bar.n_earlier = units_of_finished_chunks(run)
        try:
            while not (run.is_over or Run.objects.get(pk=run.pk).is_over):
                if not execute_next(queue=run.queue, run=run):
                    time.sleep(1)  # the lease of a killed predecessor has yet to run out
                self.draw(bar, run)
        except Exception as error:
            self.tell(error, run)
            raise
        except KeyboardInterrupt:
            cancel_run(run=run)
            raise CommandError(f"Stopped. Go on with: manage.py run_stage --resume {run.pk}") from None
        finally:
            bar.close()

    def tell(self, error: Exception, run: Run | None = None) -> None:
        """Raise CommandError with the error's sentence if it has one, and with how to go on where that can help."""
        from workers.tasks import can_be_resumed, is_fit_for_the_user, sentence_for

        if is_fit_for_the_user(error):
            hint = f" Mend that, then: manage.py run_stage --resume {run.pk}" if run and can_be_resumed(error) else ""
            raise CommandError(sentence_for(error) + hint) from error

    def draw(self, bar: Any, run: Run) -> None:
        run.refresh_from_db()
        bar.n_units = run.n_units
        bar.progress(round(run_progress(run).share * run.n_units))


def units_of_finished_chunks(run: Run) -> int:
    return run.chunks.filter(state=Chunk.State.DONE).aggregate(n=Sum("n_units"))["n"] or 0


def asked_config(options: dict[str, Any]) -> dict[str, Any]:
    if not options["stage"]:
        raise CommandError(f"Name a stage: {', '.join(STAGES)}.")
    values = with_digests(read_config(options["config"], options["set"]))
    config_from_dict(options["stage"], values)  # what is wrong is said before what is idle
    refuse_without_effect(options["stage"], values)
    return values


def measured_cost(config: TrainDictionaryConfig) -> list[Amount]:
    """Time, memory and disk of a training by a probe on this machine; nothing of it is left."""
    from workers.stages.context import StageContext, use_threads
    from workers.stages.probe import probe_training

    use_threads(settings.TORCH_THREADS)
    with tempfile.TemporaryDirectory(dir=settings.ARTIFACT_ROOT, prefix="probe-") as folder:
        context = StageContext(
            store=artifact_store(),
            run_folder=Path(folder),
            chunk_folder=Path(folder),
            image_roots=lambda digest: image_root(ImageSet.objects.get(digest=digest)),
            n_threads=settings.TORCH_THREADS,
            chunk_seconds=settings.CHUNK_SECONDS,
        )
        found = probe_training(config, context)
    n_tokens, where = f"{config.n_tokens:,} tokens", "on the GPU" if found.is_gpu_memory else "by this process"
    return [
        Amount(
            found.seconds,
            f"About {readable_seconds(found.seconds)} for {n_tokens} at {config.n_tokens / found.seconds:,.0f} per "
            f"second, {found.reading_share:.0%} of it reading images; measured over {found.rates.n_images:,} images "
            f"and {found.rates.n_steps:,} steps on this machine.",
        ),
        Amount(found.memory_bytes, f"About {readable_bytes(found.memory_bytes)} held {where}."),
        Amount(
            found.disk_bytes,
            f"About {readable_bytes(found.disk_bytes)} while it runs; {readable_bytes(found.kept_bytes)} stay.",
        ),
    ]


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
