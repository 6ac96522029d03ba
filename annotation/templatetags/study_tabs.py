"""The pages of a study as two rows of links, a row of groups and the pages of the one that is open.

Twenty pages in one row are a search; six groups are a choice. A link is shown to those who may open it only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django import template
from django.template import Context
from django.urls import reverse

from annotation.domain.results import studies_with_results
from annotation.domain.threads import unresolved_counts
from annotation.models import Study, User
from annotation.templatetags.open_remarks import badge
from annotation.views.study_access import may_edit

register = template.Library()

READER, EDITOR, RESULTS = "reader", "editor", "results"
ALWAYS, DRAFT, LAUNCHED, PILOT = "always", "draft", "launched", "pilot"


class Tab(NamedTuple):
    """One page: its short name, what it is called, its address, and for whom and when it is there."""

    name: str
    title: str
    url_name: str
    who: str = READER
    when: str = ALWAYS


GROUPS: dict[str, tuple[Tab, ...]] = {
    "Overview": (Tab("overview", "Overview", "study"),),
    "Set up": (
        Tab("edit", "Settings and sample", "study-edit", EDITOR, DRAFT),
        Tab("guideline", "Guideline", "study-guideline"),
        Tab("categories", "Categories", "study-categories"),
        Tab("vocabulary", "Vocabulary", "study-vocabulary"),
        Tab("reference", "Practice and gold", "study-reference"),
        Tab("plan", "Plan", "study-plan", RESULTS, DRAFT),
        Tab("preregistration", "Pre-registration", "study-preregistration"),
        Tab("launch", "Launch", "study-launch", READER, DRAFT),
        Tab("versions", "Versions", "study-versions", READER, LAUNCHED),
    ),
    "People": (Tab("people", "Roles", "study-people"), Tab("crowd", "Crowd and pay", "study-crowd", EDITOR)),
    "Work": (
        Tab("queue", "Queue", "study-queue", READER, LAUNCHED),
        Tab("quality", "Quality", "study-quality", READER, LAUNCHED),
        Tab("review", "Review", "study-review", READER, LAUNCHED),
        Tab("remarks", "Remarks", "study-remarks", READER, LAUNCHED),
    ),
    "Results": (
        Tab("pilot", "Pilot", "pilot-report", RESULTS, PILOT),
        Tab("report", "Report", "report", RESULTS, LAUNCHED),
        Tab("export", "Export", "exports", RESULTS, LAUNCHED),
    ),
    "Exchange": (Tab("exchange", "Exchange", "study-exchange"),),
}


class Link(NamedTuple):
    """What the template shows; `is_current`: this page, or the group it is in."""

    title: str
    url: str
    is_current: bool
    badge: str


@register.inclusion_tag("annotation/studies/tabs.html", takes_context=True)
def study_tabs(context: Context, study: Study, current: str) -> dict[str, Any]:
    """`{% study_tabs study "report" %}`; `current` is the short name of the page."""
    shown = allowed_tabs(study, context["user"])
    remarks = badge(unresolved_counts([study])[study.pk]) if study.state != Study.State.DRAFT else ""
    groups, pages = [], []
    for group, tabs in shown.items():
        is_open = current in {tab.name for tab in tabs}
        has_remarks = any(tab.name == "remarks" for tab in tabs)
        groups.append(Link(group, address(study, tabs[0]), is_open, remarks if has_remarks and not is_open else ""))
        if is_open and len(tabs) > 1:
            pages = [
                Link(tab.title, address(study, tab), tab.name == current, remarks if tab.name == "remarks" else "")
                for tab in tabs
            ]
    return {"groups": groups, "pages": pages}


def allowed_tabs(study: Study, user: User) -> dict[str, list[Tab]]:
    """The groups that have a page for this person at this stage of the study."""
    who = {READER} | ({EDITOR} if may_edit(study, user) else set())
    if user.is_researcher or studies_with_results(user).filter(pk=study.pk).exists():
        who.add(RESULTS)
    when = {ALWAYS, DRAFT if study.state == Study.State.DRAFT else LAUNCHED}
    if study.pilot_of_id:
        when.add(PILOT)
    shown = {group: list(fitting(tabs, who, when)) for group, tabs in GROUPS.items()}
    return {group: tabs for group, tabs in shown.items() if tabs}


def fitting(tabs: Iterable[Tab], who: set[str], when: set[str]) -> Iterable[Tab]:
    return (tab for tab in tabs if tab.who in who and tab.when in when)


def address(study: Study, tab: Tab) -> str:
    return reverse(tab.url_name, args=[study.slug])
