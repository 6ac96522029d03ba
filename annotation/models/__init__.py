"""A module per noun; import the classes from here."""

from annotation.models.annotation import Annotation, ExportFile, PracticeAnswer, Remark
from annotation.models.assignment import Assignment, Cohort
from annotation.models.catalog import (
    CONTROL_KINDS,
    Dictionary,
    ExemplarSet,
    Feature,
    Image,
    ImageRoot,
    ImageSet,
    Readout,
    VisionModel,
)
from annotation.models.crowd import (
    ExternalIdentity,
    ExternalVisit,
    Invitation,
    PayEntry,
    Recruitment,
    WorkSession,
)
from annotation.models.exclusion import Exclusion
from annotation.models.explanation import Explanation, ExplanationSet
from annotation.models.interfaces import (
    Bundle,
    Errand,
    ForeignItem,
    Pseudonym,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
)
from annotation.models.people import ApiToken, Role, User
from annotation.models.review import Reply, Verdict
from annotation.models.run import PLAN_PHASE, Chunk, Run, RunLogLine, RunMetric, Worker
from annotation.models.study import (
    Condition,
    Guideline,
    ImageReport,
    Item,
    Participation,
    ReferenceItem,
    Slot,
    Study,
    StudyEvent,
)
from annotation.models.version import StudyVersion
from annotation.models.vocabulary import Category, Term, TermMerge

__all__ = [
    "CONTROL_KINDS",
    "PLAN_PHASE",
    "Annotation",
    "ApiToken",
    "Assignment",
    "Bundle",
    "Category",
    "Chunk",
    "Cohort",
    "Condition",
    "Dictionary",
    "Errand",
    "Exclusion",
    "ExemplarSet",
    "Explanation",
    "ExplanationSet",
    "ExportFile",
    "ExternalIdentity",
    "ExternalVisit",
    "Feature",
    "ForeignItem",
    "Guideline",
    "Image",
    "ImageReport",
    "ImageRoot",
    "ImageSet",
    "Invitation",
    "Item",
    "Participation",
    "PayEntry",
    "PracticeAnswer",
    "Pseudonym",
    "Readout",
    "Recruitment",
    "ReferenceItem",
    "Remark",
    "Reply",
    "Role",
    "Run",
    "RunLogLine",
    "RunMetric",
    "Slot",
    "Study",
    "StudyEvent",
    "StudyVersion",
    "Term",
    "TermMerge",
    "User",
    "Verdict",
    "VisionModel",
    "Webhook",
    "WebhookAttempt",
    "WebhookDelivery",
    "WorkSession",
    "Worker",
]
