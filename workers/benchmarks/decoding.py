"""How fast images are decoded, by threads and by processes: ./run bench exemplars --part decoding.

JPEGs of 500 × 375 pixels as in ImageNet, cut to 224. No target: it is what docs/decisions/decoding.md rests on.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.benchmarks.report import say
from workers.image_decoding import decode_image
from workers.preprocessing import Preprocessing

N_IMAGES = 240
SIZE = (500, 375)
PREPROCESSING = Preprocessing(224, crop_pct=0.9)


def measure_decoding(n_images: int = N_IMAGES) -> bool:
    files = jpegs(min(n_images, 60)) * max(1, n_images // 60)
    n_workers = os.cpu_count() or 1
    seconds = time_of(map(decode, files))
    rate, each = len(files) / seconds, 1e3 * seconds / len(files)
    say(f"{'':13} decoding one after the other: {rate:10.0f} images/s, {each:.1f} ms")
    with ThreadPoolExecutor(n_workers) as pool:
        tell(f"{n_workers} threads", pool, decode, files)
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as processes:
        list(processes.map(decode, files[: 4 * n_workers]))  # they start and import
        tell(f"{n_workers} processes", processes, decode, files)
    say(f"{'':13} of it with the interpreter to itself: {1e3 * held(files):.2f} ms an image")
    return True


def tell(name: str, pool: Executor, work: Callable[[bytes], NDArray[np.float32]], files: list[bytes]) -> None:
    seconds = time_of(pool.map(work, files, chunksize=4))
    say(f"{'':13} decoding by {name:<20} {len(files) / seconds:7.0f} images/s")


def time_of(results: Iterable[NDArray[np.float32]]) -> float:
    started = time.perf_counter()
    for _ in results:
        continue
    return time.perf_counter() - started


def decode(content: bytes) -> NDArray[np.float32]:
    """What a stage does with a file's bytes."""
    hashlib.sha256(content).hexdigest()
    pixels: NDArray[np.float32] = PREPROCESSING(decode_image(content, "a file")).numpy()
    return pixels


def held(files: list[bytes]) -> float:
    """CPU seconds of an image during which no other thread can run: reading the header, and pixels to numpy."""
    decoded = [PREPROCESSING.crop(decode_image(content, "a file")) for content in files[:60]]
    started = time.process_time()
    for content, image in zip(files[:60], decoded, strict=True):
        Image.open(io.BytesIO(content))
        np.asarray(image)
    return (time.process_time() - started) / len(decoded)


def jpegs(n: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    files = []
    for _ in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files
