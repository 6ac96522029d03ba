"""The chunks of evaluate-dictionary, each a function of the config and its payload that leaves one file behind.

`measure` reads activations of a range of images; `directions` compares decoder directions; `score_latents` gives the
monosemanticity of one hookpoint, once all images are measured. The altered passes are in evaluation_splice.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import image_activations
from workers.dictionaries.concept_recovery import ImageScores
from workers.dictionaries.geometry import nearest_across, nearest_others
from workers.dictionaries.monosemanticity import monosemanticity
from workers.dictionaries.quality import QualityAccumulator
from workers.dictionaries.sparse_coder import Codes
from workers.dictionaries.store import POSITIVE, Dictionary
from workers.images import ImageSetReader
from workers.stages.configs import EvaluateDictionaryConfig, require
from workers.stages.context import StageContext
from workers.stages.inputs import hookpoints_read, open_dictionary, open_images, open_model, require_fit
from workers.stages.memory import OutOfMemoryError, fits
from workers.vision_model import VisionModel

if TYPE_CHECKING:
    from workers.dictionaries.cross_layer import CrossLayerDictionary

CROSS_LAYER = "cross_layer_transcoder"
SUMS, MAXIMA = "sums.safetensors", "maxima.safetensors"
CONTRIBUTIONS, RETRIEVAL = "contributions.safetensors", "retrieval.safetensors"
DIRECTIONS, SCORES = "directions.safetensors", "monosemanticity.safetensors"
BATCH_BYTES = 256 << 20  # of activations that are in memory at once
FLOAT_BYTES = 4
MOST_AT_ONCE = 32


class Subject(NamedTuple):
    """What is evaluated on what."""

    dictionary: Dictionary
    model: VisionModel
    reader: ImageSetReader

    def batch_size(self, extra_widths: int = 0) -> int:
        """Images per forward pass: as many as the activations read leave room for; fixed for one dictionary."""
        widths = sum(self.model.width_of(name) for name in hookpoints_read([self.dictionary])) + extra_widths
        return max(1, min(MOST_AT_ONCE, BATCH_BYTES // (FLOAT_BYTES * self.model.n_tokens * widths)))


def open_subject(config: EvaluateDictionaryConfig, context: StageContext) -> Subject:
    """Raises ValueError where the dictionary does not fit the model it names."""
    dictionary = open_dictionary(config.dictionary, context)
    model = open_model(dictionary.description.vision_model, context)
    require_fit(dictionary, model)
    return Subject(dictionary, model, open_images(config.image_set, context))


def with_less_memory(act: Callable[[int], None], batch: int, log: Callable[[str], None]) -> None:
    """Call ``act`` with a number of images at once, and with half as many if memory runs out; then give up."""
    if fits(lambda: act(batch)):
        return
    half = batch // 2
    if half:
        log(f"Memory ran out with {batch} images at once: this chunk is done again with {half}.")
    if not half or not fits(lambda: act(half)):
        raise OutOfMemoryError(
            f"Memory ran out with {max(half, 1)} images at once. Evaluate where there is more of it, or a smaller "
            "dictionary."
        )


def require_finite(tokens: Tensor, what: str, hookpoint: str) -> None:
    """NaN and infinity would spoil every figure in silence."""
    if not bool(torch.isfinite(tokens).all()):
        raise ValueError(
            f"The {what} at {hookpoint} are NaN or infinite; the weights are damaged, or do not belong here."
        )


def spread_evenly(n_images: int, n_chosen: int) -> list[int]:
    """Images at even distances, because image sets are often sorted by class."""
    n = min(n_images, n_chosen)
    return [i * n_images // n for i in range(n)]


def measured_images(config: EvaluateDictionaryConfig, n_images: int) -> list[int]:
    return spread_evenly(n_images, config.max_images)


def spliced_images(config: EvaluateDictionaryConfig, n_images: int) -> list[int]:
    measured = measured_images(config, n_images)
    return [measured[place] for place in spread_evenly(len(measured), config.splice_images)]


def fresh_accumulators(subject: Subject, *, is_merging: bool = False) -> dict[str, QualityAccumulator]:
    """One for each hookpoint read, of what is written at the hookpoint that goes with it.

    To merge what others counted, the norms of decoder rows are not needed; for a CLT they take a while.
    """
    dictionary = subject.dictionary
    return {
        read: QualityAccumulator(
            d_model=subject.model.width_of(write),
            n_latents=dictionary.n_latents(read),
            n_prefix_tokens=subject.model.n_prefix_tokens,
            decoder_norms=None if is_merging else decoder_norms(dictionary, read),
            has_one_pole=dictionary.poles == (POSITIVE,),
        )
        for read, write in zip(dictionary.reads, dictionary.writes, strict=True)
    }


def decoder_norms(dictionary: Dictionary, read: str) -> Tensor:
    """How long the row is that each latent writes, over every place it writes at."""
    squares = [
        dictionary.decoder_directions(read, write).float().square().sum(1) for write in dictionary.writes_of(read)
    ]
    return torch.stack(squares).sum(0).sqrt()


def measure(config: EvaluateDictionaryConfig, payload: Mapping[str, Any], context: StageContext) -> None:
    """Sums over a range of images, their maxima where embeddings are given, and for a CLT its contributions."""
    subject = open_subject(config, context)
    with_less_memory(
        lambda batch: measure_in_batches(config, payload, context, subject, batch), subject.batch_size(), context.log
    )


def measure_in_batches(
    config: EvaluateDictionaryConfig, payload: Mapping[str, Any], context: StageContext, subject: Subject, batch: int
) -> None:
    dictionary = subject.dictionary
    chosen = measured_images(config, len(subject.reader))[payload["start"] : payload["stop"]]
    accumulators = fresh_accumulators(subject)
    cross_layer = fresh_cross_layer(subject)
    maxima = {read: ImageScores(len(chosen), dictionary.n_latents(read)) for read in dictionary.reads}
    done = 0
    for part in image_activations(
        subject.model, subject.reader, hookpoints_read([dictionary]), chosen, batch_size=batch,
        n_threads=context.n_threads,
    ):  # fmt: skip
        for read, write, codes, rebuilt in reconstructions(dictionary, part.activations):
            require_finite(part.activations[write], "activations", write)
            require_finite(rebuilt, "reconstructions", write)
            accumulators[read].update(part.activations[write], rebuilt, codes)
            if config.embeddings:
                maxima[read].update(codes, len(part.indices))
        for sums in cross_layer.values():
            sums.update(part.activations)
        done += len(part.indices)
        context.progress(done)
        context.raise_if_cancelled()
    save_named({read: sums.tensors() for read, sums in accumulators.items()}, context.chunk_folder / SUMS)
    if config.embeddings:
        save_file({read: scores.maxima for read, scores in maxima.items()}, context.chunk_folder / MAXIMA)
    for name, sums in cross_layer.items():
        save_file({key: one.contiguous() for key, one in sums.tensors().items()}, context.chunk_folder / name)


def reconstructions(
    dictionary: Dictionary, activations: Mapping[str, Tensor]
) -> Iterator[tuple[str, str, Codes, Tensor]]:
    """(read, write, codes read there, what is rebuilt where it goes), one at a time where no latent writes twice."""
    pairs = list(zip(dictionary.reads, dictionary.writes, strict=True))
    if all(len(dictionary.writes_of(read)) == 1 for read in dictionary.reads):
        for read, write in pairs:
            codes = dictionary.encode(read, activations[read].flatten(0, 1))
            yield read, write, codes, dictionary.decode({read: codes})[write].view_as(activations[write])
        return
    every = {read: dictionary.encode(read, activations[read].flatten(0, 1)) for read in dictionary.reads}
    rebuilt = dictionary.decode(every)
    for read, write in pairs:
        yield read, write, every[read], rebuilt[write].view_as(activations[write])


def fresh_cross_layer(subject: Subject) -> dict[str, Any]:
    """Sums that only a cross-layer transcoder has, by the file that keeps them; none for every other kind."""
    if subject.dictionary.kind != CROSS_LAYER:
        return {}
    from workers.dictionaries.cross_layer_quality import ContributionSums, RetrievalSums

    dictionary, n_prefix = cast("CrossLayerDictionary", subject.dictionary), subject.model.n_prefix_tokens
    return {CONTRIBUTIONS: ContributionSums(dictionary, n_prefix), RETRIEVAL: RetrievalSums(dictionary, n_prefix)}


def merged_cross_layer(subject: Subject, context: StageContext, name: str, n_measured: int) -> Any:
    """One of those over all images measured; None for every other kind."""
    merged = fresh_cross_layer(subject).get(name)
    if merged is None:
        return None
    for index in range(n_measured):
        part = fresh_cross_layer(subject)[name]
        part.restore(load_file(context.chunk(index) / name))
        merged.merge(part)
    return merged


def directions(config: EvaluateDictionaryConfig, payload: Mapping[str, Any], context: StageContext) -> None:
    """The nearest of a range of one hookpoint's directions, among the others there or at another hookpoint."""
    dictionary = open_dictionary(config.dictionary, context)
    first, second = payload["reads"]
    either_sign = dictionary.poles != (POSITIVE,)
    rows, columns = dictionary.decoder_directions(first).float(), dictionary.decoder_directions(second).float()
    start, stop = payload["start"], payload["stop"]
    if first == second:
        found = nearest_others(rows, start=start, stop=stop, either_sign=either_sign)
        tensors = {"rows.cosine": found.cosine, "rows.latent": found.latent.int()}
    else:
        both = nearest_across(rows[start:stop], columns, either_sign=either_sign)
        tensors = {
            "rows.cosine": both.rows.cosine, "rows.latent": both.rows.latent.int(),
            "columns.cosine": both.columns.cosine, "columns.latent": (both.columns.latent + start).int(),
        }  # fmt: skip
    save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, context.chunk_folder / DIRECTIONS)


def score_latents(config: EvaluateDictionaryConfig, payload: Mapping[str, Any], context: StageContext) -> None:
    """The monosemanticity of every latent that reads at one hookpoint, from the maxima of all images measured."""
    read = payload["read"]
    parts = []
    for index in range(payload["n_measured"]):
        with safe_open(context.chunk(index) / MAXIMA, framework="pt") as tensors:
            parts.append(tensors.get_tensor(read))
    scores = monosemanticity(torch.cat(parts), measured_embeddings(config, context))
    save_file({read: scores.contiguous()}, context.chunk_folder / SCORES)


def measured_embeddings(config: EvaluateDictionaryConfig, context: StageContext) -> Tensor:
    """One row per image measured; raises ConfigError where they are of other images, or by the model explained."""
    artifact = context.store.open(config.embeddings, kind="image-embeddings")
    facts = artifact.json("embeddings.json")
    require(
        facts["image_set"] == config.image_set,
        "The embeddings are of another image set; embed the images of the set to evaluate on.",
    )
    explained = context.store.open(config.dictionary, kind="dictionary").json("dictionary.json")["vision_model"]
    require(
        facts["vision_model"] != explained,
        "The embeddings are by the very model that the dictionary explains; embed the images with another one, whose "
        "judgement of what looks alike is its own.",
    )
    embeddings = load_file(artifact.path("embeddings.safetensors"))["embeddings"].float()
    return embeddings[measured_images(config, embeddings.shape[0])]


def save_named(tensors: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    """Tensors by hookpoint and name in one file."""
    flat = {f"{hookpoint}/{name}": tensor for hookpoint, named in tensors.items() for name, tensor in named.items()}
    save_file({name: tensor.contiguous() for name, tensor in flat.items()}, path)


def tensors_of(hookpoint: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{hookpoint}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
