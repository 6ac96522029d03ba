"""The words that items of a study show: explanations by feature, or the class that a feature promotes."""

from __future__ import annotations

from annotation.domain.study_samples import study_dictionaries
from annotation.models import Explanation, Feature, Study


def texts_of(study: Study) -> dict[int, str]:
    """By feature id; empty for protocols that show no words."""
    if study.protocol == "verification":
        rows = Explanation.objects.filter(explanation_set=study.explanations_id)
        return dict(rows.values_list("feature_id", "text"))
    if study.protocol == "spurious":
        features = Feature.objects.filter(dictionary__in=[one.pk for one in study_dictionaries(study)])
        texts = dict(features.exclude(promoted_class="").values_list("pk", "promoted_class"))
        controls = Feature.objects.filter(dictionary__control_of__in=study_dictionaries(study))
        return dict(controls.exclude(promoted_class="").values_list("pk", "promoted_class")) | texts
    return {}
