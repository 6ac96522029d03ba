"""Training on a GPU: one TopK SAE (x16, k = 64) of ViT-B/16 in bf16, a step per batch of images, from JPEG files on.

As for exemplars, one pass gives images per second and a second one the shares of time. Without a GPU the rows say NOT
MEASURED; the same code runs at any size on a CPU. Tokens are not mixed over batches here: mixing costs no step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.benchmarks.exemplars_on_gpu import VIT_B, Clock, Load, Throughput, loaded, tell
from workers.dictionaries.coder_training import CoderTraining
from workers.dictionaries.losses import AuxK, Objective
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.step import Execution
from workers.dictionaries.training import Training, TrainingConfig, train_step, wrap_trainable
from workers.images import ImageSetReader, image_batches
from workers.vision_model import VisionModel, read_hookpoints

PARTS = ("waiting for decoded images", "model", "training step")
NAME = "ViT-B/16, one TopK SAE x16, k = 64, bf16, trained: images/s"
DEAD_AFTER = 1 << 20  # tokens until a latent counts as dead


def measure_training_on_gpu() -> bool:
    tell(measure_training(VIT_B, "cuda") if torch.cuda.is_available() else None, NAME, PARTS)
    return True


def measure_training(load: Load, device: str) -> Throughput:
    with loaded(load, device) as (model, reader):
        training = make_training(model, load)
        run_training(load, model, reader, training, n_images=4 * load.batch_size, is_waiting=False)
        seconds = sum(run_training(load, model, reader, training, n_images=load.n_images, is_waiting=False).values())
        parts = run_training(load, model, reader, training, n_images=load.n_images // 4, is_waiting=True)
    return Throughput(load.n_images / seconds, {part: parts[part] / sum(parts.values()) for part in PARTS})


def make_training(model: VisionModel, load: Load) -> Training:
    coder = SparseCoder(CoderShape(d_model=model.d_model, n_latents=load.expansion * model.d_model, k=load.k))
    trainable = CoderTraining(coder.to(model.device), f"blocks.{model.n_blocks - 2}")
    trainable.initialize(torch.Generator().manual_seed(0))
    config = TrainingConfig(
        learning_rate=1e-4,
        n_steps=1 << 30,
        objective=Objective("topk", AuxK(1 / 32, 256)),
        clip_norm=1.0,
        dead_after_tokens=DEAD_AFTER,
        execution=Execution(is_bf16=True),
    )
    return wrap_trainable(trainable, config)


def run_training(
    load: Load, model: VisionModel, reader: ImageSetReader, training: Training, *, n_images: int, is_waiting: bool
) -> dict[str, float]:
    """Seconds by part; a part is told from the next only where it is waited for."""
    device, [hookpoint] = model.device, training.trainable.reads
    files = [number % len(reader) for number in range(n_images)]
    batches = image_batches(
        reader, model.transform, files, load.batch_size, load.n_threads, is_pinned=device.type == "cuda"
    )
    clock, step = Clock(device, PARTS, is_waiting), 0
    while True:
        with clock.part(PARTS[0]):
            images = next(batches, None)
        if images is None:
            break
        with clock.part(PARTS[1]):
            tokens = tokens_of(model, hookpoint, images)
        with clock.part(PARTS[2]):
            train_step(training, {hookpoint: tokens}, step)
        step += 1
    with clock.part(PARTS[2]):
        clock.wait()
    return clock.seconds


@torch.no_grad()
def tokens_of(model: VisionModel, hookpoint: str, images: Tensor) -> Tensor:
    """All tokens of these images, one after the other, read in half precision."""
    with read_hookpoints(model, [hookpoint]) as read, torch.autocast(model.device.type, torch.bfloat16):
        model(images.to(model.device, non_blocking=True))
    return read[hookpoint].flatten(0, 1).float()
