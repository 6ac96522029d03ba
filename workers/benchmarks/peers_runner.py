"""One training step of each public library, run by the Python of the peers' environment (see ``peers``).

Each library keeps its own way: its own model, optimizer, auxiliary loss, clipping and dead tracking. Sparsify's trainer
needs a language model, so the sequence it runs for one batch is replayed on its own coder (it clips nothing, and its
auxiliary loss trains the decoder alone). What trainers do beside the step (reading, logging, saving) is left out.

Speaks JSON lines: {"prepare": case} -> the names of the methods; {"step": name} -> CPU seconds of one step and how many
latents were dead in it; {"finish": true} ends it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ |= {"SPARSIFY_DISABLE_TRITON": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}

import torch
from torch import Tensor

from workers.timm_loading import make_torchvision_importable

AUX_WEIGHT = 1 / 32
LEARNING_RATE = 1e-5  # small: the planted dead latents stay dead
WEAK = 1e-2  # an encoder row this weak never enters the top k


@dataclass(frozen=True)
class Case:
    """A size; the first ``n_dead`` latents are planted dead."""

    d_model: int
    n_latents: int
    k: int
    n_tokens: int
    n_dead: int


@dataclass(frozen=True)
class Method:
    """A prepared training: one step on a batch, planting the dead before it, and how many are dead."""

    step: Callable[[Tensor], Any]
    plant: Callable[[], None]
    count_dead: Callable[[], int]


def prepare_overcomplete(case: Case) -> Method:
    """Its auxiliary loss is over the half of the latents that were not chosen, dead or alive."""
    from overcomplete.sae import TopKSAE
    from overcomplete.sae.losses import top_k_auxiliary_loss
    from overcomplete.sae.train import train_sae

    model = TopKSAE(case.d_model, nb_concepts=case.n_latents, top_k=case.k)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    weaken(model.encoder.final_block[0].weight, case)

    def step(tokens: Tensor) -> None:
        train_sae(model, [tokens], top_k_auxiliary_loss, optimizer, nb_epochs=1, clip_grad=1.0, monitoring=0)

    return Method(step, lambda: None, lambda: case.n_dead)


def prepare_sae_lens(case: Case, *, is_sparse: bool) -> Method:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=case.d_model,
            d_sae=case.n_latents,
            k=case.k,
            use_sparse_activations=is_sparse,
            rescale_acts_by_decoder_norm=not is_sparse,  # with both, its backward pass fails on a CPU
            aux_loss_coefficient=AUX_WEIGHT,
        )
    )
    weaken(sae.W_enc.T, case)
    config = SAETrainerConfig(
        total_training_samples=1 << 40,
        train_batch_size_samples=case.n_tokens,
        lr=LEARNING_RATE,
        lr_end=LEARNING_RATE,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(cfg=config, sae=sae, data_provider=iter(()))

    def step(tokens: Tensor) -> None:
        trainer.step(tokens)
        trainer.n_training_steps += 1

    def plant() -> None:
        trainer.n_forward_passes_since_fired[: case.n_dead] = config.dead_feature_window + 1

    return Method(step, plant, lambda: int(trainer.dead_neurons.sum()))


def prepare_sparsify(case: Case, *, is_signum: bool) -> Method:
    from sparsify.config import SparseCoderConfig, TrainConfig
    from sparsify.sign_sgd import SignSGD
    from sparsify.sparse_coder import SparseCoder

    config = TrainConfig(SparseCoderConfig(num_latents=case.n_latents, k=case.k), auxk_alpha=AUX_WEIGHT)
    sae = SparseCoder(case.d_model, config.sae, "cpu", dtype=torch.float32)
    weaken(sae.encoder.weight, case)
    optimizer: Any = torch.optim.Adam(sae.parameters(), lr=LEARNING_RATE)
    if is_signum:
        from schedulefree import ScheduleFreeWrapper

        optimizer = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=LEARNING_RATE), momentum=0.95)
        optimizer.train()
    silent = torch.zeros(case.n_latents, dtype=torch.long)
    did_fire = torch.zeros(case.n_latents, dtype=torch.bool)

    def step(tokens: Tensor) -> float:
        sae.set_decoder_norm_to_unit_norm()
        dead_mask = silent > config.dead_feature_threshold
        total_variance = (tokens - tokens.mean(0)).pow(2).sum()
        out = sae(x=tokens, y=tokens, dead_mask=dead_mask, total_variance=total_variance)
        did_fire[out.latent_indices.flatten()] = True
        logged = float(out.fvu.detach()) + float(out.auxk_loss.detach())
        loss = out.fvu + config.auxk_alpha * out.auxk_loss + out.multi_topk_fvu / 8
        loss.div(1).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            silent.add_(tokens.shape[0])
            silent[did_fire] = 0
            did_fire.zero_()
        return logged

    def plant() -> None:
        silent[: case.n_dead] = config.dead_feature_threshold + 1

    return Method(step, plant, lambda: int((silent > config.dead_feature_threshold).sum()))


def prepare_dictionary_learning(case: Case) -> Method:
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=100_000,
        activation_dim=case.d_model,
        dict_size=case.n_latents,
        k=case.k,
        layer=0,
        lm_name="none",
        lr=LEARNING_RATE,
        auxk_alpha=AUX_WEIGHT,
        device="cpu",
    )
    weaken(trainer.ae.encoder.weight, case)
    limit, done = trainer.dead_feature_threshold, iter(range(1, 1 << 30))  # its first step looks for the bias

    def plant() -> None:
        trainer.num_tokens_since_fired[: case.n_dead] = limit

    return Method(
        lambda tokens: trainer.update(next(done), tokens),
        plant,
        lambda: int((trainer.num_tokens_since_fired >= limit).sum()),
    )


def weaken(encoder_rows: Tensor, case: Case) -> None:
    with torch.no_grad():
        encoder_rows[: case.n_dead] *= WEAK


PREPARE: dict[str, Callable[[Case], Method]] = {
    "eai-sparsify, signum (its default)": lambda case: prepare_sparsify(case, is_signum=True),
    "eai-sparsify, Adam": lambda case: prepare_sparsify(case, is_signum=False),
    "sae-lens (default)": lambda case: prepare_sae_lens(case, is_sparse=False),
    "sae-lens, sparse codes": lambda case: prepare_sae_lens(case, is_sparse=True),
    "dictionary-learning": prepare_dictionary_learning,
    "overcomplete": prepare_overcomplete,
}


class Runner:
    """The prepared trainings of one case; every method sees batches of its own, drawn from the same seed."""

    def __init__(self, case: Case) -> None:
        self.case = case
        torch.manual_seed(0)
        self.methods = {name: prepare(case) for name, prepare in PREPARE.items()}
        self.generators = {name: torch.Generator().manual_seed(1) for name in PREPARE}

    def run(self, name: str) -> dict[str, float]:
        method, case = self.methods[name], self.case
        tokens = torch.randn(case.n_tokens, case.d_model, generator=self.generators[name])
        tokens = (tokens - tokens.mean(1, keepdim=True)) / tokens.std(1, keepdim=True)
        method.plant()
        n_dead = method.count_dead()
        started = time.process_time()
        method.step(tokens)
        return {"seconds": time.process_time() - started, "n_dead": n_dead}


def main() -> None:
    torch.set_num_threads(1)
    make_torchvision_importable()
    answers, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is not an answer
    runner: Runner | None = None
    for line in sys.stdin:
        message = json.loads(line)
        answer: Any
        if "prepare" in message:
            runner = None  # frees the last case before the next one is made
            with contextlib.redirect_stdout(io.StringIO()):
                runner = Runner(Case(**message["prepare"]))
            answer = {"methods": list(runner.methods)}
        elif "step" in message and runner is not None:
            answer = runner.run(message["step"])
        else:
            return
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
