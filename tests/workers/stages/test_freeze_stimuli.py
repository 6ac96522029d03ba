"""Freezing a plan of every builder from real exemplars: rows, truth, reasons, and the same bytes in any chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.workers.stages.tiny_world import TinyWorld, make_tiny_world
from workers.artifacts import Artifact
from workers.stages import freeze_stimuli
from workers.stages.configs import CollectExemplarsConfig, EmbedImagesConfig, FreezeStimuliConfig
from workers.stages.context import ChunkPlan

FILE = "blocks.1.safetensors"
BUILDERS = ("sheet", "two-alternative", "intruder", "verification", "pair", "patch-marking")
SMALL = {"n_references": 4, "n_images": 4}  # seventy images do not fill a whole board


class Frozen(NamedTuple):
    world: TinyWorld
    exemplars: Artifact
    embeddings: Artifact
    active: list[int]  # latents that fire on 20 to 50 images
    dead: int

    def plan(self, lines: Sequence[dict[str, Any]]) -> str:
        with self.world.store.write("feature-set", config={"lines": len(lines)}) as writer:
            writer.write_json("sources.json", [{"exemplars": self.exemplars.digest, "file": FILE}])
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (writer.folder / "items.jsonl").write_text(text)
        return writer.digest

    def freeze(self, lines: Sequence[dict[str, Any]], embeddings: str = "") -> Artifact:
        config = FreezeStimuliConfig(self.world.image_set.digest, self.plan(lines), embeddings)
        return self.world.run("freeze-stimuli", config)[0]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    world = make_tiny_world(tmp_path_factory.mktemp("world"))
    dictionary = world.train(0)
    [exemplars] = world.run("collect-exemplars", CollectExemplarsConfig(world.image_set.digest, (dictionary.digest,)))
    [embeddings] = world.run("embed-images", EmbedImagesConfig(world.image_set.digest, world.vision_model.digest))
    counts = load_file(exemplars.path(FILE))["n_images_active"]
    middling = np.where((counts >= 20) & (counts <= 50))[0]
    return Frozen(world, exemplars, embeddings, middling.tolist(), int(np.where(counts == 0)[0][0]))


def line(number: int, builder: str, latent: int, **fields: Any) -> dict[str, Any]:
    whole = {
        "number": number, "builder": builder, "feature": [0, latent], "matched": [0, latent], "other": None,
        "options": SMALL, "variant": "", "text": "", "truth": {}, "seed": number,
    }  # fmt: skip
    if builder == "sheet":
        cells = [[0, latent, place] for place in range(16)]
        whole |= {"patches": cells, "images": cells}
    return whole | fields


def lines_of_all(frozen: Frozen) -> list[dict[str, Any]]:
    first, second = frozen.active[:2]
    return [
        line(number, builder, first, other=[0, second], text="Red tiles.", variant="hard" if number == 1 else "")
        for number, builder in enumerate(BUILDERS)
    ]


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    return [json.loads(row) for row in artifact.path("items.jsonl").read_text().splitlines()]


def test_every_builder_freezes_pictures_a_record_and_its_truth(frozen: Frozen) -> None:
    artifact = frozen.freeze(lines_of_all(frozen), frozen.embeddings.digest)
    rows = rows_of(artifact)
    assert [row["number"] for row in rows] == list(range(6))
    assert [row["n_cells"] for row in rows] == [
        {"patches": 16, "images": 16}, {"reference": 4, "contrast": 4, "queries": 2}, {"candidates": 4},
        {"queries": 4}, {"left": 4, "right": 4}, {"reference": 4, "queries": 4},
    ]  # fmt: skip
    assert [set(row["truth"]) for row in rows] == [
        set(), {"query", "similarity"}, {"intruder", "range"}, {"matches", "kinds", "ranges", "similarities"},
        {"left"}, {"maps", "ranges"},
    ]  # fmt: skip
    for row in rows:
        record = artifact.json(f"items/{row['stimulus']}.json")
        assert (record["truth"], record["text"]) == (row["truth"], "Red tiles.")
        assert artifact.path(f"sprites/{row['stimulus']}.webp").read_bytes()[8:12] == b"WEBP"
        assert artifact.path(f"zoom/{row['stimulus']}.webp").read_bytes()[8:12] == b"WEBP"
    parents = artifact.manifest["parents"]
    assert (parents[0], parents[2]) == (frozen.world.image_set.digest, frozen.embeddings.digest)


def test_the_hard_query_is_found_by_the_embeddings(frozen: Frozen) -> None:
    [row] = rows_of(frozen.freeze(lines_of_all(frozen)[1:2], frozen.embeddings.digest))
    embeddings = load_file(frozen.embeddings.path("embeddings.safetensors"))["embeddings"].astype(np.float32)
    store = frozen.freeze(lines_of_all(frozen)[1:2], frozen.embeddings.digest)
    cells = store.json(f"items/{row['stimulus']}.json")["panels"][2]["cells"]
    one, other = (embeddings[cell["image_index"]] for cell in cells)
    assert row["truth"]["similarity"] == pytest.approx(float(one @ other), abs=1e-4)


def test_what_cannot_be_built_is_a_row_with_its_reason(frozen: Frozen) -> None:
    latent = frozen.active[0]
    lines = [
        line(0, "two-alternative", latent, variant="hard"),
        line(1, "patch-marking", latent, options={"n_references": 99}),
        line(2, "sheet", frozen.dead),
        line(3, "intruder", latent),
    ]
    artifact = frozen.freeze(lines)
    hard, many, dead, built = rows_of(artifact)
    assert set(hard) == set(many) == set(dead) == {"number", "ineligible"}
    assert dead["ineligible"] == "No image activates the feature."
    assert hard["ineligible"] == (
        "Hard contrasts need embeddings of the images; run embed-images and choose them in the study."
    )
    assert many["ineligible"].endswith("activating images for its references; 99 are needed.")
    assert [path.stem for path in (artifact.folder / "items").iterdir()] == [built["stimulus"]]


def test_the_stimuli_are_the_same_in_any_chunks(frozen: Frozen, tmp_path: Path) -> None:
    lines = lines_of_all(frozen)
    whole = frozen.freeze(lines, frozen.embeddings.digest)
    config = FreezeStimuliConfig(frozen.world.image_set.digest, frozen.plan(lines), frozen.embeddings.digest)
    plans = [ChunkPlan(0, {"start": start, "stop": start + 2}) for start in (0, 2, 4)]
    assert run_once(frozen.world, config, plans, tmp_path) == [whole.digest]


def run_once(world: TinyWorld, config: FreezeStimuliConfig, plans: list[ChunkPlan], folder: Path) -> list[str]:
    from workers.stages.context import StageContext

    roots = {world.image_set.digest: world.root}
    context = StageContext(
        world.store, folder, folder, n_chunks=len(plans), image_roots=roots.__getitem__, stage_revision=4
    )
    for index, plan in enumerate(plans):
        context.chunk_folder = context.chunk(index)
        context.chunk_folder.mkdir(parents=True)
        freeze_stimuli.execute(config, plan.payload, context)
    return freeze_stimuli.finish(config, context)["artifacts"]


def test_embeddings_of_another_image_set_are_refused(frozen: Frozen) -> None:
    with frozen.world.store.write("image-embeddings", config={}) as writer:
        writer.write_json("embeddings.json", {"image_set": "0" * 64})
    with pytest.raises(ValueError, match="embeddings are of another image set"):
        frozen.freeze(lines_of_all(frozen), writer.digest)


def test_an_unknown_builder_stops_the_run(frozen: Frozen) -> None:
    with pytest.raises(ValueError, match="asks for the builder 'occlusion'"):
        frozen.freeze([line(0, "occlusion", frozen.active[0])])
