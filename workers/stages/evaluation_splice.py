"""The altered passes of evaluate-dictionary: chunks over images, and what they come to once all are done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from workers.dictionaries.quality import token_means
from workers.dictionaries.splice import (
    CLEAN,
    TOGETHER,
    Splicer,
    SpliceSums,
    n_passes,
    outcome_of,
    passes_of,
    splice_scores,
)
from workers.dictionaries.store import Dictionary
from workers.images import ImageSetReader, image_batches
from workers.readouts import Readout, has_own_head, load_readout, own_head
from workers.stages.configs import ConfigError, EvaluateDictionaryConfig
from workers.stages.context import StageContext
from workers.stages.evaluation_chunks import (
    CONTRIBUTIONS,
    CROSS_LAYER,
    SUMS,
    Subject,
    merged_cross_layer,
    open_subject,
    spliced_images,
    with_less_memory,
)
from workers.vision_model import VisionModel

if TYPE_CHECKING:
    from workers.dictionaries.cross_layer import CrossLayerDictionary

PASSES = "passes.json"
CLT_PASSES = "cross_layer"  # keys of a CLT's own passes begin so


@dataclass
class SpliceRun:
    """What the altered passes of a chunk share, and their sums by (write or 'together', pass)."""

    subject: Subject
    readout: Readout | None
    means: Mapping[str, Tensor]
    contributions: dict[str, Any] | None
    sums: dict[str, SpliceSums] = field(default_factory=dict)

    def take(self, images: Float[Tensor, "image 3 h w"], labels: Int[Tensor, " image"]) -> None:
        """Every altered pass of one batch."""
        model, dictionary = self.subject.model, self.subject.dictionary
        splicer = Splicer(model, dictionary, images)
        clean = outcome_of(model, self.readout, splicer.clean.final)
        self.at(CLEAN).update(clean, clean, labels)
        for where, name, final in passes_of(splicer, self.means):
            self.at(f"{where}/{name}").update(outcome_of(model, self.readout, final), clean, labels)
        if self.contributions is not None:
            from workers.dictionaries.cross_layer_quality import altered_passes

            for key, final in altered_passes(
                cast("CrossLayerDictionary", dictionary), model, images, self.contributions
            ):
                self.at(f"{CLT_PASSES}/{key}").update(outcome_of(model, self.readout, final), clean, labels)

    def at(self, key: str) -> SpliceSums:
        return self.sums.setdefault(key, SpliceSums())


def run_splice(config: EvaluateDictionaryConfig, payload: Mapping[str, Any], context: StageContext) -> None:
    """Losses of every altered pass over a range of the images spliced."""
    subject = open_subject(config, context)
    readout = readout_of(config, subject.model, context)
    chosen = spliced_images(config, len(subject.reader))[payload["start"] : payload["stop"]]
    labels = labels_of(subject.reader, readout)[chosen]
    n_measured = payload["n_measured"]
    contributions = merged_cross_layer(subject, context, CONTRIBUTIONS, n_measured)
    means = means_by_write(subject, context, n_measured)

    def splice_images(batch: int) -> None:
        run = SpliceRun(subject, readout, means, contributions and contributions.finish())
        splice_in_batches(run, chosen, labels, payload, context, batch)

    batch = subject.batch_size(extra_widths=subject.model.n_blocks * subject.model.d_model)
    with_less_memory(splice_images, batch, context.log)


def splice_in_batches(
    run: SpliceRun,
    chosen: list[int],
    labels: Int[Tensor, " n"],
    payload: Mapping[str, Any],
    context: StageContext,
    batch: int,
) -> None:
    subject = run.subject
    done = 0
    for images in image_batches(subject.reader, subject.model.transform, chosen, batch, context.n_threads):
        run.take(images.to(subject.model.device), labels[done : done + len(images)])
        done += len(images)
        context.progress(done * payload["units_per_image"])
        context.raise_if_cancelled()
    record = {key: sums.to_json() for key, sums in run.sums.items()}
    (context.chunk_folder / PASSES).write_text(json.dumps(record))


def n_altered(dictionary: Dictionary) -> int:
    """How many altered passes an image takes."""
    if dictionary.kind != CROSS_LAYER:
        return n_passes(dictionary)
    from workers.dictionaries.cross_layer_quality import n_altered_passes

    return n_passes(dictionary) + n_altered_passes(cast("CrossLayerDictionary", dictionary))


def readout_of(config: EvaluateDictionaryConfig, model: VisionModel, context: StageContext) -> Readout | None:
    """The one asked for, else the model's own head, else none; raises ValueError for one of another model."""
    if not config.readout:
        return own_head(model) if has_own_head(model) else None
    artifact = context.store.open(config.readout, kind="readout")
    if artifact.json("readout.json")["vision_model"] != model.digest:
        raise ConfigError("The readout belongs to another vision model than the dictionary; choose one of the same.")
    return load_readout(artifact)


def labels_of(reader: ImageSetReader, readout: Readout | None) -> Int[Tensor, " n_images"]:
    """The readout's class of each image, matched by name; −1 where it has no such class."""
    known = {name: index for index, name in enumerate(readout.classes)} if readout else {}
    by_class = torch.tensor([*(known.get(name, -1) for name in reader.classes), -1])
    labels: Tensor = by_class[torch.from_numpy(reader.label_indices).long()]  # an image without label has index −1
    return labels


def means_by_write(
    subject: Subject, context: StageContext, n_measured: int
) -> dict[str, Float[Tensor, "n_groups width"]]:
    """By hookpoint written, the mean activation of each prefix token and of the patches, over all images measured."""
    means = {}
    for read, write in zip(subject.dictionary.reads, subject.dictionary.writes, strict=True):
        sums, n_patches = torch.zeros(1), torch.zeros(())
        for index in range(n_measured):
            with safe_open(context.chunk(index) / SUMS, framework="pt") as tensors:
                sums = sums + tensors.get_tensor(f"{read}/group_sums")
                n_patches = n_patches + tensors.get_tensor(f"{read}/n_patches")
        means[write] = token_means(sums, float(n_patches), subject.model.n_patches)
    return means


def splice_facts(context: StageContext) -> dict[str, dict[str, Any]]:
    """By hookpoint written, 'together' and 'cross_layer': the passes and their scores; empty where none was run."""
    sums: dict[str, SpliceSums] = {}
    for index in range(context.n_chunks):
        path = context.chunk(index) / PASSES
        for key, record in (json.loads(path.read_text()) if path.is_file() else {}).items():
            part = SpliceSums()
            part.restore(record)
            sums.setdefault(key, SpliceSums()).merge(part)
    if not sums:
        return {}
    clean = sums.pop(CLEAN).finish()
    places: dict[str, dict[str, Any]] = {}
    for key, total in sums.items():
        where, name = key.split("/", maxsplit=1)
        places.setdefault(where, {CLEAN: clean})[name] = total.finish()
    return {
        where: {"passes": passes} if where == CLT_PASSES else {"passes": passes, "scores": splice_scores(passes)}
        for where, passes in places.items()
    }


__all__ = ["CLT_PASSES", "TOGETHER", "n_altered", "run_splice", "splice_facts"]
