"""What a training will cost, measured: its own first images and first steps for some seconds, with nothing left behind.

Images are read as the run would read them, a batch at a time, and training steps are taken on what was read; the state
is saved once to a folder that is then removed. Time is extrapolated from these rates. Memory is the most that was held,
on the GPUs where there are any, with what a whole block of activations would add; disk is the size of what was saved.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from workers.activations import SINGLE_BYTES, ActivationStream, activation_batches
from workers.dictionaries.training import Batch, TrainingState, train_steps
from workers.dictionaries.training_state import save_state
from workers.stages.configs import TrainDictionaryConfig
from workers.stages.context import StageContext
from workers.stages.inputs import open_images
from workers.stages.memory import OutOfMemoryError, fits
from workers.stages.train_dictionary import open_training_model, plan, take_up, training_stream
from workers.stages.trainings import n_steps, widths_read
from workers.vision_model import VisionModel

READING_SECONDS, STEPPING_SECONDS = 8.0, 12.0  # loading the model and the first of each come on top
FEWEST = 2  # readings and steps beside the first, which warms up and is not counted
WEIGHTS_AMONG_SAVED = 1 / 3  # beside them lie Adam's two moments


@dataclass(frozen=True)
class Rates:
    """Seconds that each part took, once warm."""

    per_image: float
    per_step: float
    per_chunk: float
    n_images: int
    n_steps: int


@dataclass(frozen=True)
class Probe:
    """What a whole run will take."""

    seconds: float
    reading_share: float
    memory_bytes: int
    is_gpu_memory: bool
    saved_bytes: int
    rates: Rates

    @property
    def disk_bytes(self) -> int:
        """Two checkpoints while it runs: the one taken up and the one being written."""
        return 2 * self.saved_bytes

    @property
    def kept_bytes(self) -> int:
        return round(WEIGHTS_AMONG_SAVED * self.saved_bytes)


def probe_training(config: TrainDictionaryConfig, context: StageContext) -> Probe:
    """Measure for about half a minute; raises ValueError for what the run would refuse, and OutOfMemoryError."""
    measured: list[Probe] = []
    if not fits(lambda: measured.append(measure(config, context))):
        raise OutOfMemoryError(
            f"Memory runs out with batches of {config.batch_tokens:,} tokens; take smaller ones, or fewer hookpoints, "
            "dictionaries or latents at once."
        )
    return measured[0]


def measure(config: TrainDictionaryConfig, context: StageContext) -> Probe:
    chunks = plan(config, context)
    forget_peaks()
    started = time.monotonic()
    model = open_training_model(config, context)
    state = take_up(config, -1, model, context)
    opened = time.monotonic() - started
    stream = training_stream(config, model, context.n_threads)
    small = replace(stream, images_per_block=-(-config.batch_tokens // model.n_tokens))
    batches, reading = read_some(config, model, small, context)
    stepping = step_some(state, batches)
    saved_bytes, saving = save_once(state, context.run_folder)
    rates = Rates(
        per_image=reading.seconds / (reading.n * small.images_per_block),
        per_step=stepping.seconds / stepping.n,
        per_chunk=opened + 2 * saving,  # a chunk also loads what its predecessor saved
        n_images=reading.n * small.images_per_block,
        n_steps=stepping.n,
    )
    n_blocks = -(-n_steps(config) // stream.batches_per_block(model.n_tokens))
    read = n_blocks * stream.images_per_block * rates.per_image
    seconds = read + n_steps(config) * rates.per_step + len(chunks) * rates.per_chunk
    rest = (stream.images_per_block - small.images_per_block) * model.n_tokens
    block = SINGLE_BYTES * rest * sum(widths_read(config, model).values())
    is_gpu = model.device.type == "cuda"
    return Probe(seconds, read / seconds, peak_bytes(is_gpu) + block, is_gpu, saved_bytes, rates)


@dataclass(frozen=True)
class Timed:
    """How long n of something took, the first not counted."""

    seconds: float
    n: int


def timed(act: Callable[[], object], budget: float) -> Timed:
    """Do something once to warm up, then again and again until the time is up, twice at least."""
    act()
    synchronize()
    started, n = time.monotonic(), 0
    while n < FEWEST or time.monotonic() - started < budget:
        act()
        n += 1
        synchronize()
    return Timed(time.monotonic() - started, n)


def read_some(
    config: TrainDictionaryConfig, model: VisionModel, stream: ActivationStream, context: StageContext
) -> tuple[list[Batch], Timed]:
    """The first blocks of one batch each; the last few are kept to step on."""
    reader = open_images(config.image_set, context)
    blocks = activation_batches(model, reader, config.hookpoints_read(), stream, first_block=0, n_blocks=1 << 30)
    kept: list[Batch] = []

    def read() -> None:
        kept.append(next(blocks).activations)
        del kept[:-FEWEST]
        context.raise_if_cancelled()

    return kept, timed(read, READING_SECONDS)


def step_some(state: TrainingState, batches: list[Batch]) -> Timed:
    return timed(lambda: train_steps(state, [batches[state.step % len(batches)]]), STEPPING_SECONDS)


def save_once(state: TrainingState, folder: Path) -> tuple[int, float]:
    """Bytes and seconds of one checkpoint on the disk the run would use."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        save_state(state, Path(inner))
        n_bytes = sum(path.stat().st_size for path in Path(inner).iterdir())
        return n_bytes, time.monotonic() - started


def synchronize() -> None:
    for device in range(torch.cuda.device_count()):
        torch.cuda.synchronize(device)


def forget_peaks() -> None:
    for device in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(is_gpu: bool) -> int:
    """The most held on any one GPU, else by this process since it began."""
    if is_gpu:
        return max(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
