"""What a run will cost before it is started: time, memory and disk, each as a number and a sentence saying why.

Time comes from the rates of earlier runs of the stage on this site, else from a stated guess. Memory and disk come from
the sizes of what is kept. Neither torch nor the files of an artefact are needed, but for the length of a freeze plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.db.models import Sum
from django.utils.translation import gettext

from annotation.domain.storage import artifact_store
from annotation.domain.training_work import hookpoint_width, trained_weights, work_per_token
from annotation.models import Dictionary, ImageSet, Run, VisionModel
from workers.artifacts import ArtifactError
from workers.stages.configs import (
    STAGES,
    AlignDictionariesConfig,
    CollectExemplarsConfig,
    ConfigError,
    EmbedImagesConfig,
    EvaluateDictionaryConfig,
    FreezeStimuliConfig,
    ImportDictionaryConfig,
    MakeControlConfig,
    ReadFeedForwardConfig,
    StageConfig,
    TrainDictionaryConfig,
    TrainModelConfig,
    config_from_dict,
)
from workers.stages.configs.importing import files_of, import_source

FLOAT, HALF = 4, 2  # bytes
TORCH = 800 * 1024**2  # resident after importing torch and timm (docs/benchmarks.md)
ADAM_COPIES = 4  # weights, gradient and two moments
MAPS_PER_LATENT = 24 + 4 * 4  # top images and samples over the activation range
MAPS_MEANWHILE = 24 + 7 * 4  # as long as exemplars are collected: a reservoir for each half octave
STATES_MEANWHILE = 2 * 4  # on the disk at once: of each lane of chunks the last and the one before
DEFAULT_PATCHES = 196
DEFAULT_WIDTH, DEFAULT_BLOCKS = 768, 12
DEFAULT_K = 32
GUESSED_RATES = {  # units per second on two CPU cores, for a small ViT on 64-pixel images
    "train-model": 700.0,
    "read-feed-forward": 10.0,
    "import-dictionary": 20.0,
    "make-control": 50_000.0,
    "collect-exemplars": 150.0,
    "evaluate-dictionary": 150.0,
    "embed-images": 200.0,
    "align-dictionaries": 2000.0,
    "freeze-stimuli": 10.0,
}
GUESSED_WORK = 4.7e10  # products per second of a training, likewise
N_RUNS_MEASURED = 5
HOURS_OF_YEAR = 365 * 24
MIXED_BATCHES, BLOCK_BYTES = 8, 1 << 30  # of activations in the mixing buffer of a training (workers/activations.py)


@dataclass(frozen=True)
class Amount:
    value: float
    sentence: str


@dataclass(frozen=True)
class Estimate:
    """Seconds, bytes of memory, bytes of disk."""

    n_units: int
    time: Amount
    memory: Amount
    disk: Amount

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sizes:
    """Units of work, bytes in memory beside torch, bytes kept, bytes needed meanwhile, and what fills them."""

    n_units: int
    memory: float
    kept: float
    meanwhile: float
    what: str


def estimate(stage: str, config: StageConfig) -> Estimate:
    sizes = SIZES.get(type(config), unknown_sizes)(config)
    memory = TORCH + sizes.memory
    disk = sizes.kept + sizes.meanwhile
    return Estimate(
        n_units=sizes.n_units,
        time=time_needed(stage, config, sizes.n_units),
        memory=Amount(
            memory,
            gettext("About %(size)s: %(what)s, and torch itself.")
            % {"size": readable_bytes(memory), "what": sizes.what},
        ),
        disk=Amount(
            disk,
            gettext("About %(size)s while it runs, of which %(kept)s stay.")
            % {"size": readable_bytes(disk), "kept": readable_bytes(sizes.kept)},
        ),
    )


def time_needed(stage: str, config: StageConfig, n_units: int) -> Amount:
    unit = STAGES[stage].unit
    if isinstance(config, TrainDictionaryConfig):
        work = training_work(config)
        measured, n_runs = measured_training_work()
        rate, guess = (measured / work if measured else None), GUESSED_WORK / work
    else:
        rate, n_runs = measured_rate(stage)
        guess = GUESSED_RATES.get(stage, 100.0)
    if rate is None:
        rate = guess
        why = gettext(
            "at %(rate)s %(unit)s per second, a guess for two CPU cores: no run of this stage has finished here yet"
        ) % {"rate": f"{rate:,.0f}", "unit": unit}
    else:
        runs = gettext("the last run") if n_runs == 1 else gettext("the last %(n_runs)s runs") % {"n_runs": n_runs}
        why = gettext("at %(rate)s %(unit)s per second, measured in %(runs)s of this stage here") % {
            "rate": f"{rate:,.0f}",
            "unit": unit,
            "runs": runs,
        }
    seconds = n_units / rate
    return Amount(
        seconds,
        gettext("About %(time)s for %(n_units)s %(unit)s, %(why)s.")
        % {"time": readable_seconds(seconds), "n_units": f"{n_units:,}", "unit": unit, "why": why},
    )


def measured_rate(stage: str) -> tuple[float | None, int]:
    """Units per second over the last finished runs of a stage, and how many runs those are."""
    last = Run.objects.filter(stage=stage, state=Run.State.DONE, busy_seconds__gt=0).order_by("-id")
    ids = list(last.values_list("id", flat=True)[:N_RUNS_MEASURED])
    total = Run.objects.filter(id__in=ids).aggregate(units=Sum("n_units"), seconds=Sum("busy_seconds"))
    return (total["units"] / total["seconds"] if total["units"] else None), len(ids)


def measured_training_work() -> tuple[float | None, int]:
    """Products per second over the last finished trainings, whatever their sizes, and how many trainings those are."""
    last = Run.objects.filter(stage="train-dictionary", state=Run.State.DONE, busy_seconds__gt=0).order_by("-id")
    work = seconds = 0.0
    runs = list(last[:N_RUNS_MEASURED])
    for run in runs:
        config = config_from_dict(run.stage, run.config)
        assert isinstance(config, TrainDictionaryConfig), config
        work += run.n_units * training_work(config)
        seconds += run.busy_seconds
    return (work / seconds if work else None), len(runs)


def training_work(config: TrainDictionaryConfig) -> float:
    model = VisionModel.objects.filter(digest=config.vision_model).first()
    return work_per_token(config, model_shape(model)[0], model.n_blocks if model else DEFAULT_BLOCKS)


def n_images(digest: str) -> int:
    return ImageSet.objects.filter(digest=digest).values_list("n_images", flat=True).first() or 0


def model_shape(model: VisionModel | None) -> tuple[int, int, int]:
    """Width, patches and tokens per image; those of a ViT-B/16 where the model is not registered."""
    if model is None:
        return DEFAULT_WIDTH, DEFAULT_PATCHES, DEFAULT_PATCHES + 1
    n_patches = model.grid_height * model.grid_width
    return model.d_model, n_patches, n_patches + model.n_prefix_tokens


def model_bytes(model: VisionModel | None) -> float:
    """A ViT block has 12 d^2 weights."""
    width, _, _ = model_shape(model)
    n_blocks = model.n_blocks if model else DEFAULT_BLOCKS
    return FLOAT * 12.0 * width**2 * n_blocks


def train_model_sizes(config: TrainModelConfig) -> Sizes:
    weights = FLOAT * 12.0 * config.width**2 * config.depth
    pixels = 3.0 * config.image_size**2 * n_images(config.image_set)
    n_units = config.n_epochs * n_images(config.image_set)
    memory = weights * ADAM_COPIES + pixels
    return Sizes(n_units, memory, weights, 2 * weights * ADAM_COPIES, gettext("weights, optimizer and decoded images"))


def train_dictionary_sizes(config: TrainDictionaryConfig) -> Sizes:
    model = VisionModel.objects.filter(digest=config.vision_model).first()
    width, _, _ = model_shape(model)
    weights = FLOAT * sum(trained_weights(one, width) for one in config.dictionaries())
    token = FLOAT * float(sum(hookpoint_width(name, width) for name in config.hookpoints_read()))
    buffer = min(MIXED_BATCHES * config.batch_tokens * token, max(BLOCK_BYTES, config.batch_tokens * token))
    memory = weights * ADAM_COPIES + buffer + 4 * config.batch_tokens * token + model_bytes(model)
    checkpoints = 2 * (ADAM_COPIES - 1) * weights  # gradients are not saved; one is taken up while one is written
    return Sizes(config.n_tokens, memory, weights, checkpoints, gettext("sparse coders, optimizer and activations"))


def dictionary_sizes(digests: tuple[str, ...]) -> tuple[list[Dictionary], float, int]:
    """The dictionaries, the bytes of their weights and the number of their latents."""
    found = list(Dictionary.objects.filter(digest__in=digests).select_related("vision_model"))
    n_latents = sum(int(row.config.get("n_latents", row.vision_model.d_model)) * len(row.hookpoints) for row in found)
    width = max((row.vision_model.d_model for row in found), default=DEFAULT_WIDTH)
    return found, FLOAT * 2.0 * n_latents * width, n_latents


def feed_forward_sizes(config: ReadFeedForwardConfig) -> Sizes:
    """Value vectors of four times the model's width, for each k."""
    model = VisionModel.objects.filter(digest=config.vision_model).first()
    width, n_blocks = model_shape(model)[0], len(config.hookpoints) or (model.n_blocks if model else 12)
    values = FLOAT * 4.0 * width**2 * n_blocks
    return Sizes(
        n_blocks, model_bytes(model) + 2 * values, values * len(config.k), values, gettext("the model and its MLPs")
    )


def import_sizes(config: ImportDictionaryConfig) -> Sizes:
    """The files may be of half precision; nothing of them is read here but their size."""
    try:
        source = import_source(settings.IMPORT_ROOT, config.path)
        stored = 2.0 * sum(path.stat().st_size for path in files_of(source) if path.is_file())
    except (ConfigError, OSError):
        stored = 0.0
    model = VisionModel.objects.filter(digest=config.vision_model).first()
    return Sizes(config.n_images, 2 * stored + model_bytes(model), stored, stored, gettext("the files and the model"))


def make_control_sizes(config: MakeControlConfig) -> Sizes:
    found, weights, _ = dictionary_sizes((config.dictionary,))
    memory = 2 * weights + model_bytes(found[0].vision_model if found else None)
    return Sizes(config.n_tokens, memory, weights, weights, gettext("the dictionary and its control"))


def collect_sizes(config: CollectExemplarsConfig) -> Sizes:
    found, weights, n_latents = dictionary_sizes(config.dictionaries)
    model = found[0].vision_model if found else None
    _, n_patches, _ = model_shape(model)
    maps = 1.0 * n_latents * MAPS_PER_LATENT * (n_patches + 10)
    state = maps * MAPS_MEANWHILE / MAPS_PER_LATENT
    memory = weights + 2 * state + model_bytes(model)
    return Sizes(
        n_images(config.image_set), memory, maps, state * STATES_MEANWHILE, gettext("dictionaries and patch maps")
    )


def evaluate_sizes(config: EvaluateDictionaryConfig) -> Sizes:
    """Units are as the stage plans them: an image measured, or one altered pass of an image."""
    found, weights, n_latents = dictionary_sizes((config.dictionary,))
    model, n_hookpoints = (found[0].vision_model, len(found[0].hookpoints)) if found else (None, 1)
    n_measured = min(config.max_images, n_images(config.image_set))
    n_passes = 3 * (n_hookpoints + (n_hookpoints > 1)) * min(config.splice_images, n_measured)
    maxima = FLOAT * n_latents * n_measured if config.embeddings else 0.0
    memory = weights + model_bytes(model) + maxima / n_hookpoints
    meanwhile = 100.0 * n_latents + maxima
    return Sizes(n_measured + n_passes, memory, 16.0 * n_latents, meanwhile, gettext("the dictionary and the model"))


def embed_sizes(config: EmbedImagesConfig) -> Sizes:
    model = VisionModel.objects.filter(digest=config.vision_model).first()
    n, (width, _, _) = n_images(config.image_set), model_shape(model)
    kept = HALF * 2.0 * width * n  # CLS and mean patch
    return Sizes(n, model_bytes(model) + kept, kept, kept, gettext("the model and the embeddings"))


def align_sizes(config: AlignDictionariesConfig) -> Sizes:
    """With an image set: the latents once more, and the codes of the sampled tokens until they are matched."""
    found, weights, n_latents = dictionary_sizes((config.dictionary, config.other))
    _, _, n_units = dictionary_sizes((config.dictionary,))
    if not config.image_set:
        return Sizes(n_units, 2 * weights, 8.0 * n_latents, 16.0 * n_latents, gettext("both dictionaries"))
    widths = [row.config["k"] for row in found if isinstance(row.config.get("k"), int)]
    most_on = max(widths, default=DEFAULT_K)
    codes = 2 * FLOAT * 2.0 * most_on * config.n_tokens * max((len(row.hookpoints) for row in found), default=1)
    return Sizes(
        2 * n_units, 2 * weights + codes, 24.0 * n_latents, codes, gettext("both dictionaries and codes of the sample")
    )


def freeze_sizes(config: FreezeStimuliConfig) -> Sizes:
    try:
        path = artifact_store().open(config.plan).path("items.jsonl")
    except ArtifactError:
        return Sizes(0, 0.0, 0.0, 0.0, gettext("one stimulus at a time"))
    with path.open("rb") as lines:
        n_items = sum(1 for _ in lines)
    return Sizes(n_items, 2e8, n_items * 4e5, n_items * 4e5, gettext("one stimulus at a time"))


def unknown_sizes(config: StageConfig) -> Sizes:
    return Sizes(0, 0.0, 0.0, 0.0, gettext("nothing that is known of this stage"))


SIZES: dict[type[StageConfig], Callable[[Any], Sizes]] = {
    TrainModelConfig: train_model_sizes,
    TrainDictionaryConfig: train_dictionary_sizes,
    ReadFeedForwardConfig: feed_forward_sizes,
    ImportDictionaryConfig: import_sizes,
    MakeControlConfig: make_control_sizes,
    CollectExemplarsConfig: collect_sizes,
    EvaluateDictionaryConfig: evaluate_sizes,
    EmbedImagesConfig: embed_sizes,
    AlignDictionariesConfig: align_sizes,
    FreezeStimuliConfig: freeze_sizes,
}


def readable_bytes(n_bytes: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}" if n_bytes < 10 * size else f"{n_bytes / size:.0f} {unit}"
    return f"{n_bytes:.0f} bytes"


def readable_seconds(seconds: float) -> str:
    """'12 s', '4 min', '3 h 20 min', '2 days 5 h', '7 years': two figures are enough for an estimate."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    if hours > 2 * HOURS_OF_YEAR:
        return gettext("%(years)s years") % {"years": f"{hours // HOURS_OF_YEAR:,}"}
    return gettext("%(days)s days %(hours)s h") % {"days": hours // 24, "hours": hours % 24}
