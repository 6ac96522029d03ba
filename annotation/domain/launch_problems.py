"""What stands in the way of a launch, a sentence each: what every study needs, and what its protocol needs besides."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.domain.answer_message import AnswerError
from annotation.domain.controls import EVERY_CONTROL, available_controls
from annotation.domain.planning_items import kinds_of
from annotation.domain.protocols import (
    Kind,
    OptionError,
    Protocol,
    options_of,
    protocol_of,
    questions_of,
    validate_accepted,
)
from annotation.domain.studies import N_PRACTICE
from annotation.domain.study_samples import study_dictionaries
from annotation.domain.study_texts import texts_of
from annotation.models import Feature, ReferenceItem, Study

NEEDS_CONTROLS = gettext_noop("Choose the kinds of controls, or set their share to 0.")
ADJUDICATION = gettext_noop(
    "Adjudication judges the answers of another study; it begins on that study's page of disagreements."
)


def launch_problems(study: Study) -> list[str]:
    """Nothing is drawn yet."""
    try:
        protocol = protocol_of(study)
        options_of(study)
    except (AnswerError, OptionError) as error:
        return [str(error)]
    n_practice = study.reference_items.filter(kind=ReferenceItem.Kind.PRACTICE).count()
    checks = (
        (
            study.state == Study.State.DRAFT,
            _("The study is %(state)s; only a draft can be launched.") % {"state": study.get_state_display()},
        ),
        (study.guidelines.exists(), _("Write the guideline that annotators read first.")),
        (
            n_practice >= N_PRACTICE,
            _("Add practice items: there are %(n_practice)s, and %(needed)s are needed.")
            % {"n_practice": n_practice, "needed": N_PRACTICE},
        ),
        (bool(study.consent_text.strip()), _("Write the consent text.")),
        (not asks_category(study) or study.categories.exists(), _("Add at least one category.")),
        (
            study.overlap >= 1 and study.core_overlap >= study.overlap,
            _("The core needs at least the overlap of the rest."),
        ),
    )
    general = [sentence for is_right, sentence in checks if not is_right]
    return general + list(protocol_problems(study, protocol).values()) + control_problems(study) + references(study)


def asks_category(study: Study) -> bool:
    return any(question.kind is Kind.CATEGORY for question in questions_of(study))


def protocol_problems(study: Study, protocol: Protocol) -> dict[str, str]:
    """What the protocol needs and the study has not, by need."""
    if not protocol.builder:
        return {"protocol": _(ADJUDICATION)}
    problems: dict[str, str] = {}
    dictionaries = study_dictionaries(study)
    if "explanations" in protocol.needs and study.explanations_id is None:
        problems["explanations"] = _("Choose the explanations that are verified; a file of them can be imported.")
    if "alignment" in protocol.needs:
        if not study.alignment_digest:
            problems["alignment"] = _(
                "Choose the alignment whose pairs are judged; the stage align-dictionaries makes one."
            )
    elif "two dictionaries" in protocol.needs and len(dictionaries) < 2:
        problems["two dictionaries"] = _("Choose at least two dictionaries: their features are compared.")
    if needs_embeddings(study) and not study.embeddings_digest:
        problems["embeddings"] = _("Hard contrasts need image embeddings; the stage embed-images makes them.")
    if "classes" in protocol.needs and not has_classes([one.pk for one in dictionaries]):
        problems["classes"] = _("No feature promotes a class; collect exemplars with a readout.")
    return problems


def needs_embeddings(study: Study) -> bool:
    return "hard" in options_of(study).get("variants", ())


def has_classes(dictionaries: Sequence[int]) -> bool:
    return Feature.objects.filter(dictionary__in=dictionaries).exclude(promoted_class="").exists()


def control_problems(study: Study) -> list[str]:
    unknown = [kind for kind in study.control_kinds if kind not in EVERY_CONTROL]
    if unknown:
        return [
            _("'%(unknown)s' is no kind of control; it can be %(values)s.")
            % {"unknown": unknown[0], "values": ", ".join(EVERY_CONTROL)}
        ]
    protocol = protocol_of(study)
    if study.control_share <= 0 or not protocol.conditions:
        return []
    kinds = kinds_of(protocol, study.control_kinds)
    if not kinds:
        return [_(NEEDS_CONTROLS)]
    missing = set(kinds) - set(available_controls(study_dictionaries(study), kinds))
    if missing:
        return [
            _("The dictionaries have no controls of kind %(values)s; make them, or untick the kind.")
            % {"values": ", ".join(sorted(missing))}
        ]
    return []


def references(study: Study) -> list[str]:
    """What is wrong with practice and gold items, one sentence for the first of them."""
    names = set(study.categories.values_list("name", flat=True))
    texts = texts_of(study)
    for one in study.reference_items.order_by("-kind", "position", "id"):
        try:
            problem = reference_problem(study, one, texts.get(one.feature_id, ""))
            if wants_accepted(study):
                validate_accepted(questions_of(study), one.accepted, categories=names)
        except AnswerError as error:
            problem = str(error)
        if problem:
            return [
                _("The %(kind)s item of feature %(feature_id)s: %(problem)s")
                % {"kind": one.get_kind_display(), "feature_id": one.feature_id, "problem": problem}
            ]
    return []


def reference_problem(study: Study, reference: ReferenceItem, text: str) -> str:
    if protocol_of(study).builder == "pair" and reference.other_feature_id is None:
        return _("Name the second feature of the pair.")
    if study.protocol in {"verification", "spurious"} and not (reference.text or text):
        shown = _("explanation") if study.protocol == "verification" else _("class")
        return _("It has no %(shown)s to show; write one, or choose another feature.") % {"shown": shown}
    return ""


def wants_accepted(study: Study) -> bool:
    """Whether accepted answers must be written down: not where they follow from the stimulus, nor for marks."""
    return not protocol_of(study).has_truth and any(question.can_be_scored for question in questions_of(study))
