"""What a draft still lacks, and what it will ask of people once it is launched."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import NamedTuple

from annotation.domain.answer_message import AnswerError
from annotation.domain.launch_problems import asks_category, control_problems, protocol_problems, wants_accepted
from annotation.domain.planning_items import NOTHING_SHARED, Shares
from annotation.domain.protocols import OptionError, options_of, protocol_of
from annotation.domain.sampling import SamplePreview, SamplingError
from annotation.domain.studies import N_PRACTICE
from annotation.domain.study_samples import study_sample
from annotation.models import ReferenceItem, Study

SECONDS_PER_JUDGEMENT = 20  # a practised annotator; the study page shows the measured speed once there is one
SECONDS = {
    "two-alternative": 10, "intruder": 8, "verification": 15, "pairwise": 12, "patch-marking": 30, "nature-origin": 15,
    "alignment": 12, "spurious": 15,
}  # fmt: skip
NEEDS = {
    "explanations": ("Explanations", "explanations", "Import or choose a set"),
    "two dictionaries": ("Two dictionaries", "study-edit", "Choose another"),
    "embeddings": ("Image embeddings", "run-new:embed-images", "Compute them"),
    "alignment": ("Alignment", "run-new:align-dictionaries", "Compute one"),
    "classes": ("Classes", "run-new:collect-exemplars", "Collect exemplars with a readout"),
    "protocol": ("Protocol", "study-edit", "Choose another"),
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
        return [Check("Protocol", False, True, str(error), "study-edit")]
    n_drawn = 0 if isinstance(sample, str) else len(sample.drawn)
    unit = "pairs" if protocol.name == "alignment" else "features"
    checks = [Check("Protocol", True, True, protocol.title, "study-edit"), *need_checks(study)]
    checks.append(Check(
        "Features", n_drawn > 0, True, sample if isinstance(sample, str) else f"{n_drawn} {unit} drawn", "study-edit"
    ))  # fmt: skip
    if protocol.conditions:
        trouble = " ".join(control_problems(study))
        checks.append(Check("Controls", not trouble, True, trouble or control_words(study), "study-edit"))
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
        words = problems.get(need, "there")
        checks.append(Check(title, need not in problems, True, words, page, get if need in problems else ""))
    return checks


def text_checks(study: Study) -> list[Check]:
    guideline = study.guidelines.order_by("-version").first()
    words = f"version {guideline.version}" if guideline else "not written yet"
    checks = [
        Check("Consent", bool(study.consent_text.strip()), True, f"version {study.consent_version}", "study-edit"),
        Check("Guideline", guideline is not None, True, words, "study-guideline"),
    ]
    if asks_category(study):
        n = study.categories.count()
        checks.append(Check("Categories", n > 0, True, f"{n} with their keys", "study-categories"))
    return checks


def reference_checks(study: Study) -> list[Check]:
    kinds = list(study.reference_items.values_list("kind", flat=True))
    n_practice, n_gold = kinds.count(ReferenceItem.Kind.PRACTICE), kinds.count(ReferenceItem.Kind.GOLD)
    practice = f"{n_practice} of at least {N_PRACTICE}"
    if not wants_accepted(study):
        practice += "; what is right follows from the stimulus"
    return [
        Check("Practice items", n_practice >= N_PRACTICE, True, practice, "study-reference"),
        Check("Gold items", n_gold > 0, False, f"{n_gold} of your own; {gold_words(study)}", "study-reference"),
    ]


def gold_words(study: Study) -> str:
    """What stands in for gold that is missing."""
    if study.protocol in NOTHING_SHARED:
        return "without any, only catch items that show nothing in common tell who looks"
    if study.protocol == "two-alternative":
        return "catch items, where one of the references is asked for again, make up for what is missing"
    return "without any, nothing tells who looks"


def control_words(study: Study) -> str:
    if study.control_share <= 0:
        return "none: nothing to compare the features with"
    return f"{study.control_share:.0%} of features and controls, blind"


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
