"""Import a folder of images: verify every file, then register the whole set at once."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from annotation.domain.image_sets import ImageSetError, ImageSetFacts, register_image_set, require_free_name
from annotation.domain.storage import artifact_store
from annotation.models import ImageSet


class Command(BaseCommand):
    help = (
        "Import a folder of images: class subfolders, an ILSVRC layout, or a metadata file with a row per image "
        "(path, label, mask, and any attributes). Files stay where they are. Nothing is half-imported: a second try "
        "goes on where the first was stopped."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", help="the name of the new image set")
        parser.add_argument("folder", type=Path)
        parser.add_argument("--metadata", type=Path, help="a .csv or .jsonl file that names the images")
        parser.add_argument("--skip-bad", action="store_true", help="leave out files that cannot be read, and say so")
        parser.add_argument("--licence", default="", help="the licence of the images, in words")
        parser.add_argument("--allow-redistribution", action="store_true", help="exports may contain the pixels")
        parser.add_argument("--visibility", default="signed-in", choices=ImageSet.Visibility.values)
        parser.add_argument("--description", default="")
        parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.image_scan import scan_folder
        from workers.images import ImageImportError, write_image_set

        root: Path = options["folder"].resolve()
        try:
            facts = ImageSetFacts(
                name=options["name"],
                licence=options["licence"],
                visibility=options["visibility"],
                allows_redistribution=options["allow_redistribution"],
                description=options["description"],
            )
            require_free_name(facts.name)
            with ImportBar(f"Reading {root.name}") as bar:
                scan = scan_folder(
                    root,
                    metadata=options["metadata"],
                    skip_bad=options["skip_bad"],
                    cache_path=cache_path(root),
                    progress=bar,
                    n_threads=options["threads"],
                )
            artifact = write_image_set(
                artifact_store(), scan, name=facts.name, licence=facts.licence, visibility=facts.visibility
            )
            image_set = register_image_set(artifact=artifact, root=root, facts=facts)
        except (ImageImportError, ImageSetError) as error:
            raise CommandError(str(error)) from error
        for sentence in scan.skipped:
            self.stderr.write(f"Left out: {sentence}")
        skipped = f", {len(scan.skipped):,} left out" if scan.skipped else ""
        classes = f", {len(image_set.classes)} classes" if image_set.classes else ""
        self.stdout.write(f"Imported {image_set.n_images:,} images as '{image_set.name}'{classes}{skipped}.")
        self.stdout.write(f"Digest: {image_set.digest}")


class ImportBar:
    """The progress bar of a scan, called with (done, total) after each file."""

    def __init__(self, title: str) -> None:
        from workers.stages.local import ProgressBar

        self.bar = ProgressBar(title)

    def __call__(self, n_done: int, n_total: int) -> None:
        self.bar.n_units = n_total
        self.bar.progress(n_done)

    def __enter__(self) -> ImportBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def cache_path(root: Path) -> Path:
    """Where the hashes of verified files are remembered, so that a stopped import goes on."""
    folder = Path(settings.DATA_ROOT) / "imports"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}.jsonl"
