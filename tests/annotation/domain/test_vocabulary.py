"""Vocabularies: what is accepted, what is offered, what stands for what, and that answers keep their words."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from annotation.domain.answer_message import AnswerError
from annotation.domain.answers import submit_answer
from annotation.domain.queue import claim_slots
from annotation.domain.vocabulary import canonical, canonical_labels, check_label, near_terms, suggest
from annotation.domain.vocabulary_editing import (
    ImportedTerm,
    VocabularyError,
    add_synonym,
    add_term,
    import_terms,
    merge_terms,
    preview_merge,
    read_list,
    rename_term,
    set_mode,
    undo_merge,
)
from annotation.domain.vocabulary_list import term_rows
from annotation.models import Annotation, Role, Study, Term, TermMerge, User
from tests.annotation.small_study import SmallStudy, make_answer, make_person, make_study

pytestmark = pytest.mark.django_db
FIXED, EXTENSIBLE = Study.VocabularyMode.FIXED, Study.VocabularyMode.EXTENSIBLE


@pytest.fixture
def small() -> SmallStudy:
    return make_study(n_items=6)


@pytest.fixture
def rhea(small: SmallStudy) -> User:
    return make_person("rhea", Role.RESEARCHER)


def use(small: SmallStudy, label: str, n: int = 1) -> Term:
    """n answers with this label, given by the first person."""
    for _ in range(n):
        (slot,) = claim_slots(study=small.study, annotator=small.people[0], n=1, have=[])
        payload = {"patch_rating": 3, "image_rating": 3, "category": "", "label": label}
        answer = make_answer(slot.item, slot, payload=payload)
        submit_answer(annotator=small.people[0], study=small.study, answer=answer)
    return Term.objects.get(study=small.study, text=label)


def test_a_merge_changes_what_a_label_stands_for_and_no_answer(small: SmallStudy, rhea: User) -> None:
    source, target = use(small, "stripey", 2), use(small, "striped")
    preview = preview_merge(source=source, target=target)
    assert (preview.n_source, preview.n_target, preview.n_after) == (2, 1, 3)
    merge = merge_terms(source=source, target=target, user=rhea, reason="one word")
    assert canonical(small.study, "stripey") == canonical_labels(small.study)("stripey") == "striped"
    assert canonical_labels(small.study)("dots") == "dots"
    assert sorted(Annotation.objects.values_list("label", flat=True)) == ["striped", "stripey", "stripey"]
    assert [(row.text, row.n_uses) for row in term_rows(small.study)] == [("striped", 3)]
    assert (merge.by, merge.reason, merge.n_uses) == (rhea, "one word", 2)
    undo_merge(merge=merge, user=rhea)
    assert canonical(small.study, "stripey") == "stripey"
    assert [(row.text, row.n_uses) for row in term_rows(small.study)] == [("stripey", 2), ("striped", 1)]
    with pytest.raises(VocabularyError, match="undone before"):
        undo_merge(merge=merge, user=rhea)


def test_merges_form_chains_that_can_be_undone_in_the_middle(small: SmallStudy, rhea: User) -> None:
    a, b, c = (add_term(study=small.study, user=rhea, text=text) for text in ("a one", "b two", "c three"))
    merge_terms(source=a, target=b, user=rhea, reason="same")
    second = merge_terms(source=b, target=c, user=rhea, reason="same")
    assert canonical_labels(small.study)("a one") == canonical(small.study, "a one") == "c three"
    c.refresh_from_db()
    with pytest.raises(VocabularyError, match="the same term"):
        merge_terms(source=c, target=a, user=rhea, reason="a ring")
    undo_merge(merge=second, user=rhea)
    assert canonical(small.study, "a one") == "b two"


def test_a_merge_needs_a_reason(small: SmallStudy, rhea: User) -> None:
    a, b = add_term(study=small.study, user=rhea, text="a"), add_term(study=small.study, user=rhea, text="b")
    with pytest.raises(VocabularyError, match="Say why"):
        merge_terms(source=a, target=b, user=rhea, reason=" ")
    assert not TermMerge.objects.exists()


def test_a_renamed_term_is_found_by_both_names(small: SmallStudy, rhea: User) -> None:
    old = use(small, "roundish")
    rename_term(term=old, user=rhea, text="round  shape")
    assert canonical(small.study, "roundish") == "round shape"
    assert [(term.text, term.n_uses, term.wording) for term in suggest(small.study, "roundi").terms] == [
        ("round shape", 1, "roundish")
    ]
    use(small, "roundish")
    assert [(row.text, row.n_uses) for row in term_rows(small.study)] == [("round shape", 2)]


def test_a_synonym_cannot_be_a_term_of_its_own(small: SmallStudy, rhea: User) -> None:
    term = add_term(study=small.study, user=rhea, text="edge")
    use(small, "border")
    with pytest.raises(VocabularyError, match="merge it instead"):
        add_synonym(term=term, user=rhea, text="border")
    add_synonym(term=term, user=rhea, text="rim")
    assert canonical(small.study, "rim") == "edge"


def test_every_change_is_a_version_stamped_on_the_answers_after_it(small: SmallStudy, rhea: User) -> None:
    use(small, "dot")
    term = add_term(study=small.study, user=rhea, text="spot")
    add_synonym(term=term, user=rhea, text="speck")
    set_mode(study=small.study, user=rhea, mode=EXTENSIBLE)
    use(small, "spot")
    versions = Annotation.objects.order_by("id").values_list("vocabulary_version", flat=True)
    assert list(versions) == [1, 4]
    kinds = list(small.study.events.order_by("id").values_list("kind", flat=True))
    assert kinds == ["term added", "synonym added", "vocabulary mode"]


def test_a_fixed_vocabulary_takes_the_list_and_its_synonyms_only(small: SmallStudy, rhea: User) -> None:
    with pytest.raises(VocabularyError, match="List some terms first"):
        set_mode(study=small.study, user=rhea, mode=FIXED)
    term = add_term(study=small.study, user=rhea, text="edge")
    add_synonym(term=term, user=rhea, text="rim")
    set_mode(study=small.study, user=rhea, mode=FIXED)
    for label in ("", "edge", "Edge", "rim"):
        check_label(small.study, label)
    with pytest.raises(AnswerError) as refusal:
        use(small, "hedge")
    assert str(refusal.value) == (
        "This study takes labels from its list only, and “hedge” is not on it; choose one that is offered."
    )
    assert not Annotation.objects.exists()
    add_term(study=small.study, user=rhea, text="hedge")
    use(small, "hedge")
    assert Annotation.objects.get().label == "hedge"


def test_an_answer_taken_before_the_list_was_fixed_is_still_acknowledged_when_sent_again(
    small: SmallStudy, rhea: User
) -> None:
    (slot,) = claim_slots(study=small.study, annotator=small.people[0], n=1, have=[])
    answer = make_answer(slot.item, slot)
    submit_answer(annotator=small.people[0], study=small.study, answer=answer)
    add_term(study=small.study, user=rhea, text="edge")
    set_mode(study=small.study, user=rhea, mode=FIXED)
    assert submit_answer(annotator=small.people[0], study=small.study, answer=answer).stored == "replayed"


def test_offers_terms_with_their_uses_and_what_is_near(small: SmallStudy, rhea: User) -> None:
    use(small, "vertical stripes", 2)
    add_term(study=small.study, user=rhea, text="vertical line")
    found = suggest(small.study, "verti")
    assert [(term.text, term.n_uses) for term in found.terms] == [("vertical stripes", 2), ("vertical line", 0)]
    assert (found.is_known, found.may_create, found.near) == (False, True, [])
    twin = suggest(small.study, "Vertical stripe")
    assert [term.text for term in twin.near] == ["vertical stripes"]
    use(small, "dots")
    assert [term.text for term in suggest(small.study, "dot").terms] == ["dots"]
    assert near_terms(small.study, "dots") == []


def test_a_fixed_vocabulary_offers_its_list_only_and_nothing_new(small: SmallStudy, rhea: User) -> None:
    use(small, "edgy thing")
    term = add_term(study=small.study, user=rhea, text="edge")
    add_synonym(term=term, user=rhea, text="edging")
    set_mode(study=small.study, user=rhea, mode=FIXED)
    found = suggest(small.study, "edg")
    assert [(one.text, one.wording) for one in found.terms] == [("edge", "")]
    assert found.may_create is False


def test_a_list_is_imported_whole_or_not_at_all(small: SmallStudy, rhea: User) -> None:
    use(small, "striped")
    rows = read_list("term,synonyms\nstriped,stripy;streaked\n\nblue\n")
    assert rows == [ImportedTerm("striped", ("stripy", "streaked")), ImportedTerm("blue", ())]
    assert import_terms(study=small.study, user=rhea, rows=rows) == (1, 1, 2)
    assert canonical(small.study, "streaked") == "striped"
    assert import_terms(study=small.study, user=rhea, rows=rows) == (0, 2, 0)
    before = Term.objects.count()
    with pytest.raises(VocabularyError, match="“streaked” stands for another term"):
        import_terms(study=small.study, user=rhea, rows=[ImportedTerm("new", ()), ImportedTerm("streaked", ())])
    assert Term.objects.count() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The list is empty; give a term per line, its synonyms after a comma."),
        ("edge\nEdge", "Line 2: “Edge” stands twice in the list."),
        (",rim", "Line 1: Write the term first."),
        ("x" * 121, "Line 1: The term has 121 characters; 120 is the most."),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_by_line(text: str, sentence: str) -> None:
    with pytest.raises(VocabularyError) as refusal:
        read_list(text)
    assert str(refusal.value) == sentence


# ---- endpoints and pages


@pytest.fixture
def annotator(small: SmallStudy, client: Client) -> Client:
    client.force_login(small.people[0])
    return client


def test_the_player_is_offered_terms_and_warned_of_twins(small: SmallStudy, annotator: Client) -> None:
    use(small, "red circle")
    offered = annotator.get("/work/first/terms", {"q": "circ"}).json()
    assert offered == {
        "terms": [{"text": "red circle", "n_uses": 1, "wording": ""}], "near": [], "is_known": False,
        "may_create": True, "mode": "open",
    }  # fmt: skip
    near = annotator.get("/work/first/terms/check", {"q": "red circles"}).json()
    assert near == {"near": [{"text": "red circle", "n_uses": 1, "wording": ""}]}
    assert annotator.get("/work/first/terms", {"q": ""}).json()["terms"] == []
    assert annotator.post("/work/first/terms").status_code == 405


def test_suggestions_ask_the_database_the_same_few_times_however_many_terms(
    small: SmallStudy, annotator: Client, django_assert_max_num_queries: Any
) -> None:
    for n in (1, 30):
        Term.objects.bulk_create(Term(study=small.study, text=f"thing {n} {i}", n_uses=i) for i in range(n))
        annotator.get("/work/first/terms", {"q": "thing"})
        with django_assert_max_num_queries(5):
            annotator.get("/work/first/terms", {"q": "thing"})


@pytest.fixture
def researcher(small: SmallStudy, rhea: User) -> Client:
    Study.objects.filter(pk=small.study.pk).update(created_by=rhea)
    client = Client()
    client.force_login(rhea)
    return client


def test_the_vocabulary_page_changes_the_vocabulary(small: SmallStudy, researcher: Client) -> None:
    a, b = use(small, "stripey", 2), use(small, "striped")
    address = "/studies/first/vocabulary/"
    page = researcher.get(address, {"sort": "-uses"})
    assert [row.text for row in page.context["page"].object_list] == ["stripey", "striped"]
    researcher.post(f"{address}change/", {"act": "add", "text": "dotted"})
    researcher.post(f"{address}change/", {"act": "import", "rows": "checked,chequered"})
    researcher.post(f"{address}change/", {"act": "mode", "mode": "extensible"})
    small.study.refresh_from_db()
    assert (small.study.vocabulary_mode, small.study.vocabulary_version) == ("extensible", 4)
    preview = researcher.get(f"{address}{a.pk}/merge/", {"into": "striped"})
    assert preview.context["preview"].n_after == 3
    merged = researcher.post(f"{address}{a.pk}/merge/", {"into": "striped", "reason": "one word"})
    assert merged["Location"] == f"{address}{b.pk}/"
    assert researcher.get(f"{address}{a.pk}/")["Location"] == f"{address}{b.pk}/"
    researcher.post(f"{address}{b.pk}/", {"act": "synonym", "text": "lined"})
    assert "lined" in researcher.get(f"{address}{b.pk}/").content.decode()
    lines = researcher.get("/studies/first/vocabulary.csv", {"sort": "term"}).content.decode().splitlines()
    assert [line.rsplit(",", 1)[0] for line in lines] == [
        "term,synonyms,uses,own uses,is listed,merged from",
        "checked,chequered,0,0,1,",
        "dotted,,0,0,1,",
        "striped,lined,3,1,0,stripey (2)",
    ]
    researcher.post(f"{address}merges/{TermMerge.objects.get(kind='merge').pk}/undo/")
    assert canonical(small.study, "stripey") == "stripey"


def test_a_label_that_looks_like_a_formula_is_none_in_a_spreadsheet_and_comes_back_as_written(
    small: SmallStudy, researcher: Client
) -> None:
    use(small, '=HYPERLINK("http://x.test")')
    file = researcher.get("/studies/first/vocabulary.csv").content.decode()
    assert file.splitlines()[1].startswith("\"'=HYPERLINK(")
    assert [row.text for row in read_list(file)] == ['=HYPERLINK("http://x.test")']


def test_the_vocabulary_page_says_what_was_wrong(small: SmallStudy, researcher: Client) -> None:
    term = use(small, "striped")
    page = researcher.post("/studies/first/vocabulary/change/", {"act": "mode", "mode": "fixed"}, follow=True)
    assert "List some terms first" in page.content.decode()
    page = researcher.get(f"/studies/first/vocabulary/{term.pk}/merge/", {"into": "nothing"})
    assert "There is no term “nothing”" in page.content.decode()


def test_the_vocabulary_is_for_the_studys_researchers_and_readers(
    small: SmallStudy, researcher: Client, annotator: Client
) -> None:
    term = use(small, "striped")
    addresses = ("vocabulary/", "vocabulary.csv", f"vocabulary/{term.pk}/", f"vocabulary/{term.pk}/merge/")
    for address in addresses:
        assert researcher.get(f"/studies/first/{address}").status_code == 200
        assert annotator.get(f"/studies/first/{address}").status_code == 403
    other = Client()
    other.force_login(make_person("rolf", Role.RESEARCHER))
    assert other.get("/studies/first/vocabulary/").status_code == 200
    assert other.post("/studies/first/vocabulary/change/", {"act": "add", "text": "x"}).status_code == 403
    assert other.post(f"/studies/first/vocabulary/{term.pk}/", {"act": "rename", "text": "x"}).status_code == 403
    assert researcher.get("/studies/first/vocabulary/999999/").status_code == 404
    assert researcher.get("/studies/first/vocabulary/change/").status_code == 405


def test_the_vocabulary_page_asks_as_often_for_three_terms_as_for_one(
    small: SmallStudy, researcher: Client, django_assert_max_num_queries: Any
) -> None:
    counts = []
    for n in (1, 2):
        Term.objects.bulk_create(Term(study=small.study, text=f"term {n} {i}", is_listed=True) for i in range(n))
        with django_assert_max_num_queries(20) as asked:
            researcher.get("/studies/first/vocabulary/")
        counts.append(len(asked))
    assert counts[0] == counts[1]
