"""English and German are complete: every marked text is translated whole, and pages come in the reader's language."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from django.conf import settings
from django.template import Context, Template
from django.test import Client
from django.utils import translation

from annotation.domain.crowd_money import money
from annotation.models import Participation, Study
from config.translations import PO_PATH, broken_in, collect_texts, merged, missing_from
from config.unmarked import unmarked_in, unmarked_lines
from tests.factories import make_annotator, make_open_study

GERMAN = settings.LOCALE_SOURCES / PO_PATH.format(language="de")
IN_GERMAN = {"Accept-Language": "de-CH,de;q=0.9,en;q=0.5"}


@pytest.fixture(autouse=True)
def next_test_in_english() -> Iterator[None]:
    """A request leaves its language with the thread until the next one."""
    yield
    translation.deactivate()


def german() -> Catalog:
    return merged(GERMAN, collect_texts(settings.BASE_DIR), "de")


def test_every_text_has_a_german_one_with_the_same_placeholders_and_tags() -> None:
    catalog = german()
    assert len(catalog) > 700
    assert missing_from(catalog) == []
    assert broken_in(catalog) == []


def test_a_lost_placeholder_a_doubtful_and_a_half_translated_text_are_found() -> None:
    catalog = Catalog(locale="de")
    catalog.add("%(n)s left", "noch %(m)s")
    catalog.add(("%(n)s day", "%(n)s days"), ("%(n)s Tag", "Tage"))
    catalog.add("<b>whole</b>", "<b>ganz</b>")
    catalog.add("doubtful", "zweifelhaft", flags=["fuzzy"])
    catalog.add(("one", "many"), ("eins", ""))
    assert broken_in(catalog) == ["%(n)s left", "('%(n)s day', '%(n)s days')"]
    assert missing_from(catalog) == ["doubtful", "('one', 'many')"]


def test_nothing_in_the_catalogue_has_gone_from_the_code() -> None:
    with GERMAN.open("rb") as file:
        kept = {str(message.id) for message in read_po(file) if message.id}
    assert sorted(kept - {str(message.id) for message in german()}) == []


def test_every_sentence_of_an_exception_or_a_message_is_marked() -> None:
    assert unmarked_in(settings.BASE_DIR) == []


def test_a_sentence_without_a_mark_is_found_wherever_it_stands() -> None:
    source = """
raise StudyError("Give the cohort a name.")
raise StudyError(_("Give the cohort a name."))
raise Http404(f"There is no study '{slug}'.")
messages.success(request, _("Done for now.") if n else "Nothing was done.")
form.add_error(None, "Correct these fields." % {})
raise ValueError("a width below zero")
logger.error("the worker is gone")
raise NoSuchStudy.DoesNotExist(slug)
raise StudyError(_("%(name)s is gone.") % {"name": f"the study {name}"})
"""
    assert unmarked_lines(source) == [2, 4, 5, 6]


@pytest.fixture
def study(db: None, artifact_root: object) -> Study:
    return make_open_study().study


def test_the_consent_comes_in_german_where_the_browser_asks_for_it(study: Study) -> None:
    client = Client(headers=IN_GERMAN)
    ada = make_annotator(study)
    Participation.objects.filter(user=ada).update(consented_at=None)
    client.force_login(ada)
    page = client.get(f"/work/{study.slug}/consent/").content.decode()
    assert '<html lang="de">' in page
    assert "<h1>Ihre Einwilligung</h1>" in page
    assert "Ich habe dies gelesen und bin einverstanden teilzunehmen." in page


def test_the_player_comes_in_the_language_of_the_button(study: Study) -> None:
    client = Client()
    client.force_login(make_annotator(study))
    address = f"/work/{study.slug}/"
    english = client.get(address).content.decode()
    assert '<html lang="en">' in english
    assert '<button type="submit" class="button button--quiet" name="language" value="de" lang="de">' in english
    back = client.post("/language/setlang/", {"language": "de", "next": address})
    assert back.headers["Location"] == address
    page = client.get(address)
    assert '<html lang="de">' in page.content.decode()
    config = page.context["config"]
    assert config["texts"]["all_saved"] == "Alles gespeichert"
    assert config["questions"][0]["text"] == "Haben die Felder etwas gemeinsam, das Sie benennen könnten?"
    assert '<button type="submit" class="button button--quiet" name="language" value="en" lang="en">English<' in (
        page.content.decode()
    )
    by_action = {row["action"]: row for row in config["keys"]}
    assert by_action["focus-left"]["hint"] == "Pfeile"
    second = [row["help"] for row in config["keys"] if row["question"] == "image_rating"]
    assert second[1] == "etwas (oder Shift+2)"
    assert (by_action["submit"]["help"], by_action["submit"]["group"]) == ("senden und weiter", "Bewegen")


def test_an_endpoint_refuses_in_german(study: Study) -> None:
    client = Client(headers=IN_GERMAN)
    refused = client.post(f"/work/{study.slug}/claim", {}, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]) == (
        401, "Sie sind abgemeldet. Melden Sie sich wieder an; nichts geht verloren.",
    )  # fmt: skip
    client.force_login(make_annotator(study))
    wrong = client.post(f"/work/{study.slug}/claim", {"n": 99}, content_type="application/json")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "„n“ muss eine Zahl von 1 bis 10 sein.")
    assert client.get("/nothing/here/").content.decode().count("Diese Seite gibt es nicht") == 1


def test_amounts_have_the_comma_and_drawings_the_point() -> None:
    with translation.override("de"):
        assert money(Decimal("1234.5"), "EUR") == "€1.234,50"
        assert translation.gettext("Session") == "Sitzung"
        drawn = Template("<i style='width:{{ half }}%'></i>{{ half|floatformat:1 }}").render(Context({"half": 12.5}))
        assert drawn == "<i style='width:12.5%'></i>12.5"
    assert money(Decimal("1234.5"), "EUR") == "€1,234.50"
