"""Stage import-dictionary: another library's files as a dictionary, once they rebuild the model's activations.

One chunk reads the files and a few images and measures how well each coder does (``formats.checking``); a dictionary
that does not is refused there, before anything is written. ``finish`` reads the files once more and writes the artefact
with the figures beside it, in ``import.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerCoder, write_cross_layer
from workers.dictionaries.formats.checking import TOKENS, Fit, fit_coder, fit_cross_layer, refuse_wrong
from workers.dictionaries.formats.detection import FORMATS, Found, read_path
from workers.dictionaries.formats.places import neighbors, our_hookpoint, write_of
from workers.dictionaries.formats.sampling import sample_activations
from workers.dictionaries.formats.weights import FormatError, Hints, Site, demand
from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.store import NEGATIVE, POSITIVE, DictionaryDescription, write_coders
from workers.stages.configs import ImportDictionaryConfig, config_to_dict, parent_digests
from workers.stages.configs.importing import fingerprint, import_source
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import open_images, open_model
from workers.vision_model import VisionModel

CHECK = "check.json"
Places = list[tuple[str, str]]  # where each coder reads and where it writes


def plan(config: ImportDictionaryConfig, context: StageContext) -> list[ChunkPlan]:
    """What cannot be read or does not fit is refused here, before any image is."""
    model = open_model(config.vision_model, context)
    found = read_source(config, context)
    check_sizes(found, places_of(config, found, model), model)
    return [ChunkPlan(0, {}, n_units=config.n_images)]


def execute(config: ImportDictionaryConfig, payload: dict[str, Any], context: StageContext) -> None:
    model = open_model(config.vision_model, context)
    found = read_source(config, context)
    places = places_of(config, found, model)
    named = [named_place(site, model) for site in found.sites]
    activations = read_activations(config, model, [*places, *(pair for pair in named if pair[0])], context)
    chosen, fits = check_found(found, places, named, activations, name_of(config))
    for fit in fits:
        context.log(f"{fit.source}: explained variance {fit.explained_variance:.3f} at {fit.writes}, L0 {fit.l0:.1f}.")
    refuse_wrong(fits, is_forced=config.is_forced, log=context.log)
    check = {"chosen": chosen, "fits": [fit.to_json() for fit in fits], "n_images": config.n_images}
    (context.chunk_folder / CHECK).write_text(json.dumps(check))


def finish(config: ImportDictionaryConfig, context: StageContext) -> dict[str, list[str]]:
    model = open_model(config.vision_model, context)
    found = read_source(config, context)
    places = places_of(config, found, model)
    check = json.loads((context.chunk(0) / CHECK).read_text())
    coders = {
        reads: site.readings[index].coder
        for site, (reads, _), index in zip(found.sites, places, check["chosen"], strict=False)
    }
    kind = kind_of(found, check["chosen"])
    description = DictionaryDescription(
        kind=kind,
        name=name_of(config),
        reads=tuple(reads for reads, _ in places),
        writes=tuple(writes for _, writes in places),
        vision_model=config.vision_model,
        image_set=config.image_set,
        preprocessing=model.description.preprocessing.to_json(),
        poles=(POSITIVE, NEGATIVE) if any(coder.shape.is_signed for coder in coders.values()) else (POSITIVE,),
        origin=f"{FORMATS[found.format].TITLE}: {config.path}",
    )
    with context.store.write(
        "dictionary",
        config=config_to_dict(config) | shown_facts(description, coders, found.cross_layer),
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
    ) as writer:
        if found.cross_layer is not None:
            write_cross_layer(writer, description, found.cross_layer)
        else:
            write_coders(writer, description, coders)
        facts = {"format": found.format, "path": config.path, "image_set": config.image_set}
        writer.write_json("import.json", facts | {"check": check, "is_forced": config.is_forced})
    return {"artifacts": [writer.digest]}


def source_of(config: ImportDictionaryConfig, context: StageContext) -> Path:
    """The files; raises ConfigError where they are not those that were there when the run was asked for."""
    source = import_source(context.import_root, config.path)
    if config.files and fingerprint(source) != config.files:
        raise FormatError(f"The files of '{config.path}' changed after the import was asked for; start it again.")
    return source


def read_source(config: ImportDictionaryConfig, context: StageContext) -> Found:
    found = read_path(source_of(config, context), config.format, Hints(config.k))
    if config.k:
        check_k(found, config.k)
    return found


def check_k(found: Found, k: int) -> None:
    """k is asked for where no file holds it; raises FormatError where one does, and it is another."""
    demand(found.cross_layer is None, "A cross-layer transcoder has thresholds; leave k out.")
    for site in found.sites:
        own = [reading.coder.k for reading in site.readings if reading.coder.shape.selection != "threshold"]
        demand(bool(own), f"{site.source} has thresholds, which say what latents are active; leave k out.")
        demand(k in own, f"{site.source} says that k is {own[0]}, not {k}; leave k out.")


def name_of(config: ImportDictionaryConfig) -> str:
    return config.name or Path(config.path).name


def places_of(config: ImportDictionaryConfig, found: Found, model: VisionModel) -> Places:
    """Where each coder reads and writes: as asked for, else as its file says; raises FormatError with a sentence."""
    known = model.hookpoints()
    if found.cross_layer is not None:
        places = cross_layer_places(config, found.cross_layer, model)
    else:
        check_count(config, found.sites)
        asked: Sequence[str] = config.hookpoints or [""] * len(found.sites)
        places = [place_of(site, read, model) for site, read in zip(found.sites, asked, strict=True)]
    for name in {name for pair in places for name in pair}:
        demand(name in known, f"The model has no hookpoint '{name}'; it has {known[0]} to {known[-1]}.")
    reads = [read for read, _ in places]
    twice = next((read for read in reads if reads.count(read) > 1), "")
    sources = [site.source for site, read in zip(found.sites, reads, strict=False) if read == twice]
    demand(not twice, f"Several coders read {twice} ({', '.join(sources)}); import the file or folder of one.")
    return places


def check_count(config: ImportDictionaryConfig, sites: Sequence[Site]) -> None:
    names = ", ".join(site.source for site in sites)
    demand(
        len(config.hookpoints) in (0, len(sites)),
        f"{config.path} holds {len(sites)} coders ({names}) and {len(config.hookpoints)} hookpoints are named; name "
        "one for each, in that order.",
    )


def place_of(site: Site, asked: str, model: VisionModel) -> tuple[str, str]:
    read = asked or our_hookpoint(site.reads, model.n_blocks)
    is_transcoder = site.readings[0].kind == "transcoder"
    demand(read != "", f"{site.source} does not say where it reads; name its hookpoint.")
    if not is_transcoder:
        return read, read
    demand(
        read.endswith(".mlp.in") or (bool(site.writes) and not asked),
        f"{site.source} is a transcoder; name what it reads, such as blocks.3.mlp.in, not '{read}'.",
    )
    return read, write_of(read) if asked or not site.writes else our_hookpoint(site.writes, model.n_blocks)


def named_place(site: Site, model: VisionModel) -> tuple[str, str]:
    """Where the file itself says that it reads and writes; nothing where it does not say, or the model has no such."""
    try:
        places = place_of(site, "", model)
    except FormatError:
        return "", ""
    return places if all(place in model.hookpoints() for place in places) else ("", "")


def cross_layer_places(config: ImportDictionaryConfig, coder: CrossLayerCoder, model: VisionModel) -> Places:
    n_layers = coder.shape.n_sources
    if config.hookpoints:
        demand(
            len(config.hookpoints) == n_layers,
            f"{config.path} is a cross-layer transcoder of {n_layers} layers, and {len(config.hookpoints)} hookpoints "
            "are named; name what each layer reads, or none.",
        )
        return [(read, write_of(read)) for read in config.hookpoints]
    demand(
        n_layers == model.n_blocks,
        f"{config.path} has {n_layers} layers and the model {model.n_blocks} blocks: it was trained on another model, "
        "or name what each layer reads.",
    )
    return [(f"blocks.{number}.mlp.in", f"blocks.{number}.mlp.out") for number in range(n_layers)]


def check_sizes(found: Found, places: Places, model: VisionModel) -> None:
    """Widths are known without a forward pass."""
    for site, (reads, writes) in zip(found.sites, places, strict=False):
        coder = site.readings[0].coder
        for width, place in ((coder.d_model, reads), (coder.shape.width_written, writes)):
            check_width(site.source, width, place, model)
    if found.cross_layer is not None:
        for reads, writes in places:
            check_width("The cross-layer transcoder", found.cross_layer.shape.d_model, reads, model)
            check_width("The cross-layer transcoder", found.cross_layer.shape.d_out, writes, model)


def check_width(source: str, width: int, place: str, model: VisionModel) -> None:
    demand(
        model.width_of(place) == width,
        f"{source} is for activations of {width} dimensions, and {place} of the model has {model.width_of(place)}: it "
        "was trained on another model, or at another hookpoint.",
    )


def read_activations(
    config: ImportDictionaryConfig, model: VisionModel, places: Places, context: StageContext
) -> dict[str, Tensor]:
    """Tokens of a few images at the places and at those beside them, for the hints."""
    names = [name for pair in places for name in pair]
    beside = [other for name in dict.fromkeys(names) for other in neighbors(name, model.hookpoints())]

    def on_images(n_done: int) -> None:
        context.progress(n_done)
        context.raise_if_cancelled()

    return sample_activations(
        model,
        open_images(config.image_set, context),
        list(dict.fromkeys([*names, *beside])),
        n_images=config.n_images,
        n_tokens=TOKENS,
        n_threads=context.n_threads,
        on_images=on_images,
    )


def check_found(
    found: Found,
    places: Places,
    named: Places,
    activations: dict[str, Tensor],
    name: str,
) -> tuple[list[int], list[Fit]]:
    """Which reading of each coder explains most, and how well each does; ``named`` are the places the files name."""
    device = next(iter(activations.values())).device
    if found.cross_layer is not None:
        coder = found.cross_layer.to(device)
        sources, targets = [read for read, _ in places], [write for _, write in places]
        return [], fit_cross_layer(coder, name, sources, targets, activations)
    chosen, fits = [], []
    for site, (reads, writes), own in zip(found.sites, places, named, strict=True):
        readings = [reading._replace(coder=reading.coder.to(device)) for reading in site.readings]
        index, fit = fit_coder(readings, site.source, reads, writes, activations, own)
        chosen.append(index)
        fits.append(fit)
    return chosen, fits


def kind_of(found: Found, chosen: Sequence[int]) -> str:
    if found.cross_layer is not None:
        return "cross_layer_transcoder"
    kinds = {site.readings[index].kind for site, index in zip(found.sites, chosen, strict=True)}
    demand(len(kinds) == 1, f"The coders are of several kinds ({', '.join(sorted(kinds))}); import each by itself.")
    return kinds.pop()


def shown_facts(
    description: DictionaryDescription, coders: dict[str, SparseCoder], clt: CrossLayerCoder | None
) -> dict[str, Any]:
    """What the catalog shows of a dictionary beside what was asked for."""
    n_latents = clt.shape.n_latents[0] if clt is not None else next(iter(coders.values())).n_latents
    return {
        "name": description.name,
        "hookpoints": list(description.reads),
        "n_latents": n_latents,
        "origin": description.origin,
    }
