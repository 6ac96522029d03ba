"""Recovery of a planted dictionary by each trained kind, against sparsity, width and noise; the null beside it.

64 dimensions hold 256 true latents, 8 of them active at a token, unless the row says otherwise. The cross-layer
transcoder is asked for three such blocks at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from workers.benchmarks.report import report, say
from workers.dictionaries.coder_training import CoderTraining
from workers.dictionaries.cross_layer import CrossLayerDictionary
from workers.dictionaries.cross_layer_training import CrossLayerTraining
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.store import CoderDictionary, Dictionary, DictionaryDescription
from workers.dictionaries.training import Trainable, train_steps, wrap_trainable
from workers.dictionaries.training_state import start_state
from workers.stages.configs import TrainDictionaryConfig
from workers.stages.trainings import coder_shape, make_trainings, training_recipe
from workers.synthetic.planted import (
    PlantedSettings,
    PlantedWorld,
    Recovery,
    learned_rows,
    live_latents,
    measure_recovery,
    random_recovery,
    stream_of,
)

KINDS = ("topk_sae", "batch_topk_sae", "jumprelu_sae", "relu_sae", "transcoder", "cross_layer_transcoder")
TRANSCODERS = KINDS[4:]
FLOOR = 0.95
BATCH, N_FRESH = 512, 8192
N_BLOCKS = 3  # of the cross-layer transcoder
LEARNING_RATE = 5e-3
TRUTH = PlantedSettings()


class Case(NamedTuple):
    """A truth, how many latents are trained on it, and what of it is out of the ordinary."""

    name: str
    truth: PlantedSettings
    n_latents: int
    has_free_rows: bool = False


ORDINARY = (
    Case("as above", TRUTH, 256),
    Case("k = 4", replace(TRUTH, k=4), 256),
    Case("k = 16", replace(TRUTH, k=16), 256),
    Case("128 learned", TRUTH, 128),
    Case("512 learned", TRUTH, 512),
    Case("noise 0.1", replace(TRUTH, noise=0.1), 256),
    Case("noise 0.3", replace(TRUTH, noise=0.3), 256),
)
CASES = ORDINARY + tuple(case._replace(name=f"{case.name}, free rows", has_free_rows=True) for case in ORDINARY)


class Found(NamedTuple):
    """Of one training: recovery, its null, the share of latents in use, seconds of one thread."""

    recovery: Recovery
    null: Recovery
    live_share: float
    seconds: float


def measure_planted(n_steps: int, cases: tuple[Case, ...] = CASES, kinds: tuple[str, ...] = KINDS) -> bool:
    """Print a row per kind and case; whether TopK finds the truth without noise."""
    say(f"\nRecovery of a planted dictionary: 64 dimensions, 256 true latents, 8 active, no noise; {n_steps} steps of")
    say(f"{BATCH} tokens, learning rate {LEARNING_RATE:g}. Mean greatest cosine, in brackets a random dictionary's,")
    say("and the share above .9, both ways.\n")
    say("| kind | case | true to learned | found | learned to true | true | in use | CPU s |")
    say("|---|---|---|---|---|---|---|---|")
    is_met: bool | None = None
    for case in cases:
        for kind in kinds:
            if case.has_free_rows and kind in TRANSCODERS:
                continue  # their rows are free always
            found = train_and_measure(kind, case, n_steps)
            say(row_of(kind, case, found))
            if (kind, case) == (KINDS[0], CASES[0]):
                reached = found.recovery.true_to_learned
                is_met = reached >= FLOOR
    say("")
    if is_met is not None:
        name = "planted dictionary, TopK, no noise: mean max cosine, true to learned"
        report(is_met=is_met, name=name, figure=f"{reached:.3f}", target=f">= {FLOOR}")
    return is_met is not False


def row_of(kind: str, case: Case, found: Found) -> str:
    there, null = found.recovery, found.null
    cells = [
        kind.replace("_", " "),
        case.name,
        f"{there.true_to_learned:.3f} ({null.true_to_learned:.2f})",
        f"{there.share_found:.2f}",
        f"{there.learned_to_true:.3f} ({null.learned_to_true:.2f})",
        f"{there.share_true:.2f}",
        f"{found.live_share:.2f}",
        f"{found.seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def train_and_measure(kind: str, case: Case, n_steps: int) -> Found:
    n_blocks = N_BLOCKS if kind == "cross_layer_transcoder" else 1
    world = PlantedWorld(replace(case.truth, n_blocks=n_blocks))
    started = time.process_time()
    dictionary = train(kind, world, case, n_steps)
    seconds = time.process_time() - started
    fresh = world.draw(N_FRESH, stream_of("fresh tokens", 0))
    found, nulls, live_shares = [], [], []
    for read in dictionary.reads:
        true, live = world.true_rows(dictionary, read), live_latents(dictionary, read, fresh[read])
        found.append(measure_recovery(true, learned_rows(dictionary, read)[live]))
        nulls.append(random_recovery(true, case.n_latents, stream_of("null", 0)))
        live_shares.append(live.numel() / case.n_latents)
    return Found(mean_recovery(found), mean_recovery(nulls), sum(live_shares) / len(live_shares), seconds)


def mean_recovery(each: list[Recovery]) -> Recovery:
    """Over the hookpoints that are read."""
    return Recovery(*(sum(values) / len(each) for values in zip(*each, strict=True)))


def train(kind: str, world: PlantedWorld, case: Case, n_steps: int) -> Dictionary:
    """A dictionary of this kind, trained on tokens of the planted truth as the stage would train it."""
    config = training_config(kind, world, case, n_steps)
    widths = dict.fromkeys((*world.reads, *world.writes), world.settings.d_model)
    trainings = make_trainings(config, widths, ["cpu"])
    if kind not in TRANSCODERS:
        trainings = {"0": wrap_trainable(plain_coder(config, world), training_recipe(config))}
    state = start_state(trainings, seed=0)
    train_steps(state, batches(world, n_steps))
    [training] = state.trainings.values()
    return finished_dictionary(config, training.trainable)


def training_config(kind: str, world: PlantedWorld, case: Case, n_steps: int) -> TrainDictionaryConfig:
    return TrainDictionaryConfig(
        "planted",
        "planted",
        world.reads,
        kind=kind,
        n_latents=case.n_latents,
        k=world.settings.k,
        n_tokens=n_steps * BATCH,
        batch_tokens=BATCH,
        learning_rate=LEARNING_RATE,
        has_free_rows=case.has_free_rows,
    )


def plain_coder(config: TrainDictionaryConfig, world: PlantedWorld) -> CoderTraining:
    """An SAE of tokens as they are: to normalize each by itself would bend the planted directions."""
    width = world.settings.d_model
    shape: CoderShape = coder_shape(config, config.n_latents, config.k, (width, width))
    coder = SparseCoder(replace(shape, normalization="none"))
    return CoderTraining(coder, config.hookpoints[0], activation=config.trained_by, has_free_rows=config.has_free_rows)


def batches(world: PlantedWorld, n_steps: int) -> Iterator[dict[str, Tensor]]:
    generator = stream_of("tokens", world.settings.seed)
    for _ in range(n_steps):
        yield world.draw(BATCH, generator)


def finished_dictionary(config: TrainDictionaryConfig, trained: Trainable) -> Dictionary:
    description = DictionaryDescription(
        config.kind, config.kind, config.hookpoints, config.writes, config.vision_model, config.image_set
    )
    if isinstance(trained, CrossLayerTraining):
        return CrossLayerDictionary(description, trained.finished())
    assert isinstance(trained, CoderTraining)
    return CoderDictionary(description, {config.hookpoints[0]: trained.finished()})
