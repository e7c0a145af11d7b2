"""Chapter 09's opening: a picture taken for a table, and what each way of being smaller keeps."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlrm_mini import style

Floats = NDArray[np.float64]
ASPECT = 1.27  # width over height of a panel


def landscape(n: int, width: int) -> Floats:
    """Mountains, a moon and a lake, drawn by formulas: (n, width) shades from 0 to 1."""
    y, x = np.mgrid[0 : 1 : n * 1j, 0 : ASPECT : width * 1j]
    sky = 0.16 + 0.5 * np.clip(y / 0.62, 0, 1) ** 2.2
    across, down = x - 0.72 * ASPECT, y - 0.2
    distance = np.hypot(across, down)
    scene = np.where(
        distance < 0.095, 0.98, sky + 0.22 * np.exp(-(((distance - 0.09) / 0.09) ** 2))
    )
    stars = np.random.default_rng(5).random((n, width)) > 0.9975
    scene = np.where(stars & (y < 0.42) & (distance > 0.13), 0.85, scene)
    ridges = (  # shade, height, and the waves of a ridge
        (0.42, 0.42, ((0.055, 3.3, 0.4), (0.03, 8.0, 1.9), (0.012, 25.0, 0.7))),
        (0.26, 0.52, ((0.07, 2.6, 2.6), (0.028, 10.0, 0.3), (0.010, 33.0, 2.2))),
        (0.10, 0.62, ((0.05, 4.2, 4.4), (0.025, 14.0, 1.2), (0.012, 45.0, 0.1))),
    )
    for shade, height, waves in ridges:
        line = height + sum(a * np.abs(np.sin(f * x / 2 + p)) - a / 2 for a, f, p in waves)
        scene = np.where(y > line, shade, scene)
    shore = 0.72
    mirrored = scene[np.clip(((2 * shore - y[:, 0]) * n).astype(int), 0, n - 1)]
    ripples = 0.05 * np.sin(220 * (y - shore) / (0.6 + y)) * (y - shore) / (1 - shore)
    lake = 0.75 * mirrored + 0.08 + ripples
    glitter = np.exp(-((across / 0.07) ** 2)) * (np.sin(330 * y**2) > 0.1)
    lake = lake + 0.5 * glitter
    found: Floats = np.clip(np.where(y > shore, lake, scene), 0, 1)
    return found


def kept(original: Floats, ways: Mapping[str, tuple[Floats, int]]) -> Figure:
    """A picture as a table, its rows as ids, and what becomes of it in fewer bytes.

    Args:
        original: (N, D) shades from 0 to 1, float32 where bytes are counted.
        ways: words -> the table that each way makes of it, and its bytes.
    """
    picture = Figure(figsize=(10.4, 6.2), layout="constrained")
    whole = original.size * 4
    panels = {"the table": (original, whole), **ways}
    for axes, (words, (table, n_bytes)) in zip(
        picture.subplots(2, 3).flat, panels.items(), strict=True
    ):
        axes.imshow(table, cmap=style.GLOW, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(words)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(f"{n_bytes:,} bytes", fontsize=10)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    picture.supylabel("one row an id, the frequent ones at the top", fontsize=11)
    return picture
