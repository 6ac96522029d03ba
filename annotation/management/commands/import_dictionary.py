"""Import a dictionary of another library here: the stage import-dictionary without a broker, with a progress bar."""

from __future__ import annotations

import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from annotation.domain.artifact_names import with_digests
from annotation.domain.runs import create_run
from annotation.management.commands.run_stage import QUEUE
from annotation.management.commands.run_stage import Command as RunStage
from annotation.models import Dictionary, Run
from workers.stages.configs.importing import IMPORT_FORMATS

STAGE = "import-dictionary"


class Command(RunStage):
    help = (
        "Import a dictionary that another library trained. It must lie in the folder for imports "
        "(VITRINE_IMPORT_ROOT). Its reconstruction is checked on activations of the model, and one that the check "
        "calls wrong is refused unless --force is given."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("path", nargs="?", default="", help="file or folder, relative to the folder for imports")
        parser.add_argument("--model", default="", help="name or digest of the vision model")
        parser.add_argument("--image-set", default="", help="name or digest of the image set that checks it")
        parser.add_argument("--format", default="auto", choices=IMPORT_FORMATS)
        parser.add_argument("--hookpoint", action="append", default=[], help="one for each coder, in their order")
        parser.add_argument("-k", type=int, default=0, help="latents per token, where the files do not say it")
        parser.add_argument("--name", default="", help="what the dictionary will be called")
        parser.add_argument("--images", type=int, default=24, help="how many images check it")
        parser.add_argument("--force", action="store_true", help="import it even if the check calls it wrong")
        parser.add_argument("--resume", type=int, metavar="RUN", help="go on with an unfinished run of this command")

    def created(self, options: dict[str, Any]) -> Run:
        if not (options["path"] and options["model"] and options["image_set"]):
            raise CommandError(
                "Name the files, a vision model and an image set: import_dictionary PATH --model NAME --image-set "
                f"NAME. Paths are relative to {settings.IMPORT_ROOT}."
            )
        config = {
            "path": options["path"], "vision_model": options["model"], "image_set": options["image_set"],
            "format": options["format"], "hookpoints": options["hookpoint"], "k": options["k"],
            "name": options["name"], "n_images": options["images"], "is_forced": options["force"],
        }  # fmt: skip
        return create_run(stage=STAGE, config=with_digests(config), user=None, queue=QUEUE)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **{**options, "dry_run": False})
        run = Run.objects.filter(stage=STAGE, queue=QUEUE).latest("id")
        for shown in Dictionary.objects.filter(digest__in=run.artifacts):
            self.stdout.write(f"Dictionary: {shown.name} ({shown.kind}, {', '.join(shown.hookpoints)})")
