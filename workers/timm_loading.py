"""The one place that imports timm, so that one quirk is cured once per process.

timm imports torchvision. Beside a CPU-only torch, a torchvision wheel built for CUDA fails at import with
"operator torchvision::nms does not exist", because its compiled operators cannot be loaded. Nothing here uses those
operators: declaring their schemas is enough to let the import pass.
"""

from __future__ import annotations

import functools
from types import ModuleType

import torch

OPERATORS = ("nms", "qnms")
ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
DECLARED: list[torch.library.Library] = []  # a declaration lives only as long as its Library object


@functools.cache
def import_timm() -> ModuleType:
    """timm, with torchvision made importable first where its compiled operators do not fit this torch."""
    make_torchvision_importable()
    import timm

    module: ModuleType = timm
    return module


def make_torchvision_importable() -> None:
    """Declare torchvision's operators where its compiled ones cannot be loaded; call it once, before the import."""
    if not torchvision_operators_load():
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in OPERATORS:
            library.define(name + ARGUMENTS)  # type: ignore[no-untyped-call]
        DECLARED.append(library)


def torchvision_operators_load() -> bool:
    """Whether torchvision's compiled operators fit this torch; loading the extension does not import the package."""
    import importlib.machinery
    import importlib.util

    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return True  # not installed: timm says so itself
    extension = importlib.machinery.PathFinder.find_spec("_C", list(found.submodule_search_locations))
    if extension is None or extension.origin is None:
        return True
    try:
        torch.ops.load_library(extension.origin)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")
