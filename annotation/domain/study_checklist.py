"""What a draft still lacks, and what it will ask of people once it is launched."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import NamedTuple

from django.utils.translation import gettext, gettext_noop

from annotation.domain.answer_message import AnswerError
from annotation.domain.launch_problems import asks_category, control_problems, protocol_problems, wants_accepted
from annotation.domain.planning_items import NOTHING_SHARED, Shares
from annotation.domain.protocols import OptionError, options_of, protocol_of
from annotation.domain.sampling import SamplePreview, SamplingError
from annotation.domain.setting_words import share_words
from annotation.domain.studies import N_PRACTICE
from annotation.domain.study_samples import study_sample
from annotation.models import ReferenceItem, Study

SECONDS_PER_JUDGEMENT = 20  # a practised annotator; the study page shows the measured speed once there is one
SECONDS = {
    "two-alternative": 10, "intruder": 8, "verification": 15, "pairwise": 12, "patch-marking": 30, "nature-origin": 15,
    "alignment": 12, "spurious": 15,
}  # fmt: skip
NEEDS = {
    "explanations": (gettext_noop("Explanations"), "explanations", gettext_noop("Import or choose a set")),
    "two dictionaries": (gettext_noop("Two dictionaries"), "study-edit", gettext_noop("Choose another")),
    "embeddings": (gettext_noop("Image embeddings"), "run-new:embed-images", gettext_noop("Compute them")),
    "alignment": (gettext_noop("Alignment"), "run-new:align-dictionaries", gettext_noop("Compute one")),
    "classes": (gettext_noop("Classes"), "run-new:collect-exemplars", gettext_noop("Collect exemplars with a readout")),
    "protocol": (gettext_noop("Protocol"), "study-edit", gettext_noop(gettext_noop("Choose another"))),
}


class Check(NamedTuple):
    """One line of the checklist; page is the name of the address where it is settled, `get` what a button there says.

    A page such as 'run-new:embed-images' is the form of that stage.
    """

    title: str
    is_done: bool
    is_needed: bool
    words: str
    page: str
    get: str = ""

    @property
    def stage(self) -> str:
        return self.page.partition(":")[2]


class Estimate(NamedTuple):
    n_features: int
    n_real: int
    n_controls: int
    n_catch: int
    n_gold: int
    n_items: int
    n_judgements: int
    seconds: int
    hours: float
    n_short: int


def checklist(study: Study, sample: SamplePreview | str) -> list[Check]:
    """The steps to a launch in their order; `sample` is a sentence where none can be drawn."""
    try:
        protocol, _ = protocol_of(study), options_of(study)
    except (AnswerError, OptionError) as error:
        return [Check(gettext("Protocol"), False, True, str(error), "study-edit")]
    n_drawn = 0 if isinstance(sample, str) else len(sample.drawn)
    is_paired = protocol.name == "alignment"
    drawn = gettext("%(n)s pairs drawn") if is_paired else gettext("%(n)s features drawn")
    checks = [Check(gettext("Protocol"), True, True, gettext(protocol.title), "study-edit"), *need_checks(study)]
    checks.append(Check(
        gettext("Features"), n_drawn > 0, True, sample if isinstance(sample, str) else drawn % {"n": n_drawn},
        "study-edit",
    ))  # fmt: skip
    if protocol.conditions:
        trouble = " ".join(control_problems(study))
        checks.append(Check(gettext("Controls"), not trouble, True, trouble or control_words(study), "study-edit"))
    return [*checks, *text_checks(study), *reference_checks(study)]


def need_checks(study: Study) -> list[Check]:
    """What the protocol needs besides: missing ones with the way to get them."""
    protocol = protocol_of(study)
    problems = protocol_problems(study, protocol)
    checks = []
    for need in [*sorted(protocol.needs), *(name for name in problems if name not in protocol.needs)]:
        if need == "two dictionaries" and "alignment" in protocol.needs:
            continue
        title, page, get = NEEDS[need]
        words = problems.get(need) or gettext("there")
        checks.append(
            Check(gettext(title), need not in problems, True, words, page, gettext(get) if need in problems else "")
        )
    return checks


def text_checks(study: Study) -> list[Check]:
    guideline = study.guidelines.order_by("-version").first()
    words = gettext("version %(version)s") % {"version": guideline.version} if guideline else gettext("not written yet")
    checks = [
        Check(
            gettext("Consent"),
            bool(study.consent_text.strip()),
            True,
            gettext("version %(consent_version)s") % {"consent_version": study.consent_version},
            "study-edit",
        ),
        Check(gettext("Guideline"), guideline is not None, True, words, "study-guideline"),
    ]
    if asks_category(study):
        n = study.categories.count()
        checks.append(
            Check(gettext("Categories"), n > 0, True, gettext("%(n)s with their keys") % {"n": n}, "study-categories")
        )
    return checks


def reference_checks(study: Study) -> list[Check]:
    kinds = list(study.reference_items.values_list("kind", flat=True))
    n_practice, n_gold = kinds.count(ReferenceItem.Kind.PRACTICE), kinds.count(ReferenceItem.Kind.GOLD)
    practice = gettext("%(n_practice)s of at least %(needed)s") % {
        "n_practice": n_practice,
        "needed": N_PRACTICE,
    }
    if not wants_accepted(study):
        practice += gettext("; what is right follows from the stimulus")
    gold = gettext("%(n)s of your own") % {"n": n_gold} if n_gold else gold_words(study)
    return [
        Check(gettext("Practice items"), n_practice >= N_PRACTICE, True, practice, "study-reference"),
        Check(gettext("Gold items"), n_gold > 0, False, gold, "study-reference"),
    ]


def gold_words(study: Study) -> str:
    """What it means to have none."""
    if study.protocol in NOTHING_SHARED:
        return gettext("without any, only catch items that show nothing in common tell who looks")
    if study.protocol == "two-alternative":
        return gettext("catch items, where one of the references is asked for again, make up for what is missing")
    return gettext("without any, nothing tells who looks")


def control_words(study: Study) -> str:
    if study.control_share <= 0:
        return gettext("none: nothing to compare the features with")
    return gettext("%(control_share)s of features and controls, blind") % {
        "control_share": share_words(study.control_share)
    }


def try_sample(study: Study) -> SamplePreview | str:
    """What would be drawn, or the sentence that says why nothing can be."""
    try:
        return study_sample(study)
    except SamplingError as error:
        return str(error)


def launch_estimate(study: Study, sample: SamplePreview) -> Estimate:
    """Items and judgements as the launch will make them, catch and gold items all in the core."""
    protocol, options = protocol_of(study), options_of(study)
    n_gold_there = study.reference_items.filter(kind=ReferenceItem.Kind.GOLD).count()
    shares = Shares(study.control_share, study.catch_share, study.gold_share)
    n_real = n_pairs(sample) if protocol.name == "pairwise" else len(sample.drawn)
    n_real *= int(options.get("items_per_feature", 1))
    n_controls = shares.n_controls(n_real) if protocol.conditions else 0
    has_catch = protocol.name in {*NOTHING_SHARED, "two-alternative"} or (
        protocol.name == "intruder" and n_gold_there > 0
    )
    n_judged = n_real + n_controls
    n_catch, n_gold = shares.n_checks(n_judged, n_gold_there, has_catch=has_catch)
    n_core = round(study.core_share * n_judged) + n_catch + n_gold
    n_items = n_judged + n_catch + n_gold
    n_judgements = n_core * study.core_overlap + (n_items - n_core) * study.overlap
    seconds = SECONDS.get(protocol.name, SECONDS_PER_JUDGEMENT)
    hours = n_judgements * seconds / 3600
    return Estimate(
        len(sample.drawn), n_real, n_controls, n_catch, n_gold, n_items, n_judgements, seconds, hours, sample.n_short
    )


def n_pairs(sample: SamplePreview) -> int:
    """Pairs that a comparison will have: within block and band, every dictionary with every other."""
    counts = Counter(one.stratum for one in sample.drawn)
    sets: dict[tuple[int, str], list[int]] = {}
    for stratum, n in counts.items():
        sets.setdefault((stratum.block, stratum.band), []).append(n)
    return sum(min(pair) for sizes in sets.values() for pair in combinations(sizes, 2))
