"""How much work and how many weights a training has, by its config: what its estimates are scaled by."""

from __future__ import annotations

from workers.stages.configs import TrainDictionaryConfig

MLP_RATIO = 4
BLOCK_WEIGHTS = 12  # of a ViT block, in units of the width squared
STEP_PRODUCTS = 3  # a training step costs some three encoder products


def hookpoint_width(name: str, width: int) -> int:
    return MLP_RATIO * width if name.endswith(".mlp.hidden") else width


def trained_weights(config: TrainDictionaryConfig, width: int) -> float:
    """Encoder and decoder rows of one dictionary; a cross-layer latent has a decoder row at each later block."""
    sizes = config.sizes()
    if config.kind == "cross_layer_transcoder":
        return float(sum(n * width * (1 + len(sizes) - place) for place, (_, n, _) in enumerate(sizes)))
    return float(sum(2 * n * hookpoint_width(name, width) for name, n, _ in sizes))


def work_per_token(config: TrainDictionaryConfig, width: int, n_blocks: int) -> float:
    """Products of one token: the model's, and the steps of every dictionary."""
    encoders = sum(n * hookpoint_width(name, width) for one in config.dictionaries() for name, n, _ in one.sizes())
    return float(BLOCK_WEIGHTS * n_blocks * width**2 + STEP_PRODUCTS * encoders)
