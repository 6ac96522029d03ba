"""Build the demo step by step; each step that is done already is passed over, so a stopped build goes on.

Generated images are written as files, imported, and taken through the same runs that any images take: dictionaries at
all blocks, their controls, quality, exemplars, and three studies, one of them filled by simulated annotators.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command

from annotation.demo.accounts import create_demo_users, researcher
from annotation.demo.runs import Say, start_run, wait_for
from annotation.demo.studies import build_studies
from annotation.models import Dictionary, ImageSet, Run, VisionModel

WEIGHTS = Path(settings.BASE_DIR) / "workers" / "synthetic" / "weights" / "shapes_vit.safetensors"
TRAIN_SET, TEST_SET, MODEL, SAE = "shapes-train", "shapes-test", "shapes-vit", "shapes-sae"
N_TRAIN, N_TEST = 4000, 2000
LICENCE = "CC0-1.0 (generated)"
CONTROL_KINDS = ("random_directions", "residual_basis", "untrained_dictionary")
N_CONTROL_TOKENS, N_EVALUATED, N_SPLICED = 40_000, 800, 60
# 8 M activations over the six blocks, a sixth of them each.
DICTIONARY_SETTINGS = {"n_latents": 512, "k": 16, "n_tokens": 1_335_296, "batch_tokens": 4096, "learning_rate": 2e-3}


def build_demo(say: Say, *, n_tokens: int | None = None) -> None:
    """Everything the demo shows; takes some minutes the first time and a moment afterwards."""
    say("People")
    create_demo_users()
    say("Images: shapes whose class, color, texture, size, place and background are known")
    import_shapes(TRAIN_SET, "train", N_TRAIN)
    import_shapes(TEST_SET, "test", N_TEST)
    say("Vision model: a small ViT trained on them")
    register_shapes_model()
    say("Dictionary: TopK sparse autoencoders at every block")
    train_dictionary(say, n_tokens)
    say("Controls, quality and exemplars")
    collect(say)
    say("Studies")
    build_studies(say, Dictionary.objects.get(name=SAE))


def import_shapes(name: str, split: str, n_images: int) -> None:
    if ImageSet.objects.filter(name=name).exists():
        return
    folder = Path(settings.DATA_ROOT) / "images" / name
    counts = {"train": ["--train", str(n_images), "--test", "0"], "test": ["--train", "0", "--test", str(n_images)]}
    command = [sys.executable, "-m", "workers.synthetic.shapes_world", str(folder), *counts[split]]
    subprocess.run(command, check=True, cwd=settings.BASE_DIR, stdout=subprocess.DEVNULL)
    call_command(
        "import_images", name, str(folder), metadata=folder / "metadata.csv", licence=LICENCE,
        allow_redistribution=True, visibility="public",
        description="Shapes world: generated shapes on grounds that go with the class, as a cue that may mislead.",
    )  # fmt: skip


def register_shapes_model() -> None:
    if VisionModel.objects.filter(name=MODEL).exists():
        return
    made = json.loads(WEIGHTS.with_suffix(".json").read_text())
    classes = Path(settings.DATA_ROOT) / "classes.txt"
    classes.write_text("\n".join(made["classes"]))
    call_command(
        "register_model", MODEL, made["architecture"], checkpoint=WEIGHTS, classes=classes,
        timm=json.dumps(made["timm_kwargs"]), preprocessing=json.dumps(made["preprocessing"]),
    )  # fmt: skip


def train_dictionary(say: Say, n_tokens: int | None) -> None:
    if Dictionary.objects.filter(name=SAE).exists():
        return
    model = VisionModel.objects.get(name=MODEL)
    config: dict[str, Any] = DICTIONARY_SETTINGS | {
        "name": SAE,
        "image_set": ImageSet.objects.get(name=TRAIN_SET).digest,
        "vision_model": model.digest,
        "hookpoints": [f"blocks.{block}" for block in range(model.n_blocks)],
    }
    if n_tokens is not None:
        config["n_tokens"] = n_tokens
    wait_for(resumed_or_started("train-dictionary", config, "TopK SAEs at all blocks of the shapes ViT"), say)


def collect(say: Say) -> None:
    """Controls one after another, then one pass for the exemplars of all of them, then quality."""
    dictionary = Dictionary.objects.get(name=SAE)
    if is_collected(dictionary):
        return
    for run in [start_control(dictionary, kind) for kind in CONTROL_KINDS]:
        wait_for(run, say)
    every = [dictionary, *dictionary.controls.all()]
    test_set = ImageSet.objects.get(name=TEST_SET).digest
    exemplars = {
        "image_set": test_set,
        "dictionaries": [one.digest for one in every],
        "readout": dictionary.vision_model.readouts.get().digest,
    }
    runs = [resumed_or_started("collect-exemplars", exemplars, "exemplars of the dictionary and its controls")]
    for one in every:
        sizes = {"max_images": N_EVALUATED, "splice_images": N_SPLICED}
        config = {"dictionary": one.digest, "image_set": test_set, **sizes}
        runs.append(resumed_or_started("evaluate-dictionary", config, f"quality of {one.name}"))
    for run in runs:
        wait_for(run, say)


def is_collected(dictionary: Dictionary) -> bool:
    every = [dictionary, *dictionary.controls.all()]
    is_whole = all(one.quality and one.exemplar_sets.exists() for one in every)
    return is_whole and len(every) == 1 + len(CONTROL_KINDS)


def start_control(dictionary: Dictionary, kind: str) -> Run:
    words = kind.replace("_", " ")
    config = {
        "dictionary": dictionary.digest,
        "image_set": dictionary.image_set.digest,
        "kind": kind,
        "name": f"shapes: {words}",
        "n_tokens": N_CONTROL_TOKENS,
    }
    return resumed_or_started("make-control", config, f"control: {words}")


def resumed_or_started(stage: str, config: dict[str, Any], title: str) -> Run:
    """The unfinished run of a build that was stopped, or a new one."""
    unfinished = Run.objects.filter(stage=stage, title=title, state__in=[Run.State.QUEUED, Run.State.RUNNING]).first()
    return unfinished or start_run(stage, config, title=title, user=researcher())
