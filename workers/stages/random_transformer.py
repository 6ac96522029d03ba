"""The control random_transformer: the same kind of dictionary on an untrained copy of the vision model.

The copy has the architecture and preprocessing of the target's model and weights from the seed; it is registered beside
it, with its own head. The MLPs of the copy are read as those of the model were. A trained kind cannot be had without a
training: for it the run registers the copy and says what to do next, and a second run of make-control, given the
dictionary that was trained on the copy, makes that one the control.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from typing import Any

from workers.artifacts import Artifact
from workers.dictionaries.feed_forward import (
    FeedForwardCoder,
    FeedForwardDictionary,
    read_feed_forward,
    write_feed_forward,
)
from workers.dictionaries.store import DESCRIPTION, RANDOM_TRANSFORMER, Dictionary, DictionaryDescription
from workers.readouts import write_own_head
from workers.stages.configs import ConfigError, MakeControlConfig, config_to_dict, parent_digests
from workers.stages.context import StageContext
from workers.stages.inputs import open_dictionary
from workers.vision_model import VisionModel, create_vit, load_vision_model, write_vision_model

UNTRAINED = "untrained"
SAME = ("architecture", "timm_kwargs", "preprocessing")


def require_random_transformer(config: MakeControlConfig, target: Dictionary, context: StageContext) -> None:
    """Raises ValueError with a sentence where there can be no such control, before anything is written."""
    facts = model_facts(target, context)
    if facts["source"] == UNTRAINED:
        raise ConfigError(f"'{target.description.name}' reads an untrained model already; there is nothing to control.")
    if isinstance(target, FeedForwardDictionary) and config.trained:
        raise ConfigError("The hidden units of an untrained model are read, not trained; leave 'trained' empty.")
    if config.trained:
        require_counterpart(open_dictionary(config.trained, context), target, context)


def require_counterpart(trained: Dictionary, target: Dictionary, context: StageContext) -> None:
    """Whether ``trained`` is what ``target`` would be on an untrained model."""
    ours, theirs = model_facts(target, context), model_facts(trained, context)
    name = trained.description.name
    if theirs["source"] != UNTRAINED or any(ours[key] != theirs[key] for key in SAME):
        raise ConfigError(f"'{name}' does not read an untrained copy of the model of '{target.description.name}'.")
    sizes = {read: target.n_latents(read) for read in target.reads}
    is_alike = (trained.kind, trained.reads, trained.writes) == (target.kind, target.reads, target.writes)
    if not is_alike or sizes != {read: trained.n_latents(read) for read in trained.reads}:
        raise ConfigError(f"'{name}' is not of the kind, hookpoints and widths of '{target.description.name}'.")


def finish_random_transformer(config: MakeControlConfig, target: Dictionary, context: StageContext) -> list[str]:
    """The artefacts of the run: the untrained model and its head, and the control where it needs no training."""
    if config.trained:
        return [take_over(config, target, context)]
    model = write_untrained_model(config, target, context)
    head = write_own_head(context.store, model)
    digests = [model.digest, *([head.digest] if head is not None else [])]
    if isinstance(target, FeedForwardDictionary):
        return [*digests, read_untrained(config, target, load_vision_model(model), context)]
    context.log(
        f"The untrained model {model.digest[:12]} is registered. A {target.kind} of it must be trained: run "
        f"train-dictionary on it with the settings of '{target.description.name}', then make-control once more with "
        "kind random_transformer and that dictionary as 'trained'."
    )
    return digests


def write_untrained_model(config: MakeControlConfig, target: Dictionary, context: StageContext) -> Artifact:
    source = load_vision_model(context.store.open(target.description.vision_model, kind="vision-model"))
    description = replace(source.description, source=UNTRAINED)
    module = create_vit(description.architecture, description.timm_kwargs, seed=config.seed)
    asked = {"name": f"untrained {description.architecture}", "seed": config.seed}
    return write_vision_model(
        context.store, module, description, parents=[target.description.vision_model], config=asked
    )


def read_untrained(
    config: MakeControlConfig, target: FeedForwardDictionary, model: VisionModel, context: StageContext
) -> str:
    coders: dict[str, FeedForwardCoder] = {}
    for hookpoint, coder in target.coders.items():
        shape = coder.shape
        coders[hookpoint] = read_feed_forward(
            model, hookpoint, k=shape.k, selection=shape.selection, is_normalized=shape.is_normalized
        )
    with context.store.write("dictionary", **request_of(config, context)) as writer:
        write_feed_forward(writer, describe(config, target, target, model.digest), coders)
    return writer.digest


def take_over(config: MakeControlConfig, target: Dictionary, context: StageContext) -> str:
    """A dictionary trained on an untrained model becomes the control: the same weights under another description."""
    source = context.store.open(config.trained, kind="dictionary")
    trained = open_dictionary(config.trained, context)
    description = describe(config, target, trained, trained.description.vision_model)
    with context.store.write("dictionary", **request_of(config, context)) as writer:
        for name in source.manifest["files"]:
            if name != DESCRIPTION:
                (writer.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source.path(name), writer.folder / name)
        writer.write_json(DESCRIPTION, source.json(DESCRIPTION) | asdict(description))
    return writer.digest


def describe(
    config: MakeControlConfig, target: Dictionary, like: Dictionary, vision_model: str
) -> DictionaryDescription:
    return replace(
        like.description,
        kind=RANDOM_TRANSFORMER,
        form=target.kind,
        name=config.name or f"random transformer for {target.description.name}",
        vision_model=vision_model,
        controls=target.digest,
    )


def request_of(config: MakeControlConfig, context: StageContext) -> dict[str, Any]:
    return {
        "config": config_to_dict(config),
        "parents": parent_digests(config),
        "stage_revision": context.stage_revision,
        "seed": config.seed,
    }


def model_facts(dictionary: Dictionary, context: StageContext) -> dict[str, Any]:
    facts: dict[str, Any] = context.store.open(dictionary.description.vision_model, kind="vision-model").json(
        "model.json"
    )
    return facts
