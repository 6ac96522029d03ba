"""How many remarks wait for somebody, as a badge: `{% load open_remarks %}`."""

from __future__ import annotations

from collections.abc import Sequence

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from annotation.domain.threads import unresolved_counts, unresolved_for
from annotation.models import Study, User

register = template.Library()


@register.simple_tag
def open_remarks(study: Study) -> SafeString | str:
    """Of one study."""
    return badge(unresolved_counts([study])[study.pk])


@register.simple_tag
def my_open_remarks(user: User) -> SafeString | str:
    """Of every study this person owns or researches in."""
    return badge(unresolved_for(user)) if user.is_researcher else ""


@register.simple_tag
def open_remark_counts(studies: Sequence[Study]) -> dict[int, int]:
    """Of every study of a list, in two queries."""
    return unresolved_counts(studies)


@register.filter
def badge_of(counts: dict[int, int], study: Study) -> SafeString | str:
    return badge(counts.get(study.pk, 0))


def badge(n: int) -> SafeString | str:
    if not n:
        return ""
    words = ngettext("%(n)s open remark", "%(n)s open remarks", n) % {"n": n}
    return format_html('<span class="badge badge--warning" title="{}" aria-label="{}">{}</span>', words, words, n)
