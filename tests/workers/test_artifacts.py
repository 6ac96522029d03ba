"""What the store does about damage: an altered artefact is made anew, and a half-written link finds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.artifacts import ArtifactStore


def write(store: ArtifactStore, text: str = "whole") -> Path:
    with store.write("feature-set", config={"text": text}) as writer:
        (writer.folder / "a.txt").write_text(text)
    assert writer.artifact is not None
    return writer.artifact.folder


@pytest.mark.parametrize("damage", ["", "whol", "other"])
def test_making_an_altered_artefact_anew_mends_it(tmp_path: Path, damage: str) -> None:
    store = ArtifactStore(tmp_path)
    folder = write(store)
    (folder / "a.txt").write_text(damage)
    assert write(store) == folder
    assert (folder / "a.txt").read_text() == "whole"
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_a_request_whose_artefact_lost_a_file_is_asked_anew(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    folder = write(store)
    key = store.request_key("feature-set", 1, {"text": "whole"}, [])
    assert store.find_all(key) == [store.open(folder.name)]
    (folder / "a.txt").unlink()
    assert store.find_all(key) is None


def test_an_empty_link_answers_no_request(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    write(store)
    key = store.request_key("feature-set", 1, {"text": "whole"}, [])
    (tmp_path / "requests" / key).write_text("")
    assert store.find_all(key) is None


def test_a_link_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (tmp_path / "requests" / "key").mkdir(parents=True)
    with pytest.raises(OSError):
        store.remember("key", ["digest"])
    assert [path.name for path in (tmp_path / "requests").iterdir()] == ["key"]
