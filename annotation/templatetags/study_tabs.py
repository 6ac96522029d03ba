"""The pages of a study as two rows of links, a row of groups and the pages of the one that is open.

Twenty pages in one row are a search; six groups are a choice. A link is shown to those who may open it only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django import template
from django.template import Context
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

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
    _("Overview"): (Tab("overview", _("Overview"), "study"),),
    _("Set up"): (
        Tab("edit", _("Settings and sample"), "study-edit", EDITOR, DRAFT),
        Tab("guideline", _("Guideline"), "study-guideline"),
        Tab("categories", _("Categories"), "study-categories"),
        Tab("vocabulary", _("Vocabulary"), "study-vocabulary"),
        Tab("reference", _("Practice and gold"), "study-reference"),
        Tab("plan", _("Plan"), "study-plan", RESULTS, DRAFT),
        Tab("preregistration", _("Pre-registration"), "study-preregistration"),
        Tab("launch", _("Launch"), "study-launch", READER, DRAFT),
        Tab("versions", _("Versions"), "study-versions", READER, LAUNCHED),
    ),
    _("People"): (Tab("people", _("Roles"), "study-people"), Tab("crowd", _("Crowd and pay"), "study-crowd", EDITOR)),
    _("Work"): (
        Tab("queue", _("Queue"), "study-queue", READER, LAUNCHED),
        Tab("quality", _("Quality"), "study-quality", READER, LAUNCHED),
        Tab("review", _("Review"), "study-review", READER, LAUNCHED),
        Tab("remarks", _("Remarks"), "study-remarks", READER, LAUNCHED),
    ),
    _("Results"): (
        Tab("pilot", _("Pilot"), "pilot-report", RESULTS, PILOT),
        Tab("report", _("Report"), "report", RESULTS, LAUNCHED),
        Tab("export", _("Export"), "exports", RESULTS, LAUNCHED),
    ),
    _("Exchange"): (Tab("exchange", _("Exchange"), "study-exchange"),),
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
        groups.append(
            Link(gettext(group), address(study, tabs[0]), is_open, remarks if has_remarks and not is_open else "")
        )
        if is_open and len(tabs) > 1:
            pages = [
                Link(
                    gettext(tab.title),
                    address(study, tab),
                    tab.name == current,
                    remarks if tab.name == "remarks" else "",
                )
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
