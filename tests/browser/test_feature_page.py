"""The feature page in a real Chromium: heat maps over pictures, outlined patches, keys, zoom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.test import Client

from annotation.models import Feature, Role, User
from tests.exemplar_factory import Catalog, CatalogPlan, build_catalog
from workers.artifacts import ArtifactStore

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.django_db(transaction=True)

PIXELS = "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
ALPHA = f"canvas => {PIXELS}.filter((_, i) => i % 4 === 3)"


@pytest.fixture
def catalog(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")
    plan = CatalogPlan(n_images=48, image_size=224, grid=(14, 14), n_latents=6)
    return build_catalog(ArtifactStore(artifact_root), tmp_path, plan)


@pytest.fixture
def signed_in(browser_context: BrowserContext, page: Page, catalog: Catalog) -> Page:
    client = Client()
    client.force_login(User.objects.create_user("rita", role=Role.RESEARCHER))
    page.goto("/")
    browser_context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": page.url.rstrip("/")}]
    )
    return page


def latent(number: int) -> Feature:
    return Feature.objects.get(hookpoint="blocks.0", latent=number)


def open_feature(page: Page, feature: Feature, query: str = "") -> list[str]:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"/features/{feature.pk}/{query}")
    page.wait_for_load_state("networkidle")
    return problems


def test_each_top_image_carries_the_map_of_its_patches(signed_in: Page, catalog: Catalog) -> None:
    problems = open_feature(signed_in, latent(3))
    canvases = signed_in.locator("section:has(#top-images) .heat")
    sizes = canvases.evaluate_all("all => all.map(canvas => [canvas.width, canvas.height])")
    assert sizes == [[14, 14]] * len(sizes)
    assert len(sizes) == min(16, latent(3).n_images_active)
    strengths = set(canvases.first.evaluate(f"canvas => Object.values(({ALPHA})(canvas))"))
    assert max(strengths) == round(255 * 0.5)  # the strongest patch at the opacity of the slider
    assert problems == []


def test_the_strongest_patch_is_drawn_with_its_surroundings(signed_in: Page, catalog: Catalog) -> None:
    open_feature(signed_in, latent(3))
    drawn = signed_in.locator(".surroundings[data-is-drawn=yes]")
    drawn.first.wait_for()
    colors = drawn.first.evaluate(f"canvas => new Set({PIXELS}).size")
    assert colors > 50  # a picture, not a flat field
    assert drawn.count() == signed_in.locator(".surroundings").count()


def test_space_switches_the_heat_map_and_the_choice_is_kept(signed_in: Page, catalog: Catalog) -> None:
    open_feature(signed_in, latent(3))
    heat = signed_in.locator("section:has(#top-images) .heat").first
    assert heat.is_visible()
    signed_in.keyboard.press("Space")
    assert heat.is_hidden()
    signed_in.reload()
    assert signed_in.locator("section:has(#top-images) .heat").first.is_hidden()
    signed_in.keyboard.press("Space")
    assert signed_in.locator("section:has(#top-images) .heat").first.is_visible()


def test_j_and_k_walk_through_the_filtered_list(signed_in: Page, catalog: Catalog) -> None:
    open_feature(signed_in, latent(2), "?hookpoint=blocks.0")
    signed_in.keyboard.press("j")
    signed_in.wait_for_url(f"**/features/{latent(3).pk}/?hookpoint=blocks.0")
    signed_in.keyboard.press("k")
    signed_in.wait_for_url(f"**/features/{latent(2).pk}/?hookpoint=blocks.0")


def test_a_picture_opens_large_with_its_map_and_a_link_to_the_image(signed_in: Page, catalog: Catalog) -> None:
    open_feature(signed_in, latent(3))
    first = signed_in.locator("a[data-large]").first
    address = first.get_attribute("href")
    first.click()
    dialog = signed_in.locator("#zoom")
    assert dialog.locator(".heat").evaluate("canvas => canvas.width") == 14
    assert dialog.locator("#zoom-link").evaluate("link => link.pathname") == address
    signed_in.keyboard.press("Escape")
    assert dialog.is_hidden()


def test_the_opacity_slider_repaints_the_maps(signed_in: Page, catalog: Catalog) -> None:
    open_feature(signed_in, latent(3))
    signed_in.locator("#heat-opacity").fill("100")
    strengths = signed_in.locator("section:has(#top-images) .heat").first.evaluate(
        f"canvas => Object.values(({ALPHA})(canvas))"
    )
    assert max(strengths) == 255


def test_the_list_shows_a_map_on_every_tile(signed_in: Page, catalog: Catalog) -> None:
    signed_in.goto(f"/dictionaries/{catalog.dictionary.pk}/features/")
    widths = signed_in.locator(".feature-card .heat").evaluate_all("all => all.map(canvas => canvas.width)")
    assert widths == [14] * (10 * 4)
    signed_in.locator(".feature-link").first.click()
    signed_in.wait_for_url("**/features/*/")
