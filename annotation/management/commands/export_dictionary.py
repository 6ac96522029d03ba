"""Write a dictionary as another library's files: SAELens, or circuit-tracer's transcoders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.artifact_names import dictionary_digest, digest_of, image_set_digest
from annotation.domain.storage import artifact_store, image_root
from annotation.models import ImageSet
from workers.artifacts import ArtifactError
from workers.stages.configs import ConfigError

CALIBRATION_TOKENS = 16_384


class Command(BaseCommand):
    help = (
        "Write a dictionary as files of another library. Where the format knows no TopK, thresholds are calibrated on "
        "activations, and what that costs is printed."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("dictionary", help="name or digest of the dictionary")
        parser.add_argument("--format", required=True, choices=("saelens", "circuit-tracer"))
        parser.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="a folder that is not there yet")
        parser.add_argument("--image-set", default="", help="images to calibrate on; the dictionary's own otherwise")
        parser.add_argument("--images", type=int, default=128, help="how many images to calibrate on")

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.dictionaries.formats.exporting import export_dictionary
        from workers.dictionaries.store import load_dictionary

        try:
            store = artifact_store()
            artifact = store.open(digest_of(options["dictionary"], dictionary_digest), kind="dictionary")
            dictionary = load_dictionary(artifact)
            wanted = digest_of(options["image_set"], image_set_digest) or dictionary.description.image_set
            exported = export_dictionary(
                dictionary, options["format"], options["to"], self.reader(dictionary, wanted, options["images"])
            )
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise CommandError(f"The dictionary could not be exported to {options['to']} ({problem}).") from error
        except (ArtifactError, ConfigError, ValueError) as error:
            raise CommandError(str(error)) from error
        for loss in exported.losses:
            self.stdout.write(loss.sentence())
        self.stdout.write(f"Written for {options['format']}: {exported.folder}")

    def reader(self, dictionary: Any, digest: str, n_images: int) -> Any:
        """Activations at some hookpoints, read when they are asked for."""
        from workers.dictionaries.formats.sampling import sample_activations
        from workers.images import ImageSetReader
        from workers.vision_model import load_vision_model

        def read(hookpoints: list[str]) -> Any:
            store = artifact_store()
            model = load_vision_model(store.open(dictionary.description.vision_model, kind="vision-model"))
            row = ImageSet.objects.get(digest=digest)
            images = ImageSetReader(store.open(digest, kind="image-set"), image_root(row))
            return sample_activations(model, images, hookpoints, n_images=n_images, n_tokens=CALIBRATION_TOKENS)

        return read
