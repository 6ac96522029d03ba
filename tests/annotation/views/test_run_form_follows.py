"""The form of a training shows what has an effect, keeps the rest, and says what cannot be before it is started."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.domain import run_limits
from annotation.domain.runs import create_run
from annotation.forms.run import StageForm
from annotation.models import ImageSet, Role, Run, User, VisionModel, Worker
from tests.factories import make_person
from workers.artifacts import ArtifactStore
from workers.stages.configs import ConfigError
from workers.stages.configs.presets import HALVES

pytestmark = pytest.mark.django_db

STAGE = "train-dictionary"


@pytest.fixture(autouse=True)
def rhea(client: Client) -> User:
    user = make_person("rhea", Role.RESEARCHER)
    client.force_login(user)
    return user


@pytest.fixture
def chosen(artifact_root: Path) -> dict[str, Any]:
    """An image set and a small model, as the address names them."""
    images = artifact(artifact_root, "image-set")
    ImageSet.objects.create(name="pets", digest=images, n_images=100)
    return {"stage": STAGE, "image_set": images, "vision_model": model(artifact_root, "small", 2, 32)}


def artifact(root: Path, name: str) -> str:
    with ArtifactStore(root).write("vision-model" if name != "image-set" else name, config={"name": name}) as writer:
        writer.write_json("about.json", name)
    return writer.digest


def model(root: Path, name: str, n_blocks: int, d_model: int, grid: int = 4) -> str:
    row = VisionModel.objects.create(
        name=name, digest=artifact(root, name), architecture="vit", source="untrained", n_blocks=n_blocks,
        d_model=d_model, n_prefix_tokens=1, grid_height=grid, grid_width=grid, preprocessing=HALVES,
    )  # fmt: skip
    return row.digest


def shown(client: Client, values: dict[str, Any]) -> StageForm:
    return form_in(client.get(reverse("run-new"), values))


def form_in(response: Any) -> StageForm:
    form = response.context["form"]
    assert isinstance(form, StageForm)
    return form


def changed(client: Client, form: StageForm, **changes: Any) -> StageForm:
    """The form that follows when somebody changes these fields of the one that is shown, by htmx."""
    sent = dict(form.as_sent().lists())
    return shown(client, {name: value for name, value in (sent | changes).items() if value is not None})


def names(form: StageForm) -> set[str]:
    return set(form.fields)


def value(form: StageForm, name: str) -> Any:
    return form[name].value()


def started(client: Client, form: StageForm, **changes: Any) -> Any:
    sent = dict(form.as_sent().lists()) | changes
    return client.post(f"{reverse('run-new')}?stage={STAGE}", {k: v for k, v in sent.items() if v is not None})


def test_only_what_has_an_effect_is_shown(client: Client, chosen: dict[str, Any]) -> None:
    topk = shown(client, chosen)
    assert {"sparsity_weight", "activation"}.isdisjoint(names(topk))
    jumprelu = changed(client, topk, kind="jumprelu_sae")
    assert names(jumprelu) == names(topk) | {"sparsity_weight"}
    assert (jumprelu["k"].label, topk["k"].label) == ("L0 aimed at", "k")
    relu = changed(client, jumprelu, kind="relu_sae")
    assert names(relu) == names(jumprelu) - {"has_aux"}
    transcoder = changed(client, relu, kind="transcoder")
    assert names(transcoder) == names(topk) - {"has_free_rows"} | {"activation"}
    assert "sparsity_weight" in names(changed(client, transcoder, activation="relu"))
    assert "k" not in names(changed(client, topk, k_each="4, 8"))


def test_values_come_back_when_the_kind_is_changed_to_and_fro(client: Client, chosen: dict[str, Any]) -> None:
    form = changed(client, shown(client, chosen), kind="jumprelu_sae")
    form = changed(client, form, sparsity_weight="0.5", has_aux=None, k="8", hookpoints=["blocks.1"])
    away = changed(client, form, kind="relu_sae")
    assert (value(away, "sparsity_weight"), "has_aux" in names(away)) == ("0.5", False)
    transcoder = changed(client, away, kind="transcoder")
    assert value(transcoder, "hookpoints") == ["blocks.1.mlp.in"]
    transcoder = changed(client, transcoder, activation="abs_topk", hookpoints=["blocks.0.mlp.in"])
    back = changed(client, transcoder, kind="jumprelu_sae")
    assert [value(back, name) for name in ("sparsity_weight", "has_aux", "k")] == ["0.5", False, "8"]
    assert value(back, "hookpoints") == ["blocks.1"]
    again = changed(client, back, kind="transcoder")
    assert (value(again, "activation"), value(again, "hookpoints")) == ("abs_topk", ["blocks.0.mlp.in"])


def test_what_is_kept_aside_is_no_part_of_the_run(client: Client, chosen: dict[str, Any]) -> None:
    form = changed(client, shown(client, chosen), kind="jumprelu_sae")
    form = changed(client, changed(client, form, sparsity_weight="0.5"), kind="topk_sae")
    assert ("kept-sparsity_weight", "0.5") in form.carried()
    started(client, form)
    assert (Run.objects.get().config["kind"], Run.objects.get().config["sparsity_weight"]) == ("topk_sae", 0.0)


def test_without_a_script_a_changed_kind_is_shown_before_it_is_started(client: Client, chosen: dict[str, Any]) -> None:
    form = shown(client, chosen)
    response = started(client, form, kind="jumprelu_sae")
    assert Run.objects.count() == 0
    assert "A choice was changed" in response.content.decode()
    assert '<details class="run-seldom">' in response.content.decode()  # nothing in it is unusual
    follows = form_in(response)
    assert "sparsity_weight" in names(follows)
    asked = started(client, follows, refresh="1", k="9")
    assert (Run.objects.count(), value(form_in(asked), "k")) == (0, "9")
    started(client, follows)
    assert Run.objects.get().config["kind"] == "jumprelu_sae"


def test_each_number_has_its_unit_and_default_beside_it(client: Client, chosen: dict[str, Any]) -> None:
    page = client.get(reverse("run-new"), chosen).content.decode()
    latents = page.partition('id="part-n_latents"')[2].partition('id="part-')[0]
    assert '<span class="run-unit muted">per hookpoint</span>' in latents
    assert "8 to 32 times the width of the model is usual." in latents
    assert "<span>default 1,024</span>" in latents


def test_a_preset_is_seen_in_empty_fields_and_what_is_written_there_wins(
    client: Client, chosen: dict[str, Any]
) -> None:
    form = changed(client, shown(client, chosen), seed="3")
    paper = changed(client, form, preset="paper")
    field = paper.fields["learning_rate"]
    assert (value(paper, "learning_rate"), field.widget.attrs["placeholder"], field.required) == ("", "0.0005", False)
    own = changed(client, paper, learning_rate="0.001")  # the default, but written
    quick = changed(client, own, preset="quick")
    assert value(quick, "n_tokens") == ""
    started(client, own, n_tokens="5000")
    config = Run.objects.get().config
    assert [config[name] for name in ("n_tokens", "batch_tokens", "learning_rate", "clip_norm", "seed")] == [
        5000, 4096, 1e-3, 1.0, 3,
    ]  # fmt: skip
    none = changed(client, paper, preset="")
    assert value(none, "learning_rate") == 1e-3


def test_only_presets_that_fit_the_model_are_offered_and_another_is_refused_with_its_model(
    client: Client, chosen: dict[str, Any], artifact_root: Path
) -> None:
    form = shown(client, chosen)
    assert [name for name, _label in form.fields["preset"].choices] == ["", "quick", "paper", "deep"]  # type: ignore[attr-defined]
    response = client.get(reverse("run-new"), chosen | {"preset": "rrm-vit-b16"})
    sentence = "The preset rrm-vit-b16 is for ViT-B/16, whose width is 768; it is 32 here."
    assert response.context["cost"].problems[0].startswith(sentence)
    refused = form_in(started(client, form_in(response)))
    assert str(refused.errors["preset"][0]).startswith(sentence)
    assert Run.objects.count() == 0

    base = chosen | {"vision_model": model(artifact_root, "base", 12, 768, grid=14)}
    fits = changed(client, shown(client, base), preset="rrm-vit-b16")
    assert len(value(fits, "hookpoints")) == 11
    assert {"k", "n_latents"}.isdisjoint(names(fits))
    assert fits.fields["k_each"].widget.attrs["placeholder"].startswith("4, 32, 64")
    started(client, fits, hookpoints=["blocks.0", "blocks.7"])
    assert [Run.objects.get().config[name] for name in ("k_each", "n_latents_each")] == [[4, 160], [192, 3072]]


def test_a_hookpoint_that_the_model_lacks_is_refused_before_it_is_queued(rhea: User, chosen: dict[str, Any]) -> None:
    config = {name: chosen[name] for name in ("image_set", "vision_model")} | {"hookpoints": ["blocks.1", "blocks.7"]}
    with pytest.raises(ConfigError, match=r"The model small has the blocks 0 to 1; there is no blocks\.7\."):
        create_run(stage=STAGE, config=config, user=rhea)
    assert Run.objects.count() == 0


def small_memory(monkeypatch: pytest.MonkeyPatch, folder: Path, n_bytes: int) -> None:
    """A container that is told to have so much."""
    limit = folder / "memory.max"
    limit.write_text(f"{n_bytes}\n")
    monkeypatch.setattr(run_limits, "CONTAINER_LIMIT", limit)


def test_what_is_larger_than_the_machine_by_far_is_refused_in_a_sentence(
    client: Client, chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small_memory(monkeypatch, tmp_path, 10**8)  # torch alone is more, but by less than ten times
    form = shown(client, chosen)
    page = client.get(reverse("run-new"), chosen)
    assert page.context["cost"].warnings == ["This machine has 100 MB of memory; the run may fail for lack of it."]
    large = changed(client, form, n_latents="1000000")
    refused = form_in(started(client, large))
    assert re.match(
        r"The run would hold about 2\.\d GB of memory, 2\d times the 100 MB of this machine\. Take fewer latents",
        str(refused.non_field_errors()[0]),
    )
    assert Run.objects.count() == 0
    Worker.objects.create(name="elsewhere:1", queue="gpu", seen_at=timezone.now())
    assert started(client, large).status_code == 302


def test_more_than_the_whole_disk_is_refused_and_more_than_is_free_is_said(
    client: Client, chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(total=10**9, used=0, free=10**5))
    page = client.get(reverse("run-new"), chosen)
    assert page.context["cost"].warnings == ["100 kB of disk are free; the run would fail for lack of it."]
    large = changed(client, form_in(page), n_latents="1000000")
    assert "the disk of the artefacts has 1.0 GB in all" in form_in(started(client, large)).non_field_errors()[0]


def test_a_number_that_is_absurd_is_refused_with_the_largest_that_is_allowed(
    client: Client, chosen: dict[str, Any]
) -> None:
    form = shown(client, chosen)
    response = client.get(reverse("run-new"), dict(form.as_sent().lists()) | {"n_latents": "99999999999"})
    sentence = "n_latents is 99,999,999,999; the largest allowed is 1,048,576."
    assert response.context["cost"].problems == [f"Latents: {sentence}"]
    assert form_in(started(client, form, n_latents="99999999999")).errors["n_latents"] == [sentence]


def test_a_run_of_months_is_warned_of_and_one_of_centuries_refused(
    client: Client, chosen: dict[str, Any], artifact_root: Path
) -> None:
    months = {"n_latents": "100000", "n_tokens": "10000000000"}
    page = client.get(reverse("run-new"), chosen | months)
    assert list(page.context["cost"].problems) == []
    assert page.context["cost"].warnings == ["It would take over a month: about 47 days 8 h."]
    base = chosen | {"vision_model": model(artifact_root, "base", 12, 768)}
    page = client.get(reverse("run-new"), base | {"n_latents": "1048576", "n_tokens": "100000000000"})
    [sentence] = page.context["cost"].problems
    assert re.match(r"The run would take about 1,9\d\d years at the rate known here\. Take fewer tokens", sentence)


def test_the_room_here_is_that_of_this_machine(artifact_root: Path) -> None:
    room = run_limits.room_here()
    assert 1e8 < room.memory < 1e14
    assert 0 < room.disk_free <= room.disk_total
