"""How an open study hands out its work: order, cap per person and stopping rule, changed while it runs.

None of it changes what is asked or shown, so no answer is invalidated: each change is a minor version of the study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotation.domain.stopping import validate_stopping
from annotation.domain.studies import StudyError
from annotation.domain.versions import change_live_study
from annotation.models import Study, StudyVersion, User


@dataclass(frozen=True)
class QueueSettings:
    """What can be set while a study runs; `stopping` as in annotation.domain.stopping."""

    order: str
    max_per_person: int | None
    stopping: dict[str, Any]

    def __post_init__(self) -> None:
        if self.order not in Study.QueueOrder.values:
            raise StudyError(_("'%(order)s' is no order of the queue.") % {"order": self.order})
        if self.max_per_person is not None and self.max_per_person < 1:
            raise StudyError(_("One person must be allowed at least one judgement; leave the number out for any."))


def change_queue(*, study: Study, settings: QueueSettings, reason: str, user: User | None) -> StudyVersion:
    """Put the settings in force as a new version; raises StudyError, and then nothing is changed."""
    values = {
        "queue_order": settings.order, "max_per_person": settings.max_per_person,
        "stopping": validate_stopping(settings.stopping),
    }  # fmt: skip
    return change_live_study(study=study, user=user, values=values, reason=reason)
