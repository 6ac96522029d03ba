"""What the pages of runs show: lists, chunk strips, metrics thinned for plotting, the log's tail, what was made."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import Any, NamedTuple

from django.db.models import Count, QuerySet
from django.utils.translation import gettext, gettext_noop

from annotation.domain.run_estimates import readable_seconds
from annotation.domain.runs import RunProgress, run_progress, stage_config
from annotation.models import Chunk, Dictionary, ExemplarSet, ImageSet, Readout, Run, RunLogLine, VisionModel
from workers.stages.configs import STAGES, TrainDictionaryConfig

MAX_CELLS = 240
MAX_POINTS = 240
MANY_LINES = 60  # of all plots together: from here on each has fewer points, as the page is sent every other second
PLOT_ORDER = {name: i for i, name in enumerate(("loss", "explained_variance", "l0", "dead_share", "auxiliary_loss"))}
LOG_LINES = 60
WORST_FIRST = (Chunk.State.FAILED, Chunk.State.RUNNING, Chunk.State.WAITING, Chunk.State.DONE)


def filtered_runs(*, state: str = "", stage: str = "") -> QuerySet[Run]:
    runs = Run.objects.select_related("created_by")
    if state:
        runs = runs.filter(state=state)
    return runs.filter(stage=stage) if stage else runs


def runs_by_state() -> dict[str, int]:
    rows = Run.objects.order_by("state").values("state").annotate(n=Count("id"))
    return {row["state"]: row["n"] for row in rows}


class RunRow(NamedTuple):
    run: Run
    progress: RunProgress
    left: str
    taken: str


def run_row(run: Run) -> RunRow:
    progress = run_progress(run)
    left = readable_seconds(progress.seconds_left) if progress.seconds_left is not None else ""
    return RunRow(run, progress, left, readable_seconds(progress.seconds_taken) if run.started_at else "")


class Cell(NamedTuple):
    """One square of the strip: one chunk, or several where there are many."""

    state: str
    title: str


class ChunkStrip(NamedTuple):
    cells: list[Cell]
    n_done: int
    n_chunks: int
    owners: list[str]
    n_repeated: int


def chunk_strip(run: Run) -> ChunkStrip:
    """The work chunks in their order; the attempts beyond the first are counted as repeated."""
    rows = list(
        run.chunks.filter(kind=Chunk.Kind.WORK).order_by("index").values_list("index", "state", "attempt", "owner")
    )
    per_cell = max(1, -(-len(rows) // MAX_CELLS))
    cells = []
    for start in range(0, len(rows), per_cell):
        group = rows[start : start + per_cell]
        states = {state for _, state, _, _ in group}
        worst = next(state for state in WORST_FIRST if state in states)
        name = (
            gettext("chunk %(n)s") % {"n": group[0][0]}
            if len(group) == 1
            else gettext("chunks %(first)s to %(last)s") % {"first": group[0][0], "last": group[-1][0]}
        )
        cells.append(Cell(worst, f"{name}: {gettext(worst)}"))
    return ChunkStrip(
        cells=cells,
        n_done=sum(state == Chunk.State.DONE for _, state, _, _ in rows),
        n_chunks=len(rows),
        owners=sorted(set(run.chunks.filter(state=Chunk.State.RUNNING).values_list("owner", flat=True))),
        n_repeated=sum(max(0, attempt - 1) for _, _, attempt, _ in rows),
    )


class Series(NamedTuple):
    """One line of a plot: the steps in order and their values. ``group`` is the panel it is drawn in."""

    label: str
    steps: list[int]
    values: list[float]
    group: str = ""


def metric_plots(run: Run) -> dict[str, list[Series]]:
    """Metrics by plot: 'loss/blocks.3' is the line 'blocks.3' of 'loss', 'loss/1/blocks.3' that of dictionary 1."""
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, step, value in run.metrics.order_by("name", "step").values_list("name", "step", "value"):
        points[name].append((step, value))
    most = MAX_POINTS if len(points) < MANY_LINES else MAX_POINTS // 3
    groups = dictionary_names(run)
    plots: dict[str, list[Series]] = defaultdict(list)
    for name in sorted(points, key=natural_order):
        plot, _, rest = name.partition("/")
        number, _, label = rest.rpartition("/")
        thinned = thin(points[name], most)
        group = groups[int(number)] if number.isdecimal() and int(number) < len(groups) else number
        steps, values = [step for step, _ in thinned], [value for _, value in thinned]
        plots[plot].append(Series(label or plot, steps, values, group))
    return dict(sorted(plots.items(), key=lambda entry: (PLOT_ORDER.get(entry[0], len(PLOT_ORDER)), entry[0])))


def dictionary_names(run: Run) -> list[str]:
    """The names of the dictionaries that a run trains, what they begin with alike left out."""
    if not run.config.get("variants"):
        return []
    config = stage_config(run)
    assert isinstance(config, TrainDictionaryConfig), config
    return [one.name.removeprefix(f"{config.name} ") for one in config.dictionaries()]


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """blocks.2 before blocks.10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in name.replace("/", ".").split(".")]


def thin(points: list[tuple[int, float]], most: int = MAX_POINTS) -> list[tuple[int, float]]:
    """At most so many points, evenly spread, the last one always among them."""
    stride = max(1, -(-len(points) // most))
    return points[::-1][::stride][::-1]


def log_tail(run: Run) -> list[RunLogLine]:
    return list(run.log_lines.order_by("-id")[:LOG_LINES])[::-1]


class Setting(NamedTuple):
    """One line of a config: artefacts by name, ``exact`` as it is stored."""

    label: str
    value: str
    exact: str


def shown_config(run: Run) -> list[Setting]:
    stage = STAGES.get(run.stage)
    labels = {f.name: gettext(f.metadata.get("label", f.name)) for f in fields(stage.config_class)} if stage else {}
    names = artifact_names(run.parents)
    return [
        Setting(labels.get(name, name), shown_value(value, names), shown_value(value, {}))
        for name, value in run.config.items()
    ]


def shown_value(value: Any, names: dict[str, str]) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(shown_value(entry, names) for entry in value) or "none"
    if isinstance(value, str):
        return names.get(value, value) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def artifact_names(digests: list[str]) -> dict[str, str]:
    """The names people gave to artefacts; the first figures of the digest where there is none."""
    names = {digest: digest[:12] for digest in digests}
    for model in (ImageSet, VisionModel, Readout, Dictionary):
        names |= dict(model.objects.filter(digest__in=digests).values_list("digest", "name"))
    return names


class Made(NamedTuple):
    """An artefact of a run and, where the catalog shows it, the row it has there."""

    kind: str
    digest: str
    row: VisionModel | Readout | Dictionary | ExemplarSet | None


def artifacts_made(run: Run) -> list[Made]:
    """What the run made, in its order, with four queries at most."""
    found: dict[str, tuple[str, VisionModel | Readout | Dictionary | ExemplarSet]] = {}
    for vision_model in VisionModel.objects.filter(digest__in=run.artifacts):
        found[vision_model.digest] = (gettext_noop("vision model"), vision_model)
    for readout in Readout.objects.filter(digest__in=run.artifacts):
        found[readout.digest] = (gettext_noop("readout"), readout)
    for dictionary in Dictionary.objects.filter(digest__in=run.artifacts):
        found[dictionary.digest] = ("dictionary", dictionary)
    for exemplar_set in ExemplarSet.objects.filter(digest__in=run.artifacts).select_related("dictionary"):
        found[exemplar_set.digest] = (gettext_noop("exemplars"), exemplar_set)
    other = gettext_noop("quality") if run.stage == "evaluate-dictionary" else gettext_noop("artefact")
    return [Made(found[d][0], d, found[d][1]) if d in found else Made(other, d, None) for d in run.artifacts]
