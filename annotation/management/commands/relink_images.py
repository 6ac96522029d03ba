"""Tell where the files of an image set are now, after comparing their hashes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.image_sets import relink_image_set
from annotation.domain.storage import artifact_store
from annotation.models import ImageSet
from workers.artifacts import ArtifactError


class Command(BaseCommand):
    help = "Tell where the files of an image set are now; every file is compared with the hash it was imported with."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", help="the name of the image set")
        parser.add_argument("folder", type=Path, help="the folder that holds the files now")
        parser.add_argument("--host", default="", help="only for the host of this name (as `hostname` prints it)")
        parser.add_argument("--sample", type=int, help="compare so many files only")

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.images import ImageImportError, check_root

        image_set = ImageSet.objects.filter(name=options["name"]).first()
        if image_set is None:
            names = ", ".join(ImageSet.objects.values_list("name", flat=True)) or "there are none yet"
            raise CommandError(f"There is no image set '{options['name']}'; the sets are: {names}.")
        if options["sample"] is not None and options["sample"] < 1:
            raise CommandError("--sample must be at least 1: without a look at the files any folder would do.")
        root: Path = options["folder"].resolve()
        try:
            n_compared = check_root(artifact_store().open(image_set.digest), root, options["sample"])
        except (ImageImportError, ArtifactError) as error:
            raise CommandError(f"{error} Nothing was changed.") from error
        relink_image_set(image_set=image_set, root=root, host=options["host"])
        where = f"on the host {options['host']}" if options["host"] else "on every host without a folder of its own"
        self.stdout.write(f"'{image_set.name}' is at {root} {where}; {n_compared:,} files compared.")
