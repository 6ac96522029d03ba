"""The reports of every protocol: numbers worked out by hand from a few answers, and empty studies."""

from __future__ import annotations

import base64

import pytest

from analysis.domain.answers import AnswerRow, collect
from analysis.domain.measures import MEASURES
from analysis.domain.report import FAMILIES, figures_of, make_report
from analysis.domain.reports.frame import Report, Subject
from annotation.domain.protocols import PROTOCOLS
from tests.analysis.rows import row

CONTROL = "random_directions"


def report_on(protocol: str, rows: list[AnswerRow], **options: object) -> Report:
    settled = PROTOCOLS[protocol].settle_options(options)
    answers = collect(rows, protocol=protocol, options=settled, include_simulated=False)
    return make_report(answers, Subject(protocol, settled), include_simulated=False)


def values(report: Report, group: str) -> dict[str, float | None]:
    return {name: figure.value for _, of, name, figure in figures_of(report) if of == group}


def test_every_protocol_has_measures_and_a_report() -> None:
    assert set(MEASURES) == set(FAMILIES) == set(PROTOCOLS)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_an_empty_study_has_a_report_that_says_so(protocol: str) -> None:
    figures = [figure for *_, figure in figures_of(report_on(protocol, []))]
    assert figures
    assert {figure.value for figure in figures} == {None}
    assert all(figure.note for figure in figures)


def chosen(item: int, annotator: str, is_right: bool, **fields: object) -> AnswerRow:
    payload: dict[str, object] = {"query": 1 if is_right else 0, "confidence": 3 if is_right else 1}
    return row(item, annotator, payload, truth={"query": 1}, **fields)


def test_two_alternatives_lift_controls_and_calibration() -> None:
    rows = [chosen(item, name, (item, name) != (0, "A"), variant="easy") for item in range(4) for name in "AB"]
    rows += [
        chosen(10 + item, name, item < 2, variant="no-reference", feature=item) for item in range(4) for name in "AB"
    ]
    rows += [
        chosen(20 + item, name, name == "A", variant="easy", condition=CONTROL) for item in range(2) for name in "AB"
    ]
    report = report_on("two-alternative", rows)
    assert values(report, "overall") == {
        "share right": pytest.approx(7 / 8),
        "accuracy minus chance": pytest.approx(3 / 8),
    }
    assert values(report, "condition") == {"feature": pytest.approx(7 / 8), "random directions": 0.5}
    assert values(report, "variant") == {"easy": pytest.approx(7 / 8), "no-reference": 0.5}
    assert values(report, "lift") == {"every kind": pytest.approx(3 / 8)}
    assert values(report, "controls") == {"random directions": pytest.approx(3 / 8)}
    assert values(report, "calibration") == {"a guess": 0.0, "fairly sure": None, "sure": 1.0}
    assert values(report, "verdicts") == {"above chance": 0.0}


def test_intruders_are_measured_against_one_in_five() -> None:
    rows = [
        row(item, name, {"intruder": 2 if item < 3 else 0}, truth={"intruder": 2})
        for item in range(4)
        for name in "ABC"
    ]
    report = report_on("intruder", rows, n_images=5)
    assert values(report, "overall")["accuracy minus chance"] == pytest.approx(0.75 - 0.2)
    assert values(report, "agreement")["raw"] == 1.0
    assert values(report, "verdicts") == {"above chance": 0.75}


PANEL = {"matches": [True, True, False, False], "kinds": ["active", "active", "random", "hard"]}


def test_verification_counts_images_and_compares_with_shuffled_sentences() -> None:
    rows = [row(1, name, {"matches": [0, 1]}, truth=PANEL) for name in "AB"]
    rows += [row(2, "A", {"matches": [0, 3]}, truth=PANEL), row(2, "B", {"matches": [0]}, truth=PANEL)]
    rows += [
        row(11, "A", {"matches": [0, 2]}, truth=PANEL, condition="shuffled_explanation", feature=1),
        row(12, "B", {"matches": []}, truth=PANEL, condition="shuffled_explanation", feature=2),
    ]
    found = values(report_on("verification", rows), "overall")
    assert found["hit rate"] == pytest.approx(6 / 8)
    assert found["false alarm rate"] == pytest.approx(1 / 8)
    assert found["false alarms, look-alikes"] == pytest.approx(1 / 4)
    report = report_on("verification", rows)
    assert values(report, "information") == {"own less shuffled": pytest.approx((6 / 8 + 7 / 8) / 2 - 0.5)}
    # image by image: item 1 all four agree, item 2 differ on its second... only on the fourth image
    assert values(report, "agreement")["raw"] == pytest.approx(7 / 8)


def test_one_image_graded_has_an_auc() -> None:
    rows = [row(item, "A", {"match": 4 - item}, truth={"matches": [item < 2], "kinds": []}) for item in range(4)]
    report = report_on("verification", rows, n_images=1)
    assert values(report, "auc") == {"every explanation": 1.0}


def test_a_dictionary_that_always_wins_is_stronger_whatever_the_side() -> None:
    rows = []
    for item in range(12):
        left = "feature" if item % 2 else "other"
        easier = "tie" if item % 4 == 3 else "left" if left == "feature" else "right"
        for name in "AB":
            rows.append(
                row(item, name, {"easier": easier}, truth={"left": left}, other_dictionary="transcoder",
                    other_feature=100 + item)
            )  # fmt: skip
    report = report_on("pairwise", rows)
    [difference] = values(report, "difference").values()
    strengths = values(report, "strength")
    assert difference is not None
    assert difference > 1
    assert difference == pytest.approx((strengths["sae"] or 0) - (strengths["transcoder"] or 0))
    assert values(report, "ties") == {"ties": 0.25, "left chosen": pytest.approx(3 / 9)}


def test_marks_on_the_map_are_above_chance_and_none_is_chance() -> None:
    patch_map = base64.b64encode(bytes([255, 200, *[0] * 14])).decode()
    marked: dict[str, object] = {"marks": [[0, 0], [0, 1]]}
    rows = [row(item, name, marked, truth={"maps": [patch_map]}) for item in range(3) for name in "AB"]
    rows += [row(9, name, {"marks": []}, truth={"maps": [patch_map]}, condition=CONTROL) for name in "AB"]
    report = report_on("patch-marking", rows, n_images=1)
    assert values(report, "overall")["AUC less chance"] == pytest.approx(0.5)
    assert values(report, "condition") == {"feature": pytest.approx(0.5), "random directions": pytest.approx(0.0)}
    assert values(report, "controls") == {"all controls": pytest.approx(0.5)}


def test_natures_and_the_guess_of_the_origin() -> None:
    rows = [
        row(item, name, {"nature": "conceptual" if item else "superficial", "origin": "feature"})
        for item in range(4)
        for name in "AB"
    ]
    rows += [
        row(
            10,
            name,
            {"nature": "uninterpretable", "origin": "control" if name == "A" else "feature"},
            condition=CONTROL,
        )
        for name in "AB"
    ]
    report = report_on("nature-origin", rows)
    assert values(report, "overall") == {"superficial": 0.25, "conceptual": 0.75, "uninterpretable": 0.0}
    assert values(report, "origin") == {
        "said feature, of features": 1.0,
        "said feature, of controls": 0.5,
        "balanced accuracy, all controls": 0.75,
        "balanced accuracy, random directions": 0.75,
    }


def test_alignment_by_bin_leaves_out_who_cannot_tell() -> None:
    rows = []
    for item, (cosine, same) in enumerate([(0.1, "no"), (0.15, "no"), (0.9, "yes"), (0.95, None)]):
        truth = {"mcs": cosine, "null_percentile": 100 * cosine}
        name = "bin 1" if cosine < 0.5 else "bin 10"
        rows += [row(item, one, {"same": same}, truth=truth, variant=name) for one in "AB"]
    report = report_on("alignment", rows)
    assert values(report, "bins") == {"0.10 to 0.15, null 12 %": 0.0, "0.90 to 0.90, null 90 %": 1.0}
    assert values(report, "overall") == {"by majority": 0.25, "judgements": pytest.approx(2 / 6)}
    assert report.notes == [("Cannot tell", "2")]


def test_spurious_by_majority_and_of_judgements() -> None:
    rows = [
        row(item, name, {"spurious": "yes" if name != "C" or item == 0 else "no", "label": ""}, truth={"class": "dog"})
        for item in range(3)
        for name in "ABC"
    ]
    assert values(report_on("spurious", rows), "overall") == {"by majority": 1.0, "judgements": pytest.approx(7 / 9)}


def test_overturned_majorities_and_ties_that_cannot_be() -> None:
    rows = [
        row(1, "R", {"verdict": "yes"}, truth={"majority": "no"}),
        row(2, "R", {"verdict": "yes"}, truth={"majority": "yes"}),
        row(3, "R", {"verdict": "yes"}, truth={"majority": None}),
    ]
    report = report_on("adjudication", rows)
    assert values(report, "overall") == {"all": 0.5}
    assert report.tally.n_unscored == 1
