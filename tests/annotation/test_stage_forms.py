"""The forms of stages other than training: what each offers, by what was chosen before."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Dictionary, ImageSet, Role, Run, VisionModel
from tests.factories import make_person
from workers.artifacts import ArtifactStore

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def researcher(client: Client) -> None:
    client.force_login(make_person("rhea", Role.RESEARCHER))


@pytest.fixture
def image_set(artifact_root: Path) -> ImageSet:
    return ImageSet.objects.create(name="pets", digest=artifact(artifact_root, "image-set"), n_images=100)


@pytest.fixture
def vision_model(artifact_root: Path) -> VisionModel:
    return VisionModel.objects.create(
        name="small", digest=artifact(artifact_root, "vision-model"), architecture="vit_tiny_patch16_224",
        source="untrained", n_blocks=2, d_model=32, n_prefix_tokens=1, grid_height=4, grid_width=4,
    )  # fmt: skip


def artifact(root: Path, kind: str) -> str:
    with ArtifactStore(root).write(kind, config={"name": kind}) as writer:
        writer.write_json("about.json", kind)
    return writer.digest


def text_of(client: Client, address: str, **query: str) -> str:
    return client.get(address, query).content.decode()


def test_the_mlps_of_a_model_are_read_for_each_k_that_is_written(
    client: Client, image_set: ImageSet, vision_model: VisionModel
) -> None:
    address = reverse("run-new")
    query = {"stage": "read-feed-forward", "image_set": image_set.digest, "vision_model": vision_model.digest}
    text = text_of(client, address, **query)
    assert 'value="blocks.1.mlp.hidden"' in text
    assert 'value="blocks.1.mlp.in"' not in text
    assert 'name="k" value="0, 10"' in text
    assert '<option value="contribution">contribution</option>' in text
    asked = query | {"name": "mlps", "k": "0, 5,20", "selection": "contribution", "scaling": "plain", "poles": "both"}
    posted = f"{address}?stage=read-feed-forward"
    assert "such as 0, 10" in client.post(posted, asked | {"k": "all"}).content.decode()
    client.post(posted, asked)
    run = Run.objects.get()
    assert (run.config["k"], run.config["selection"], run.queue) == ([0, 5, 20], "contribution", "cpu")


def test_images_can_be_embedded_and_dictionaries_aligned_by_a_form(
    client: Client, image_set: ImageSet, vision_model: VisionModel
) -> None:
    address = reverse("run-new")
    stages = text_of(client, address)
    assert "?stage=embed-images" in stages
    assert "?stage=align-dictionaries" in stages
    query = {"stage": "embed-images", "image_set": image_set.digest, "vision_model": vision_model.digest}
    assert f"{image_set.n_images:,} images, at 200 images per second, a guess" in text_of(client, address, **query)
    first, second = (
        Dictionary.objects.create(
            name=name, digest=digit * 64, kind="topk_sae", vision_model=vision_model, image_set=image_set,
            hookpoints=["blocks.0", own], config={"n_latents": 64},
        )
        for name, digit, own in (("one", "1", "blocks.1"), ("two", "2", "blocks.2"))
    )  # fmt: skip
    text = text_of(client, address, stage="align-dictionaries", dictionary=first.digest)
    assert "Choose the dictionaries to see which." in text
    text = text_of(client, address, stage="align-dictionaries", dictionary=first.digest, other=second.digest)
    assert 'name="hookpoints" value="blocks.0"' in text
    assert 'value="blocks.1"' not in text
    Dictionary.objects.filter(pk=first.pk).update(kind="ff_kv", hookpoints=["blocks.0.mlp.hidden"])
    Dictionary.objects.filter(pk=second.pk).update(kind="transcoder", hookpoints=["blocks.0.mlp.in"])
    for one, other, shown in ((first, second, "hidden"), (second, first, "in")):
        form = text_of(client, address, stage="align-dictionaries", dictionary=one.digest, other=other.digest)
        assert f'name="hookpoints" value="blocks.0.mlp.{shown}"' in form
        assert form.count('name="hookpoints"') == 1
    assert "128 latents, at 2,000 latents per second" in text


def test_the_precision_of_exemplars_is_chosen_not_written(client: Client) -> None:
    page = client.get(reverse("run-new") + "?stage=collect-exemplars").content.decode()
    assert re.findall(r'<option value="(float\w+|bfloat\w+)"', page) == ["float32", "bfloat16"]


def test_exemplars_of_dictionaries_of_several_models_are_refused_before_they_are_queued(
    client: Client, image_set: ImageSet, vision_model: VisionModel, artifact_root: Path
) -> None:
    other = VisionModel.objects.create(
        name="other", digest="b" * 64, architecture="vit", source="untrained", n_blocks=2, d_model=32,
        n_prefix_tokens=1, grid_height=4, grid_width=4,
    )  # fmt: skip
    digests = [artifact(artifact_root, kind) for kind in ("dictionary", "readout")]
    for model, digest in zip((vision_model, other), digests, strict=True):
        Dictionary.objects.create(
            name=model.name, digest=digest, kind="topk_sae", vision_model=model, image_set=image_set,
            hookpoints=["blocks.0"], config={"n_latents": 64},
        )  # fmt: skip
    sentence = "The dictionaries read different vision models (other, small); one pass serves those of one model."
    asked = {"stage": "collect-exemplars", "image_set": image_set.digest, "dictionaries": digests}
    assert client.get(reverse("run-new"), asked).context["cost"].problems == [sentence]
    sent = {"image_set": image_set.digest, "dictionaries": digests, "n_top": 24, "seed": 0}
    response = client.post(reverse("run-new") + "?stage=collect-exemplars", sent)
    assert response.context["form"].errors["dictionaries"] == [sentence]
    assert Run.objects.count() == 0
