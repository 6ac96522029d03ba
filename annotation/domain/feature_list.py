"""The list of a dictionary's features: filters and order, all from the address, all served by indexes.

A dead feature (density 0) is left out unless asked for, because it has nothing to show.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from annotation.domain.keyset import Order
from annotation.domain.labels import has_label
from annotation.models import Dictionary, Feature

ORDERS = {
    "block": (Order("block"), _("block, then number")),
    "-density": (Order("density", True), _("densest first")),
    "density": (Order("density"), _("rarest first")),
    "-maximum": (Order("maximum", True), _("largest maximum first")),
    "maximum": (Order("maximum"), _("smallest maximum first")),
    "-images": (Order("n_images_active", True), _("fires in most images first")),
    "images": (Order("n_images_active"), _("fires in fewest images first")),
    "-prefix": (Order("prefix_share", True), _("most on CLS and registers first")),
    "prefix": (Order("prefix_share"), _("least on CLS and registers first")),
}
STATES = {"alive": _("alive"), "dead": _("dead"), "all": _("all")}
POLES = {"positive": 1, "negative": -1}
LABELLED = {"": _("any"), "yes": _("labelled"), "no": _("not labelled")}
COUNT_LIMIT = 1000


@dataclass(frozen=True)
class FeatureFilter:
    """What is asked for; densities and shares as fractions of 1."""

    hookpoint: str = ""
    state: str = "alive"
    density_min: float | None = None
    density_max: float | None = None
    prefix_max: float | None = None
    promoted_class: str = ""
    labelled: str = ""
    pole: str = ""
    sort: str = "block"

    @property
    def order(self) -> Order:
        """Dead features are alike in every number, so they keep the order of their ids."""
        return Order("density") if self.state == "dead" else ORDERS[self.sort][0]


def filtered_features(dictionary: Dictionary, wanted: FeatureFilter) -> QuerySet[Feature]:
    rows = Feature.objects.filter(dictionary=dictionary).filter(range_condition(wanted))
    if wanted.hookpoint:
        rows = rows.filter(hookpoint=wanted.hookpoint)
    if wanted.promoted_class:
        rows = rows.filter(promoted_class=wanted.promoted_class)
    if wanted.pole:
        rows = rows.filter(pole=POLES[wanted.pole])
    if wanted.labelled:
        rows = rows.filter(has_label() if wanted.labelled == "yes" else ~has_label())
    return rows


def has_two_poles(dictionary: Dictionary) -> bool:
    """Whether values below zero are features of their own; every latent has a row, so that the first ones tell."""
    first = Feature.objects.filter(dictionary=dictionary, hookpoint__in=dictionary.hookpoints, latent=0)
    return first.filter(pole=-1).exists()


def range_condition(wanted: FeatureFilter) -> Q:
    condition = Q()
    if wanted.state == "dead":
        condition &= Q(density=0)
    elif wanted.state == "alive":
        condition &= ~Q(density=0)  # not "> 0", which would lure SQLite away from the index of another order
        if wanted.order.field in ("density", "maximum", "n_images_active"):
            condition &= Q(**{f"{wanted.order.field}__gt": 0})  # skips the dead ones within the index
    if wanted.density_min is not None:
        condition &= Q(density__gte=wanted.density_min)
    if wanted.density_max is not None:
        condition &= Q(density__lte=wanted.density_max)
    if wanted.prefix_max is not None:
        condition &= Q(prefix_share__lte=wanted.prefix_max)
    return condition


def counted(rows: QuerySet[Feature], limit: int = COUNT_LIMIT) -> str:
    """How many, in words; counts no further than ``limit``."""
    n = rows.order_by()[: limit + 1].count()
    return gettext("more than %(limit)s") % {"limit": f"{limit:,}"} if n > limit else f"{n:,}"
