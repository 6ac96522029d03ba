"""A module per noun; import the classes from here."""

from annotation.models.annotation import Annotation, ExportFile, PracticeAnswer, Remark
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
from annotation.models.explanation import Explanation, ExplanationSet
from annotation.models.people import ApiToken, Role, User
from annotation.models.run import PLAN_PHASE, Chunk, Run, RunLogLine, RunMetric, Worker
from annotation.models.study import (
    Category,
    Condition,
    Guideline,
    ImageReport,
    Item,
    Participation,
    ReferenceItem,
    Slot,
    Study,
    StudyEvent,
    Term,
)

__all__ = [
    "CONTROL_KINDS",
    "PLAN_PHASE",
    "Annotation",
    "ApiToken",
    "Category",
    "Chunk",
    "Condition",
    "Dictionary",
    "ExemplarSet",
    "Explanation",
    "ExplanationSet",
    "ExportFile",
    "Feature",
    "Guideline",
    "Image",
    "ImageReport",
    "ImageRoot",
    "ImageSet",
    "Item",
    "Participation",
    "PracticeAnswer",
    "Readout",
    "ReferenceItem",
    "Remark",
    "Role",
    "Run",
    "RunLogLine",
    "RunMetric",
    "Slot",
    "Study",
    "StudyEvent",
    "Term",
    "User",
    "VisionModel",
    "Worker",
]
