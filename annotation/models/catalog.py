"""What can be looked at: image sets, vision models, dictionaries and their features."""

from __future__ import annotations

from typing import TypeVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

ELSEWHERE = "elsewhere"
M = TypeVar("M", bound=models.Model, covariant=True)


class CatalogManager(models.Manager[M]):
    """Leaves out the rows that stand for what is known on another site only: see annotation.domain.elsewhere."""

    def get_queryset(self) -> models.QuerySet[M]:
        return super().get_queryset().exclude(digest__startswith=ELSEWHERE)


class ImageSet(models.Model):
    """A registered folder of images with labels and attributes."""

    class Visibility(models.TextChoices):
        PUBLIC = "public", _("everyone")
        SIGNED_IN = "signed-in", _("people who are signed in")
        TEAM = "team", _("the team named below")

    name = models.CharField(max_length=80, unique=True)
    digest = models.CharField(max_length=64, unique=True)
    n_images = models.IntegerField()
    classes = models.JSONField(default=list)
    attribute_names = models.JSONField(default=list)
    licence = models.CharField(max_length=200, blank=True)
    allows_redistribution = models.BooleanField(default=False, help_text="Whether exports may contain the pixels.")
    visibility = models.CharField(max_length=12, choices=Visibility, default=Visibility.SIGNED_IN)
    team = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="image_sets")
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    objects = CatalogManager["ImageSet"]()
    everywhere = models.Manager["ImageSet"]()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ImageRoot(models.Model):
    """Where one host finds the files of an image set; the row without a host is the default."""

    image_set = models.ForeignKey(ImageSet, on_delete=models.CASCADE, related_name="roots")
    host = models.CharField(max_length=120, blank=True)
    path = models.CharField(max_length=1000)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["image_set", "host"], name="one_root_per_host")]

    def __str__(self) -> str:
        return f"{self.image_set_id} on {self.host or 'every host'}"


class Image(models.Model):
    image_set = models.ForeignKey(ImageSet, on_delete=models.CASCADE, related_name="images")
    index = models.IntegerField()
    path = models.CharField(max_length=1000)
    sha256 = models.CharField(max_length=64)
    width = models.IntegerField()
    height = models.IntegerField()
    label = models.CharField(max_length=200, blank=True)
    mask_path = models.CharField(max_length=1000, blank=True)
    attributes = models.JSONField(default=dict)

    class Meta:
        ordering = ["image_set_id", "index"]
        constraints = [models.UniqueConstraint(fields=["image_set", "index"], name="image_once_per_index")]
        indexes = [models.Index(fields=["sha256"], name="image_sha256")]

    def __str__(self) -> str:
        return self.path


class VisionModel(models.Model):
    """A timm model with its weights and preprocessing."""

    name = models.CharField(max_length=80, unique=True)
    digest = models.CharField(max_length=64, unique=True)
    architecture = models.CharField(max_length=120)
    source = models.CharField(max_length=20, help_text="pretrained, checkpoint, untrained or trained")
    n_blocks = models.IntegerField()
    d_model = models.IntegerField()
    n_prefix_tokens = models.IntegerField()
    grid_height = models.IntegerField()
    grid_width = models.IntegerField()
    preprocessing = models.JSONField(default=dict)
    classes = models.JSONField(default=list)
    run = models.ForeignKey("Run", null=True, blank=True, on_delete=models.SET_NULL, related_name="vision_models")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CatalogManager["VisionModel"]()
    everywhere = models.Manager["VisionModel"]()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Readout(models.Model):
    """What turns final tokens into scores: the model's head, a linear probe, or class text embeddings."""

    vision_model = models.ForeignKey(VisionModel, on_delete=models.PROTECT, related_name="readouts")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True)
    classes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["vision_model", "name"], name="readout_name_per_model")]

    def __str__(self) -> str:
        return self.name


CONTROL_KINDS = ("residual_basis", "random_directions", "untrained_dictionary", "random_transformer")


FEED_FORWARD_KINDS = ("ff_kv", "topk_ff_kv")
KIND_NAMES = {
    "topk_sae": "TopK SAE", "batch_topk_sae": "BatchTopK SAE", "jumprelu_sae": "JumpReLU SAE", "relu_sae": "ReLU SAE",
    "cross_layer_transcoder": "cross-layer transcoder", "ff_kv": "FF-KV", "topk_ff_kv": "TopK FF-KV",
}  # fmt: skip


class Dictionary(models.Model):
    """The learned object as a whole, over one or several hookpoints; controls are dictionaries too."""

    name = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=40)
    vision_model = models.ForeignKey(VisionModel, on_delete=models.PROTECT, related_name="dictionaries")
    image_set = models.ForeignKey(ImageSet, on_delete=models.PROTECT, related_name="dictionaries")
    control_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="controls")
    hookpoints = models.JSONField(default=list)
    config = models.JSONField(default=dict)
    quality = models.JSONField(default=dict, help_text="Measures by hookpoint, from the quality artefact.")
    quality_digest = models.CharField(max_length=64, blank=True)
    run = models.ForeignKey("Run", null=True, blank=True, on_delete=models.SET_NULL, related_name="dictionaries")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CatalogManager["Dictionary"]()
    everywhere = models.Manager["Dictionary"]()

    class Meta:
        ordering = ["name", "id"]
        verbose_name_plural = "dictionaries"

    def __str__(self) -> str:
        return self.name

    @property
    def kind_name(self) -> str:
        return KIND_NAMES.get(self.kind, self.kind.replace("_", " "))

    @property
    def is_control(self) -> bool:
        return self.kind in CONTROL_KINDS

    @property
    def is_trained(self) -> bool:
        """Whether it was trained on images; controls are not, nor is what is read off a model's MLPs."""
        return not self.is_control and self.kind not in FEED_FORWARD_KINDS


class ExemplarSet(models.Model):
    """The exemplars of one dictionary over one image set."""

    digest = models.CharField(max_length=64, unique=True)
    dictionary = models.ForeignKey(Dictionary, on_delete=models.PROTECT, related_name="exemplar_sets")
    image_set = models.ForeignKey(ImageSet, on_delete=models.PROTECT, related_name="exemplar_sets")
    run = models.ForeignKey("Run", null=True, blank=True, on_delete=models.SET_NULL, related_name="exemplar_sets")
    counts = models.JSONField(
        default=dict, help_text="By hookpoint: n_features and n_dead, counted as the features are loaded."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"exemplars of {self.dictionary_id} on {self.image_set_id}"


class Feature(models.Model):
    """(dictionary, hookpoint, latent, pole) as shown to people, with the statistics people filter by."""

    dictionary = models.ForeignKey(Dictionary, on_delete=models.PROTECT, related_name="features")
    exemplar_set = models.ForeignKey(ExemplarSet, on_delete=models.PROTECT, related_name="features")
    hookpoint = models.CharField(max_length=60)
    block = models.SmallIntegerField()
    latent = models.IntegerField()
    pole = models.SmallIntegerField(default=1)
    density = models.FloatField(help_text="Share of tokens on which it fires.")
    mean = models.FloatField(help_text="Mean activation where it fires.")
    maximum = models.FloatField()
    prefix_share = models.FloatField(help_text="Share of its images whose maximum sits on CLS or a register.")
    n_images_active = models.IntegerField()
    promoted_class = models.CharField(max_length=200, blank=True, help_text="Class promoted most by the logit lens.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["dictionary", "hookpoint", "latent", "pole"], name="feature_once")
        ]
        indexes = [
            models.Index(fields=["dictionary", "density", "id"], name="feature_density"),
            models.Index(fields=["dictionary", "maximum", "id"], name="feature_maximum"),
            models.Index(fields=["dictionary", "block", "id"], name="feature_block"),
            models.Index(fields=["dictionary", "prefix_share", "id"], name="feature_prefix_share"),
            models.Index(fields=["dictionary", "n_images_active", "id"], name="feature_images"),
            models.Index(fields=["dictionary", "promoted_class", "id"], name="feature_promoted_class"),
        ]

    def __str__(self) -> str:
        sign = "" if self.pole > 0 else " (negative)"
        return f"{self.hookpoint} / {self.latent}{sign}"
