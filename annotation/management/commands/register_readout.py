"""Give a model scores of classes where it has no head for them: a linear probe, or class text embeddings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.recording import record_readout
from annotation.domain.storage import artifact_store, image_root
from annotation.models import ImageSet, VisionModel


class Command(BaseCommand):
    help = (
        "Register a readout of a vision model: a linear probe on [CLS; mean patch] fitted on a labeled image set "
        "(--probe), or one text embedding per class (--text-embeddings with --classes). The model's own head is "
        "registered with the model."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="the name of the vision model")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--probe", metavar="IMAGE_SET", help="fit a linear probe on the labels of this set")
        source.add_argument(
            "--text-embeddings", type=Path, metavar="FILE", help="a safetensors file with one tensor [class, width]"
        )
        parser.add_argument("--split", default="", help="for a probe: only images whose attribute `split` is this")
        parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one per line")
        parser.add_argument("--threads", type=int, default=2)

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.readouts import write_readout
        from workers.vision_model import load_vision_model

        row = find(VisionModel, options["model"], "vision model")
        image_set = find(ImageSet, options["probe"], "image set") if options["probe"] else None
        store = artifact_store()
        model = load_vision_model(store.open(row.digest, kind="vision-model"))
        try:
            readout = make_readout(model, image_set, options)
        except (ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        artifact = write_readout(store, model, readout, image_set=image_set.digest if image_set else None)
        recorded = record_readout(artifact, None)
        self.stdout.write(f"Readout '{recorded.name}' of '{row.name}' with {len(recorded.classes):,} classes.")
        self.stdout.write(f"Digest: {recorded.digest}")


def make_readout(model: Any, image_set: ImageSet | None, options: dict[str, Any]) -> Any:
    from workers.images import ImageSetReader
    from workers.readouts import fit_probe, read_text_embeddings, text_embeddings

    if image_set is None:
        if options["classes"] is None:
            raise ValueError("Text embeddings need --classes FILE with one class name per line.")
        names = [line.strip() for line in options["classes"].read_text().splitlines() if line.strip()]
        return text_embeddings(read_text_embeddings(options["text_embeddings"]), names, model)
    reader = ImageSetReader(artifact_store().open(image_set.digest, kind="image-set"), image_root(image_set))
    indices = reader.indices_where("split", options["split"]) if options["split"] else range(len(reader))
    labeled = [int(i) for i in indices if reader.label_indices[i] >= 0]
    return fit_probe(model, reader, labeled, n_threads=options["threads"])


def find(rows: Any, name: str, kind: str) -> Any:
    found = rows.objects.filter(name=name).first()
    if found is None:
        names = ", ".join(rows.objects.values_list("name", flat=True)) or "there are none yet"
        raise CommandError(f"There is no {kind} '{name}'; there are: {names}.")
    return found
