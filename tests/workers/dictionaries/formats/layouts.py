"""Files laid out as other libraries' code does it, where the library cannot be installed, and small random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

D, F, K = 6, 12, 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return 0.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def square_state(**more: Tensor) -> dict[str, Tensor]:
    """W_enc [d, F], W_dec [F, d] and two biases, as most libraries have them."""
    state = {
        "W_enc": numbers(D, F, seed=1),
        "b_enc": numbers(F, seed=2),
        "W_dec": numbers(F, D, seed=3),
        "b_dec": numbers(D, seed=4),
    }
    return state | more


def some_tokens(n: int = 9) -> Tensor:
    return 2 * numbers(n, D, seed=9) + 0.3


def write_saelens(folder: Path, config: dict[str, Any] | None = None, **more: Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "architecture": "standard",
        "d_in": D,
        "d_sae": F,
        "metadata": {"hook_name": "blocks.1.hook_resid_post"},
    }
    (folder / "cfg.json").write_text(json.dumps(settings | (config or {})))
    save_file(square_state(**more), folder / "sae_weights.safetensors")
    return folder


def relu_latents(tokens: Tensor, state: dict[str, Tensor], *, is_bias_taken: bool = True) -> Tensor:
    read = tokens - state["b_dec"] if is_bias_taken else tokens
    return (read @ state["W_enc"] + state["b_enc"]).relu()


def kept(latents: Tensor, k: int) -> Tensor:
    """The k largest of each row."""
    values, indices = latents.topk(k, dim=1)
    return torch.zeros_like(latents).scatter(1, indices, values)


def dense(coder: Any, tokens: Tensor) -> Tensor:
    codes = coder.encode(tokens)
    return torch.zeros(tokens.shape[0], coder.n_latents).scatter_add(1, codes.indices, codes.values)


def normalized(tokens: Tensor) -> Tensor:
    centered = tokens - tokens.mean(dim=1, keepdim=True)
    return centered / (centered.std(dim=1, keepdim=True) + 1e-5)


def pickled_class(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A class that pickles under a library's name; the module is there while the test writes, not while it reads."""
    import sys
    import types

    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        path = ".".join(parts[:depth])
        monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
    made = type(name, (), {"__module__": module, "__init__": lambda self, **values: self.__dict__.update(values)})
    setattr(sys.modules[module], name, made)
    return made
