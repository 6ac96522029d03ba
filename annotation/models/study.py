"""Studies: a campaign, what is judged in it, and the judgements wanted."""

from __future__ import annotations

import secrets
import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from annotation.models.catalog import Feature, Image
from annotation.models.people import Role

QUEUE_KEYS = 2**31


def new_join_token() -> str:
    return secrets.token_urlsafe(16)


def new_number_key() -> str:
    return secrets.token_urlsafe(16)


def new_queue_position() -> int:
    """Where in the ring of slots a person starts, so that people neither queue for the same rows nor share an order."""
    return secrets.randbelow(QUEUE_KEYS)


class Condition(models.TextChoices):
    """What an item really is; hidden until the study closes. Its labels are data too: pages translate them."""

    REAL = "real", gettext_noop("feature")
    RANDOM_DIRECTIONS = "random_directions", gettext_noop("random directions")
    RESIDUAL_BASIS = "residual_basis", gettext_noop("residual basis")
    UNTRAINED_DICTIONARY = "untrained_dictionary", gettext_noop("untrained dictionary")
    RANDOM_TRANSFORMER = "random_transformer", gettext_noop("random transformer")
    SHUFFLED = "shuffled", gettext_noop("patches shuffled between features")
    SHUFFLED_EXPLANATION = "shuffled_explanation", gettext_noop("explanation of another feature")
    CATCH = "catch", gettext_noop("catch item")
    GOLD = "gold", gettext_noop("gold item")


class Study(models.Model):
    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        LAUNCHING = "launching", _("launching")
        OPEN = "open", _("open")
        PAUSED = "paused", _("paused")
        CLOSED = "closed", _("closed")

    class QueueOrder(models.TextChoices):
        BREADTH = "breadth", _("every item once before any twice")
        UNCERTAINTY = "uncertainty", _("items people disagree on first")
        FINISH = "finish", _("finish what was begun")

    class VocabularyMode(models.TextChoices):
        FIXED = "fixed", _("only the listed terms")
        EXTENSIBLE = "extensible", _("the listed terms, and new ones after a look at those near")
        OPEN = "open", _("any words")

    class Origin(models.TextChoices):
        HERE = "here", _("made here")
        IMPORT = "import", _("answers of earlier work, imported")
        BUNDLE = "bundle", _("a bundle of another site, whose answers go back there")

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=80, unique=True)
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.HERE)
    description = models.TextField(blank=True)
    protocol = models.CharField(max_length=40, default="rate-describe-categorise")
    protocol_version = models.CharField(max_length=12, default="1.0")
    protocol_options = models.JSONField(default=dict, help_text="See the options of the protocol.")
    version = models.CharField(
        max_length=12, default="1.0", help_text="major.minor of the settings: see study versions."
    )
    pilot_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="pilots")
    explanations = models.ForeignKey(
        "ExplanationSet", null=True, blank=True, on_delete=models.PROTECT, related_name="studies"
    )
    embeddings_digest = models.CharField(max_length=64, blank=True, help_text="Image embeddings for hard contrasts.")
    alignment_digest = models.CharField(max_length=64, blank=True, help_text="Pairs of two dictionaries' features.")
    preregistration = models.JSONField(default=dict, help_text="Hypotheses, N, exclusions, stopping rule.")
    ineligible = models.JSONField(default=list, help_text="Features that could not be shown, each with the reason.")
    queue_order = models.CharField(max_length=12, choices=QueueOrder, default=QueueOrder.BREADTH)
    max_per_person = models.IntegerField(null=True, blank=True, help_text="Judgements one person may give; empty: any.")
    stopping = models.JSONField(default=dict, help_text="half_width and min_judgements; empty: until all is judged.")
    gold_schedule = models.JSONField(
        default=list, help_text="[[from how many answers, share of gold], ...]; empty: gold lies among the rest."
    )
    repeat_share = models.FloatField(default=0.03, help_text="Of a person's items, shown again on an invited return.")
    min_viewing_ms = models.IntegerField(default=0, help_text="No answer is taken before an item was seen this long.")
    pass_mark = models.FloatField(default=0.0, help_text="Share of practice items to get right; 0: reading is enough.")
    practice_rounds = models.IntegerField(default=3, help_text="Rounds of practice a person may take; 0: any number.")
    vocabulary_mode = models.CharField(max_length=12, choices=VocabularyMode, default=VocabularyMode.OPEN)
    vocabulary_version = models.IntegerField(default=1)
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    is_simulated = models.BooleanField(default=False, help_text="Filled by simulated annotators; marked everywhere.")
    seed = models.BigIntegerField(default=0)
    sampler = models.JSONField(default=dict, help_text="How features are drawn: see annotation.domain.sampling.")
    exclusions = models.JSONField(default=dict, help_text="Dead, too rare and prefix-token rules.")
    overlap = models.IntegerField(default=1, help_text="Judgements wanted per item.")
    core_overlap = models.IntegerField(default=3, help_text="Judgements wanted per item of the core.")
    core_share = models.FloatField(default=0.3, help_text="Share of items in the core, drawn by the seed.")
    control_share = models.FloatField(default=0.1)
    control_kinds = models.JSONField(default=list)
    catch_share = models.FloatField(default=0.05)
    gold_share = models.FloatField(default=0.05)
    session_length = models.IntegerField(default=60, help_text="Items in one session: the visible '23 of 60'.")
    consent_text = models.TextField(blank=True)
    consent_version = models.CharField(max_length=12, default="1.0")
    join_token = models.CharField(max_length=40, unique=True, default=new_join_token)
    number_key = models.CharField(
        max_length=32, default=new_number_key, editable=False,
        help_text="Of the numbers that browsers know slots and items by; answers on their way name them, so it stays.",
    )  # fmt: skip
    locked_hash = models.CharField(max_length=64, blank=True)
    stimuli_digest = models.CharField(max_length=64, blank=True)
    launch_run = models.ForeignKey("Run", null=True, blank=True, on_delete=models.PROTECT, related_name="studies")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    launched_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    n_items = models.IntegerField(default=0)
    n_slots = models.IntegerField(default=0)
    n_slots_done = models.IntegerField(default=0)
    queue_epoch = models.IntegerField(default=0, help_text="Moves when slots become urgent: people then look there.")
    n_kept_up = models.IntegerField(
        default=0, help_text="Judgements given when order and stopping were last looked at."
    )

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "studies"

    def __str__(self) -> str:
        return self.name


class Guideline(models.Model):
    """One version of the page annotators read; a new version is a new row."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="guidelines")
    version = models.IntegerField()
    text = models.TextField(help_text="Markdown: headings, lists, emphasis.")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "version"], name="guideline_version")]
        ordering = ["study_id", "-version"]

    def __str__(self) -> str:
        return f"guideline {self.version} of {self.study_id}"


class ReferenceItem(models.Model):
    """A practice item (feedback shown) or a gold item (silent) with its accepted answers and the reason for them.

    ``accepted`` maps a question to the answers that count as right, e.g.
    {"patch_rating": [3, 4], "image_rating": [1, 4], "category": ["colour"]}; a question left out accepts any answer.
    """

    class Kind(models.TextChoices):
        PRACTICE = "practice", _("practice")
        GOLD = "gold", _("gold")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="reference_items")
    kind = models.CharField(max_length=8, choices=Kind)
    position = models.IntegerField(default=0)
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    accepted = models.JSONField(default=dict)
    reason = models.TextField(blank=True)
    other_feature = models.ForeignKey(
        Feature, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="The second feature of a pair.",
    )  # fmt: skip
    variant = models.CharField(max_length=40, blank=True)
    text = models.CharField(max_length=500, blank=True, help_text="The explanation or class that is shown.")
    truth = models.JSONField(default=dict, help_text="The right answer, frozen with the stimulus; server only.")
    stimulus_id = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "kind", "feature"], name="reference_feature_once")]
        ordering = ["kind", "position", "id"]

    def __str__(self) -> str:
        return f"{self.kind} item {self.position}"


class Participation(models.Model):
    """One person in one study: role there, consent, practice, session counters (kept, never counted in a request)."""

    class CameBy(models.TextChoices):
        LINK = "link", _("link")
        INVITATION = "invitation", _("invitation")
        PROLIFIC = "prolific", _("Prolific")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="participations")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="participations")
    role = models.CharField(max_length=16, choices=Role, default=Role.ANNOTATOR)
    consented_at = models.DateTimeField(null=True, blank=True)
    consent_version = models.CharField(max_length=12, blank=True)
    guideline_version = models.IntegerField(null=True, blank=True)
    practice_position = models.IntegerField(default=0)
    practised_at = models.DateTimeField(null=True, blank=True)
    n_done = models.IntegerField(default=0)
    n_skipped = models.IntegerField(default=0)
    n_gold = models.IntegerField(default=0)
    n_gold_right = models.IntegerField(default=0)
    practice_round = models.IntegerField(default=1)
    n_old_rounds = models.IntegerField(default=0, help_text="Rounds before practice was asked for anew.")
    screened_out_at = models.DateTimeField(null=True, blank=True, help_text="Practice was not passed in any round.")
    excluded_at = models.DateTimeField(
        null=True, blank=True, help_text="No more items; answers in hand are kept apart."
    )
    cohort = models.ForeignKey(
        "Cohort", null=True, blank=True, on_delete=models.PROTECT, related_name="participations"
    )  # fmt: skip
    n_repeats = models.IntegerField(default=0, help_text="Own items prepared to be shown again.")
    queue_start = models.BigIntegerField(default=new_queue_position)
    queue_position = models.BigIntegerField(default=0)
    queue_lane = models.IntegerField(null=True, blank=True, help_text="Empty: the next look begins at the first lane.")
    queue_epoch = models.IntegerField(default=0, help_text="Of the study, when urgent slots were last looked through.")
    queue_empty_at = models.DateTimeField(null=True, blank=True, help_text="When a whole lap found nothing to claim.")
    joined_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    came_by = models.CharField(max_length=10, choices=CameBy, default=CameBy.LINK)
    session_from = models.IntegerField(default=0, help_text="How many answers were given when the session began.")
    session_to = models.IntegerField(
        null=True, blank=True, help_text="How many there are when it is over; empty: sessions are not counted."
    )
    is_return = models.BooleanField(default=False, help_text="The session is an invited return: repeats are due.")
    declined_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="The person took their answers back.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "user"], name="participation_once")]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.study_id}"


class Item(models.Model):
    """One stimulus to judge."""

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="items")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="items")
    condition = models.CharField(max_length=24, choices=Condition, default=Condition.REAL)
    matched_feature = models.ForeignKey(
        Feature, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="The feature whose density and patch counts a control was thresholded to.",
    )  # fmt: skip
    reference = models.ForeignKey(ReferenceItem, null=True, blank=True, on_delete=models.PROTECT, related_name="items")
    repeat_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="repeats")
    other_feature = models.ForeignKey(
        Feature, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="The second feature of a pair.",
    )  # fmt: skip
    variant = models.CharField(max_length=40, blank=True, help_text="Kind of contrast, as the protocol names it.")
    text = models.CharField(max_length=500, blank=True, help_text="The explanation or class that is shown.")
    truth = models.JSONField(default=dict, help_text="The right answer, where the stimulus has one; server only.")
    stratum = models.CharField(max_length=60, blank=True)
    is_core = models.BooleanField(default=False)
    seed = models.BigIntegerField(default=0)
    stimulus_id = models.CharField(max_length=64)
    accepted = models.JSONField(
        default=dict, help_text="Accepted answers of a catch or gold item, as frozen at launch."
    )

    class Meta:
        indexes = [models.Index(fields=["study", "condition"], name="item_study_condition")]

    def __str__(self) -> str:
        return f"item {self.pk}"


class Slot(models.Model):
    """One judgement wanted; claimed under a lease, never counted.

    A *seen* slot is not wanted: it records that the person passed on the item, or answered too late to count, so that
    one look at (item, annotator) tells whether the item may be offered to that person. A *waiting* slot is not wanted
    either: a check (gold of a schedule, or one of their own items again) that comes among the person's next items.
    """

    class State(models.TextChoices):
        OPEN = "open", _("open")
        LEASED = "leased", _("leased")
        DONE = "done", _("done")
        SEEN = "seen", _("seen without an answer that counts")
        WITHDRAWN = "withdrawn", _("withdrawn")
        WAITING = "waiting", _("kept for its annotator")

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="slots", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="slots")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    lane = models.IntegerField(
        default=1, help_text="Lanes are walked in order; see annotation.domain.queue_lanes. Below 0: checks."
    )
    random_key = models.IntegerField(
        default=0, help_text="Place in the ring that everybody walks from their own start."
    )
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="slots", db_index=False
    )
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["item", "annotator"],
                condition=Q(state__in=["leased", "done", "seen", "waiting"]),
                name="slot_once_per_annotator",
            )
        ]
        indexes = [
            models.Index(fields=["study", "lane", "random_key"], condition=Q(state="open"), name="slot_open"),
            models.Index(
                fields=["annotator", "study", "lane", "random_key"], condition=Q(lane__lt=0), name="slot_checks"
            ),
            models.Index(fields=["study", "lease_until"], condition=Q(state="leased"), name="slot_leased"),
            models.Index(fields=["annotator", "study"], condition=Q(lease_until__isnull=False), name="slot_leased_to"),
        ]

    def __str__(self) -> str:
        return f"slot {self.pk} of item {self.item_id}"


class StudyEvent(models.Model):
    """Append-only log of what happened to a study: launch, pause, close, unblinding, edits."""

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=40)
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} of {self.study_id}"


class ImageReport(models.Model):
    """Somebody asks that an image be looked at: disturbing, private, broken."""

    uuid = models.UUIDField(unique=True, default=uuid.uuid4)
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="reports")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="image_reports")
    reporter = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField()
    at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    hidden_at = models.DateTimeField(null=True, blank=True, help_text="No item with the image is handed out any more.")

    def __str__(self) -> str:
        return f"report on image {self.image_id}"
