"""Does an imported dictionary rebuild the activations of the model it is said to be of?

    explained variance = 1 − Σ‖y − ŷ‖² / Σ‖y − μ‖²     over a few thousand tokens; y what it should write

A coder at the wrong hookpoint, with the wrong normalization or of another model rebuilds little or worse than the mean.
So the figure is held against a floor, and against the same weights with their dimensions shuffled, which in few
dimensions explain something too. Beside it stands what the weights explain at the neighboring hookpoints, under the
other normalizations and with the decoder's bias treated the other way: that tells which of them is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerCoder
from workers.dictionaries.formats.places import neighbors
from workers.dictionaries.formats.sampling import spread
from workers.dictionaries.formats.weights import FormatError, Reading, demand
from workers.dictionaries.sparse_coder import NORMALIZATIONS, SparseCoder, normalize_tokens

LEAST_EXPLAINED = 0.3  # below that, something is wrong
OVER_SHUFFLED = 0.15  # so much more a dictionary of this model explains than its own weights in disorder
GAIN, LEFT = 0.05, 0.75  # another reading at the same place that gains so much, and leaves so little of the rest
DOUBTFUL, MARGIN = 0.6, 0.25  # another place may explain more by itself; below the first, so much more says something
TOKENS, TOKENS_FOR_HINTS = 2048, 512
N_HINTS = 3
VERDICT = "wrong hookpoint, wrong normalization or wrong model"
NORMALIZATION_NAMES = {
    "token": "each token normalized to mean 0 and deviation 1",
    "norm": "each token normalized to norm √d",
    "none": "tokens as they are",
}

Activations = Mapping[str, Float[Tensor, "n_tokens width"]]


class Trial(NamedTuple):
    """Another way to use the same weights, and what it explains."""

    what: str
    explained_variance: float
    is_here: bool = False  # at the same hookpoint, read in another way; or where the file says


class Fit(NamedTuple):
    """How well one coder rebuilds what it should write, and what else was tried, the best first."""

    source: str
    reads: str
    writes: str
    reading: str
    explained_variance: float
    explained_variance_normalized: float
    l0: float
    tried: tuple[Trial, ...]
    shuffled: float = float("-inf")  # with the weights' dimensions in disorder

    @property
    def best(self) -> float:
        """Dictionaries that normalize each token are trained on the second figure, the others on the first."""
        return max(self.explained_variance, self.explained_variance_normalized)

    @property
    def is_wrong(self) -> bool:
        if not self.best >= max(LEAST_EXPLAINED, self.shuffled + OVER_SHUFFLED):
            return True
        return any(self.is_beaten_by(trial) for trial in self.tried)

    def is_beaten_by(self, trial: Trial) -> bool:
        gain = trial.explained_variance - self.explained_variance
        if trial.is_here:
            return gain > GAIN and 1 - trial.explained_variance <= LEFT * (1 - self.explained_variance)
        return self.best < DOUBTFUL and gain > MARGIN

    def to_json(self) -> dict[str, Any]:
        """None where nothing can be said; JSON knows no infinity."""
        values = self._asdict() | {"tried": [finite(trial._asdict()) for trial in self.tried]}
        return finite(values)


def finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value == float("-inf") else value for name, value in values.items()}


def fit_coder(
    readings: Sequence[Reading],
    source: str,
    reads: str,
    writes: str,
    activations: Activations,
    named: tuple[str, str] = ("", ""),
) -> tuple[int, Fit]:
    """The reading that explains most, and how well; ``activations`` are of all hookpoints that are worth a trial, and
    ``named`` is where the file says that it reads and writes."""
    check_widths(readings[0].coder, source, reads, writes, activations)
    tokens, targets = spread(activations[reads], TOKENS), spread(activations[writes], TOKENS)
    figures = [explained(reading.coder, tokens, targets) for reading in readings]
    chosen = max(range(len(readings)), key=lambda index: figures[index])
    coder = readings[chosen].coder
    codes = coder.encode(tokens)
    rebuilt = coder.decode(codes)
    fit = Fit(
        source=source,
        reads=reads,
        writes=writes,
        reading=readings[chosen].label,
        explained_variance=figures[chosen],
        explained_variance_normalized=explained_normalized(targets, rebuilt),
        l0=float((codes.values != 0).sum()) / tokens.shape[0],
        tried=best_trials(
            [*trials(coder, reads, writes, activations), *as_named(coder, (reads, writes), named, activations)]
        ),
        shuffled=explained(in_disorder(coder), spread(tokens, TOKENS_FOR_HINTS), spread(targets, TOKENS_FOR_HINTS)),
    )
    return chosen, fit


def check_widths(coder: SparseCoder, source: str, reads: str, writes: str, activations: Activations) -> None:
    for what, width, place in (("reads", coder.d_model, reads), ("writes", coder.shape.width_written, writes)):
        demand(
            activations[place].shape[1] == width,
            f"{source} {what} {width} dimensions, and {place} of the model has {activations[place].shape[1]}: it was "
            "trained on another model, or at another hookpoint.",
        )


def trials(coder: SparseCoder, reads: str, writes: str, activations: Activations) -> list[Trial]:
    """The same weights elsewhere, and read in another way."""
    found = []
    for place in neighbors(reads if reads == writes else writes, tuple(activations)):
        read = place if reads == writes else read_beside(reads, writes, place)
        if read in activations and fits(coder, activations[read], activations[place]):
            found.append(tried(coder, place if read == place else f"{read} to {place}", activations, read, place))
    for name in NORMALIZATIONS:
        if name != coder.shape.normalization:
            other = altered(coder, normalization=name)
            found.append(tried(other, NORMALIZATION_NAMES[name], activations, reads, writes)._replace(is_here=True))
    if coder.shape.d_out == 0 and bool(coder.b_dec.any()):
        taken = coder.shape.is_bias_tied
        what = f"b_dec {'not ' if taken else ''}taken from what is read"
        other = altered(coder, is_bias_tied=not taken)
        found.append(tried(other, what, activations, reads, writes)._replace(is_here=True))
    return found


def as_named(
    coder: SparseCoder, places: tuple[str, str], named: tuple[str, str], activations: Activations
) -> list[Trial]:
    """Where the file says that it belongs, if it was imported to somewhere else."""
    read, write = named
    is_known = named != places and read in activations and write in activations
    if not is_known or not fits(coder, activations[read], activations[write]):
        return []
    return [tried(coder, f"{read}, which the file names", activations, read, write)._replace(is_here=True)]


def read_beside(reads: str, writes: str, place: str) -> str:
    """Where a transcoder reads that writes at ``place``, as ``reads`` goes with ``writes``."""
    return (
        reads
        if place.split(".")[1] == writes.split(".")[1]
        else reads.replace(reads.split(".")[1], place.split(".")[1])
    )


def fits(coder: SparseCoder, tokens: Tensor, targets: Tensor) -> bool:
    return tokens.shape[1] == coder.d_model and targets.shape[1] == coder.shape.width_written


def tried(coder: SparseCoder, what: str, activations: Activations, read: str, write: str) -> Trial:
    tokens, targets = spread(activations[read], TOKENS_FOR_HINTS), spread(activations[write], TOKENS_FOR_HINTS)
    return Trial(what, explained(coder, tokens, targets))


def altered(coder: SparseCoder, **changes: Any) -> SparseCoder:
    other = SparseCoder(replace(coder.shape, **changes))
    other.load_state_dict(coder.state_dict())
    return other.requires_grad_(False).to(coder.W_enc.device)


@torch.no_grad()
def in_disorder(coder: SparseCoder) -> SparseCoder:
    """The same weights for a model whose dimensions are other ones: all read, and all written, in one random order."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(coder.d_model, generator=generator).to(coder.W_enc.device)
    is_same = coder.shape.width_written == coder.d_model
    written = order if is_same else torch.randperm(coder.shape.width_written, generator=generator).to(order.device)
    other = altered(coder)
    other.W_enc.copy_(coder.W_enc[:, order])
    other.W_dec.copy_(coder.W_dec[:, written])
    other.b_dec.copy_(coder.b_dec[written])
    if coder.shape.has_skip:
        other.W_skip.copy_(coder.W_skip[written][:, order])
    return other


def best_trials(found: list[Trial]) -> tuple[Trial, ...]:
    return tuple(sorted(found, key=lambda trial: -trial.explained_variance))


def explained(coder: SparseCoder, tokens: Tensor, targets: Tensor) -> float:
    return explained_variance(targets, coder.decode(coder.encode(tokens)))


def explained_variance(targets: Float[Tensor, "n width"], rebuilt: Float[Tensor, "n width"]) -> float:
    """−∞ where nothing can be said: values that are not finite, or targets that do not vary."""
    error = (targets - rebuilt).double().square().sum()
    deviation = (targets - targets.mean(dim=0)).double().square().sum()
    ratio = 1 - error / deviation
    return float(ratio) if bool(torch.isfinite(ratio)) else float("-inf")


def explained_normalized(targets: Float[Tensor, "n width"], rebuilt: Float[Tensor, "n width"]) -> float:
    """In units where each token that should be written has mean 0 and deviation 1."""
    own = normalize_tokens(targets)
    deviation = own.scale.deviation.clamp_min(torch.finfo(targets.dtype).tiny)
    return explained_variance(own.tokens, (rebuilt - own.scale.mean) / deviation)


def fit_cross_layer(
    coder: CrossLayerCoder, source: str, reads: Sequence[str], writes: Sequence[str], activations: Activations
) -> list[Fit]:
    """One fit for each target; a cross-layer transcoder writes at all of them together."""
    for place, width in [(name, coder.shape.d_model) for name in reads] + [
        (name, coder.shape.d_out) for name in writes
    ]:
        demand(
            activations[place].shape[1] == width,
            f"{source} has {width} dimensions, and {place} of the model has {activations[place].shape[1]}: it was "
            "trained on another model.",
        )
    selected = {i: coder.encode(i, spread(activations[name], TOKENS)) for i, name in enumerate(reads)}
    fits_found = []
    for target, write in enumerate(writes):
        targets, rebuilt = spread(activations[write], TOKENS), coder.decode(target, selected)
        others = [place for place in neighbors(write, tuple(activations)) if place.endswith(".mlp.write")]
        hints = [Trial(place, explained_variance(spread(activations[place], TOKENS), rebuilt)) for place in others]
        n_active = int((selected[target].values != 0).sum())
        fits_found.append(
            Fit(
                source=source,
                reads=reads[target],
                writes=write,
                reading="",
                explained_variance=explained_variance(targets, rebuilt),
                explained_variance_normalized=explained_normalized(targets, rebuilt),
                l0=n_active / targets.shape[0],
                tried=best_trials(hints),
            )
        )
    return fits_found


def refuse_wrong(fits_found: Sequence[Fit], *, is_forced: bool, log: Callable[[str], None]) -> None:
    """Raise FormatError naming the worst fit if one is wrong; a forced import only says so."""
    wrong = sorted((fit for fit in fits_found if fit.is_wrong), key=lambda fit: fit.best)
    if not wrong:
        return
    sentence = verdict(wrong[0], len(wrong), len(fits_found))
    if not is_forced:
        raise FormatError(
            f"{sentence} Name other hookpoints or another model, or import it all the same (--force) if you know why."
        )
    log(f"{sentence} It is imported all the same.")


def verdict(fit: Fit, n_wrong: int, n: int) -> str:
    where = fit.reads if fit.reads == fit.writes else f"{fit.reads} to {fit.writes}"
    more = f" (and {n_wrong - 1} more of {n} coders are wrong)" if n_wrong > 1 else ""
    shown = [trial for trial in fit.tried[:N_HINTS] if trial.explained_variance > fit.explained_variance + GAIN]
    shown += [Trial("its dimensions shuffled", fit.shuffled)] if fit.shuffled > fit.best - OVER_SHUFFLED else []
    hints = "; ".join(f"{trial.what}: {share(trial.explained_variance)}" for trial in shown)
    beside = f" The same weights used otherwise: {hints}." if hints else " Nothing else that was tried does better."
    return f"{fit.source} explains {share(fit.explained_variance)} of the variance at {where}{more}: {VERDICT}.{beside}"


def share(value: float) -> str:
    """In percent; a reconstruction may be much worse than the mean."""
    return "less than −1000 %" if value < -10 else f"{100 * value:.0f} %".replace("-", "−")
