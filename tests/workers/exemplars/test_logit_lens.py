"""The logit lens by hand."""

from __future__ import annotations

import torch

from workers.exemplars.logit_lens import promoted_classes


def test_the_classes_promoted_most_come_first() -> None:
    decoder = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    classes = torch.tensor([[0.5, 1.0], [2.0, 3.0], [-1.0, -2.0]])
    promoted = promoted_classes(decoder, classes, 2)
    assert promoted.classes.tolist() == [[1, 0], [2, 0]]
    assert promoted.values.tolist() == [[2.0, 0.5], [2.0, -1.0]]


def test_a_readout_of_two_classes_gives_two() -> None:
    assert promoted_classes(torch.eye(2), torch.eye(2)).classes.shape == (2, 2)
