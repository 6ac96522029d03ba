"""Pictures of one shape on a textured ground, drawn for many images at once with plain array arithmetic.

A shape is an implicit function d(u, v), negative inside, in the shape's own frame (turned, scaled to about [-1, 1] and,
for the bent variant, curved along u). Coverage of a pixel is clip(1/2 - d · radius), which smooths the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

IMAGE_SIZE = 64
SHAPES = ("disk", "ring", "square", "triangle", "cross", "star")
COLORS = ("red", "green", "blue", "yellow", "magenta", "cyan")
TEXTURES = ("solid", "striped", "dotted", "checkered")
CURVATURES = ("straight", "bent")
SIZES = ("small", "medium", "large")
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
BACKGROUNDS = ("sand", "sea", "grass", "night", "brick", "snow")

RGB = np.array(
    [[225, 40, 40], [50, 200, 60], [50, 80, 230], [245, 220, 40], [225, 60, 220], [50, 215, 225]], dtype=np.float32
)
GROUND = np.array(
    [[200, 178, 130], [38, 82, 100], [78, 96, 42], [16, 16, 26], [122, 78, 62], [236, 238, 242]], dtype=np.float32
)
RADII = np.array([15.0, 18.0, 21.0], dtype=np.float32)
STEP = 8.0  # pixels between neighboring positions
BEND = 0.4
DARKER = 0.6  # the second tone of a textured shape


class Attributes(NamedTuple):
    """What is drawn on each image; integers index the tuples of names above."""

    shape: Integers
    color: Integers
    texture: Integers
    curvature: Integers
    size: Integers
    row: Integers
    column: Integers
    background: Integers
    x: Floats
    y: Floats
    radius: Floats
    angle: Floats


class Pictures(NamedTuple):
    images: NDArray[np.uint8]  # [image, y, x, rgb]
    masks: NDArray[np.bool_]  # [image, y, x], true on the shape


def draw_attributes(n: int, agreement: float, rng: np.random.Generator) -> Attributes:
    """Attributes of n images, independent of each other; the ground is the shape's own with probability `agreement`."""
    shape = rng.integers(len(SHAPES), size=n)
    shifted = (shape + rng.integers(1, len(BACKGROUNDS), size=n)) % len(BACKGROUNDS)
    size, row, column = rng.integers(3, size=n), rng.integers(3, size=n), rng.integers(3, size=n)
    jitter = rng.uniform(-1.5, 1.5, size=(3, n))
    center = (IMAGE_SIZE - 1) / 2
    return Attributes(
        shape=shape,
        color=rng.integers(len(COLORS), size=n),
        texture=rng.integers(len(TEXTURES), size=n),
        curvature=rng.integers(len(CURVATURES), size=n),
        size=size,
        row=row,
        column=column,
        background=np.where(rng.random(n) < agreement, shape, shifted),
        x=(center + STEP * (column - 1) + jitter[0]).astype(np.float32),
        y=(center + STEP * (row - 1) + jitter[1]).astype(np.float32),
        radius=(RADII[size] + jitter[2] / 1.5).astype(np.float32),
        angle=rng.uniform(-0.3, 0.3, size=n).astype(np.float32),
    )


def render(attributes: Attributes, rng: np.random.Generator) -> Pictures:
    """Draw the images; `rng` gives the grain and the phases of the textures."""
    u, v = own_frame(attributes)
    coverage = cover(attributes, u, v)
    ground = draw_ground(attributes.background, rng)
    tone = draw_texture(attributes, u, v)
    shape_rgb = RGB[attributes.color][:, None, None, :] * tone[..., None]
    mixed = ground + coverage[..., None] * (shape_rgb - ground)
    mixed += rng.normal(0, 3, size=mixed.shape[:3]).astype(np.float32)[..., None]
    return Pictures(np.clip(mixed, 0, 255).astype(np.uint8), coverage > 0.5)


def own_frame(attributes: Attributes) -> tuple[Floats, Floats]:
    """Coordinates of every pixel in the shape's frame, [image, y, x] each; v points up."""
    axis = np.arange(IMAGE_SIZE, dtype=np.float32)
    x = (axis[None, None, :] - attributes.x[:, None, None]) / attributes.radius[:, None, None]
    y = (attributes.y[:, None, None] - axis[None, :, None]) / attributes.radius[:, None, None]
    cosine, sine = np.cos(attributes.angle)[:, None, None], np.sin(attributes.angle)[:, None, None]
    u, v = cosine * x + sine * y, cosine * y - sine * x
    bend = np.where(attributes.curvature == CURVATURES.index("bent"), BEND, 0).astype(np.float32)
    return u, v + bend[:, None, None] * (u * u - np.float32(0.35))


def cover(attributes: Attributes, u: Floats, v: Floats) -> Floats:
    distance = np.empty_like(u)
    for index, name in enumerate(SHAPES):
        chosen = attributes.shape == index
        distance[chosen] = OUTLINES[name](u[chosen], v[chosen])
    coverage: Floats = np.clip(np.float32(0.5) - distance * attributes.radius[:, None, None], 0, 1)
    return coverage


def disk(u: Floats, v: Floats) -> Floats:
    return np.sqrt(u * u + v * v) - np.float32(0.92)


def ring(u: Floats, v: Floats) -> Floats:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.72)) - np.float32(0.26)


def square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.82)


def triangle(u: Floats, v: Floats) -> Floats:
    slanted = np.float32(0.866) * np.abs(u) + np.float32(0.5) * v
    return np.maximum(slanted, -v) - np.float32(0.56)


def cross(u: Floats, v: Floats) -> Floats:
    wide, narrow = np.float32(1.0), np.float32(0.3)
    across = np.maximum(np.abs(u) - wide, np.abs(v) - narrow)
    upright = np.maximum(np.abs(u) - narrow, np.abs(v) - wide)
    return np.minimum(across, upright)


def star(u: Floats, v: Floats) -> Floats:
    """Five points: fold the angle into half a point, then the side from the tip (1, 0) to the notch."""
    wedge = np.pi / 5
    angle = np.abs((np.arctan2(u, v) + wedge) % (2 * wedge) - wedge)
    r = np.sqrt(u * u + v * v)
    notch = 0.42 * np.array([np.cos(wedge), np.sin(wedge)])
    normal = np.array([notch[1], 1.05 - notch[0]]) / np.hypot(notch[1], 1.05 - notch[0])
    side: Floats = r * np.cos(angle) * normal[0] + r * np.sin(angle) * normal[1] - 1.05 * normal[0]
    return side


OUTLINES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disk": disk, "ring": ring, "square": square, "triangle": triangle, "cross": cross, "star": star,
}  # fmt: skip


def draw_texture(attributes: Attributes, u: Floats, v: Floats) -> Floats:
    """The tone of the shape at each pixel, [image, y, x]: 1, or DARKER on stripes, dots and checks."""
    pixels = attributes.radius[:, None, None] * np.float32(2 * np.pi / 8)  # a period of 8 pixels
    waves_u, waves_v = np.sin(u * pixels), np.sin(v * pixels)
    texture = attributes.texture[:, None, None]
    striped = (texture == TEXTURES.index("striped")) & (waves_v > 0)
    dotted = (texture == TEXTURES.index("dotted")) & (waves_u + waves_v > 0.9)
    checkered = (texture == TEXTURES.index("checkered")) & (waves_u * waves_v > 0)
    return np.where(striped | dotted | checkered, np.float32(DARKER), np.float32(1))


def draw_ground(background: Integers, rng: np.random.Generator) -> Floats:
    """A plain color with a faint pattern of its own for each kind of ground, [image, y, x, rgb]."""
    n = len(background)
    axis = np.arange(IMAGE_SIZE, dtype=np.float32)
    phase = rng.uniform(0, 2 * np.pi, size=(2, n, 1, 1)).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    grain = rng.normal(0, 1, size=(n, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)
    waves = np.sin(2 * np.pi * y / 10 + np.sin(2 * np.pi * x / 32 + phase[0]) + phase[1])
    blades = np.sin(2 * np.pi * x / 6 + phase[0]) * np.ones_like(grain)
    joints = ((y + phase[0]) % 8 < 1.2) | ((x + 8 * ((y + phase[0]) // 8 % 2) + phase[1]) % 16 < 1.2)
    patterns = (9 * grain, 16 * waves, 14 * blades + 5 * grain, 150 * (grain > 2.6), 40 * joints, 3 * grain)
    pattern = np.select([(background == i)[:, None, None] for i in range(len(BACKGROUNDS))], patterns)
    drawn: Floats = GROUND[background][:, None, None, :] + pattern.astype(np.float32)[..., None]
    return drawn
