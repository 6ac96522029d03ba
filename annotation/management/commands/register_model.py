"""Register a timm ViT by name: pretrained, from a checkpoint file, or untrained; its own head becomes a readout."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.recording import record_readout, record_vision_model
from annotation.domain.storage import artifact_store
from annotation.models import VisionModel


class Command(BaseCommand):
    help = (
        "Register a timm vision transformer. Weights come from timm (--pretrained), from a safetensors file "
        "(--checkpoint), or from a seed (neither). Preprocessing is the model's own unless overridden."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", help="the name of the model here")
        parser.add_argument("architecture", nargs="?", default="", help="timm's name, such as vit_base_patch16_224")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--pretrained", action="store_true", help="timm fetches its own weights")
        source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a safetensors file with timm's names")
        parser.add_argument("--seed", type=int, default=0, help="of an untrained model")
        parser.add_argument("--timm", default="{}", metavar="JSON", help='arguments for timm, as {"img_size": 64}')
        parser.add_argument(
            "--preprocessing", default="{}", metavar="JSON", help='overrides, as {"crop_mode": "squash"}'
        )
        parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one per line")

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.readouts import write_own_head
        from workers.vision_model import register_vision_model

        name = options["name"]
        if VisionModel.objects.filter(name=name).exists():
            raise CommandError(f"There is a vision model '{name}' already; choose another name.")
        store = artifact_store()
        try:
            artifact = register_vision_model(store, model_request(options))
        except (ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        known = VisionModel.objects.filter(digest=artifact.digest).first()
        if known is not None:
            raise CommandError(f"These very weights are registered already, as '{known.name}'.")
        model = record_vision_model(artifact, None, name=name)
        self.stdout.write(
            f"Registered '{model.name}': {model.architecture}, {model.n_blocks} blocks, width {model.d_model}, "
            f"{model.grid_height} x {model.grid_width} patches, {model.n_prefix_tokens} prefix tokens ({model.source})."
        )
        self.stdout.write(f"Digest: {model.digest}")
        head = write_own_head(store, artifact)
        if head is not None:
            readout = record_readout(head, None)
            self.stdout.write(f"Readout '{readout.name}' with {len(readout.classes):,} classes: {readout.digest}")


def model_request(options: dict[str, Any]) -> Any:
    from workers.vision_model import ModelRequest

    source = "pretrained" if options["pretrained"] else "checkpoint" if options["checkpoint"] else "untrained"
    classes = options["classes"].read_text().splitlines() if options["classes"] else ()
    return ModelRequest(
        architecture=options["architecture"],
        source=source,
        checkpoint=options["checkpoint"],
        seed=options["seed"],
        timm_kwargs=json_object("--timm", options["timm"]),
        preprocessing=json_object("--preprocessing", options["preprocessing"]),
        classes=[line.strip() for line in classes if line.strip()],
    )


def json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'{option} must be JSON, such as {{"size": 64}}: {error}') from error
    if not isinstance(value, dict):
        raise ValueError(f'{option} must be a JSON object, such as {{"size": 64}}.')
    return value
