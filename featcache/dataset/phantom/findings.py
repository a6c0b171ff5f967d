"""What the classes show: additions to the optical depth of the lungs."""

import numpy as np

from featcache.core.registry import Registry
from featcache.dataset.phantom.base import Chest, Field, Mask, bump, cloud, step


def _nothing(chest: Chest, rng: np.random.Generator) -> Field:
    return np.zeros_like(chest.depth)


def _ground_glass(chest: Chest, rng: np.random.Generator) -> Field:
    """Hazy patches at the edge of both lungs, mostly low."""
    centres = [
        ((-1, 1)[n % 2], rng.uniform(0.65, 0.95), rng.triangular(0.3, 0.8, 1))
        for n in range(rng.integers(4, 9))
    ]
    return rng.uniform(0.4, 1.2) * _patches(chest, rng, centres, (0.10, 0.22))


def _pneumonia(chest: Chest, rng: np.random.Generator) -> Field:
    """Streaks through both lungs, or one dense zone of one lung."""
    if rng.random() < 0.55:
        return _streaks(chest, rng)
    side = (-1, 1)[rng.integers(2)]
    lateral, level = rng.uniform(0.15, 0.6), rng.uniform(0.35, 0.85)
    centres = [(side, *rng.normal((lateral, level), 0.1)) for _ in range(3)]
    dense = _patches(chest, rng, centres, (0.16, 0.28))
    return rng.uniform(0.5, 1.5) * dense * (chest.x * side > 0)


def _streaks(chest: Chest, rng: np.random.Generator) -> Field:
    """A fine net, strongest around the hila."""
    size = len(chest.y)
    nets = [bump(cloud(rng, size, cells), 0, 0.35) for cells in (26, 40, 60)]
    spread = np.clip(1.15 - 0.6 * chest.lateral, 0, 1) * step(chest.level - 0.15, 0.1)
    spread *= np.clip(1 + 0.25 * cloud(rng, size, 6), 0.3, 1.5)
    streaks: Field = spread * (0.35 + np.mean(nets, axis=0))
    return rng.uniform(0.25, 0.6) * streaks


def _patches(
    chest: Chest,
    rng: np.random.Generator,
    centres: list[tuple[int, float, float]],
    reach: tuple[float, float],
) -> Field:
    """Soft uneven patches of about unit height around (side, lateral, level)."""
    size = len(chest.y)
    rough, grain = 1 + 0.22 * cloud(rng, size, 14), 1 + 0.18 * cloud(rng, size, 45)
    patches = np.zeros_like(chest.depth)
    for side, lateral, level in centres:
        off = np.abs(chest.lateral - lateral) + np.abs(chest.level - level)
        off = np.where(chest.x * side > 0, off, np.inf)
        row, column = np.unravel_index(np.argmin(off), off.shape)
        away = np.hypot(chest.x - chest.x[0, column], chest.y - chest.y[row, 0])
        away *= rough / rng.uniform(*reach)
        patch = rng.uniform(0.7, 1.0) * np.exp(-np.abs(away * away * away))
        patches = np.maximum(patches, patch)
    return patches * grain


def _small_ground_glass(chest: Chest, rng: np.random.Generator) -> Field:
    """One small hazy patch in one lung."""
    grain = 1 + 0.18 * cloud(rng, len(chest.y), 45)
    return rng.uniform(*SMALL_DEPTH) * _small(chest, rng, grain)


def _small_pneumonia(chest: Chest, rng: np.random.Generator) -> Field:
    """One small patch of a fine net in one lung."""
    net = bump(cloud(rng, len(chest.y), 60), 0, 0.35)
    return rng.uniform(*SMALL_DEPTH) * _small(chest, rng, 0.5 + net)


def _small(chest: Chest, rng: np.random.Generator, texture: Field) -> Field:
    """A patch that covers a share within ``SMALL`` of the lung fields."""
    side, share = (-1, 1)[rng.integers(2)], rng.uniform(*SMALL)
    off = np.abs(chest.lateral - rng.uniform(0.25, 0.8))
    off = off + np.abs(chest.level - rng.uniform(0.3, 0.9))
    row, column = np.unravel_index(
        np.argmin(np.where(chest.x * side > 0, off, np.inf)), off.shape
    )
    away = np.hypot(chest.x - chest.x[0, column], chest.y - chest.y[row, 0])
    away = away * (1 + 0.22 * cloud(rng, len(chest.y), 14))
    texture = texture * (chest.lungs & (chest.x * side > 0))
    low, high = 0.0, 1.0
    for _ in range(12):  # what is seen of a patch grows with its reach
        reach = (low + high) / 2
        patch: Field = texture * np.exp(-((np.abs(away) / reach) ** 3))
        is_small = visible(patch, chest)[chest.lungs].mean() < share
        low, high = (reach, high) if is_small else (low, reach)
    return patch


def visible(added: Field, chest: Chest) -> Mask:
    """Where a finding adds at least a fifth of its most to the optical depth."""
    seen = added * np.minimum(chest.air, 1)
    where: Mask = chest.lungs & (seen > 0.2 * seen.max())
    return where


SMALL_DEPTH = (0.8, 1.6)  # of small findings, about: optical depth
SMALL = (0.023, 0.036)  # of the area of both lung fields
FINDINGS = Registry(
    "phantom class",
    {"COVID": _ground_glass, "NORMAL": _nothing, "Viral Pneumonia": _pneumonia},
)
SMALL_FINDINGS = Registry(
    "phantom class",
    {
        "COVID": _small_ground_glass,
        "NORMAL": _nothing,
        "Viral Pneumonia": _small_pneumonia,
    },
)
