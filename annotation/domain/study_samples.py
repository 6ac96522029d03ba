"""What a study samples, given its protocol: features that have what the protocol shows, or pairs of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.domain.alignment_pairs import AlignedPair, alignment_sample, pairs_of
from annotation.domain.sampling import Barred, Requirement, SamplePreview, SampleSpec, SamplingError, draw_sample
from annotation.models import Dictionary, Explanation, Feature, ReferenceItem, Study

NO_EXPLANATION, NO_CLASS = gettext_noop("no explanation"), gettext_noop("no such class")
NOT_SPEC = ("dictionaries",)


@dataclass(frozen=True)
class SampleRequest:
    """Everything a sample depends on; `explanations` is the id of a set, `alignment` the digest of an artefact."""

    protocol: str
    dictionaries: Sequence[Dictionary]
    spec: SampleSpec
    seed: int
    reserved: Collection[int] = ()
    explanations: int | None = None
    alignment: str = ""


def study_dictionaries(study: Study) -> list[Dictionary]:
    return list(Dictionary.objects.filter(pk__in=study.sampler.get("dictionaries", [])).order_by("id"))


def study_spec(study: Study) -> SampleSpec:
    """The spec stored with a study: how to draw in `sampler`, what to leave out in `exclusions`."""
    values = {key: value for key, value in study.sampler.items() if key not in NOT_SPEC}
    return SampleSpec.from_dict(values | study.exclusions)


def reserved_features(study: Study) -> set[int]:
    """Features people are shown with the answer, or scored on, are not drawn."""
    pairs = ReferenceItem.objects.filter(study=study).values_list("feature_id", "other_feature_id")
    return {pk for pair in pairs for pk in pair if pk is not None}


def study_request(study: Study) -> SampleRequest:
    return SampleRequest(
        protocol=study.protocol, dictionaries=study_dictionaries(study), spec=study_spec(study), seed=study.seed,
        reserved=reserved_features(study), explanations=study.explanations_id, alignment=study.alignment_digest,
    )  # fmt: skip


def study_sample(study: Study) -> SamplePreview:
    """What the study would draw now; raises SamplingError with a sentence where nothing can be drawn."""
    return sample_of(study_request(study))


def sample_of(request: SampleRequest) -> SamplePreview:
    if request.protocol == "alignment":
        return alignment_sample(aligned(request), request.spec, request.seed, Barred(request.reserved)).preview
    spec = request.spec
    if request.protocol == "pairwise":
        if len(request.dictionaries) < 2:
            raise SamplingError(_("Choose at least two dictionaries: their features are compared."))
        spec = replace(spec, common_bands=True)
    barred = Barred(request.reserved, requirement_of(request))
    return draw_sample(dictionaries=request.dictionaries, spec=spec, seed=request.seed, barred=barred)


def drawn_pairs(request: SampleRequest) -> list[AlignedPair]:
    """The pairs of an alignment study."""
    return alignment_sample(aligned(request), request.spec, request.seed, Barred(request.reserved)).pairs


def aligned(request: SampleRequest) -> list[AlignedPair]:
    if not request.alignment:
        raise SamplingError(_("Choose the alignment whose pairs are judged; the stage align-dictionaries makes one."))
    return pairs_of(request.alignment)


def requirement_of(request: SampleRequest) -> Requirement | None:
    if request.protocol == "verification":
        if request.explanations is None:
            raise SamplingError(_("Choose the explanations that are verified."))
        ids = Explanation.objects.filter(explanation_set=request.explanations).values_list("feature_id", flat=True)
        return Requirement(NO_EXPLANATION, frozenset(ids))
    if request.protocol == "spurious":
        features = Feature.objects.filter(dictionary__in=request.dictionaries).exclude(promoted_class="")
        if request.spec.classes:
            features = features.filter(promoted_class__in=request.spec.classes)
        return Requirement(NO_CLASS, frozenset(features.values_list("pk", flat=True)))
    return None
