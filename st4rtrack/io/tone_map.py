"""High dynamic range (PQ, HLG) to standard BT.709 colours, as a 3D lookup table for FFmpeg's `lut3d` filter.

Signal -> display light (BT.2100; HLG with the system gamma 1.2 of a 1000 cd/m2 display) -> BT.709 primaries -> highlights compressed
-> BT.1886 (gamma 2.4). Diffuse white is 203 cd/m2 (BT.2408): colours below three quarters of it keep their brightness.
"""

from pathlib import Path

import numpy as np

HDR_CURVES = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of ITU-T H.273."""

_PEAK_NITS, _WHITE_NITS = 1000.0, 203.0
_KNEE = 0.75  # in units of diffuse white: above it highlights are compressed, up to the peak
_GRID = 33
_BT709 = 1
_BT2020_TO_709 = np.array([[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]])
_P3_TO_709 = np.array([[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]])
_TO_709 = {_BT709: np.eye(3), 12: _P3_TO_709}  # by colour primaries of H.273; without a tag HDR is BT.2020


def tone_mapped(signal: np.ndarray, curve: int, primaries: int) -> np.ndarray:
    """BT.709 colours [..., 3] in 0..1 of an RGB signal [..., 3] in 0..1.

    Args:
        signal: as stored, full range.
        curve: a key of `HDR_CURVES`.
        primaries: colour primaries of H.273.
    """
    light = (_pq_nits(signal) if HDR_CURVES[curve] == "PQ" else _hlg_nits(signal)) / _WHITE_NITS
    light = np.maximum(light @ _TO_709.get(primaries, _BT2020_TO_709).T, 0)
    brightest = light.max(axis=-1, keepdims=True)
    compressed = light * (_compressed(brightest) / np.maximum(brightest, 1e-9))  # one factor for all channels keeps the hue
    return compressed.clip(0, 1) ** (1 / 2.4)


def write_cube(path: Path, curve: int, primaries: int) -> None:
    """Writes `tone_mapped` as a .cube file."""
    axis = np.linspace(0, 1, _GRID)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red changes fastest
    table = tone_mapped(np.stack([red, green, blue], axis=-1).reshape(-1, 3), curve, primaries)
    path.write_text(f"LUT_3D_SIZE {_GRID}\n" + "\n".join(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in table.tolist()) + "\n")


def _compressed(light: np.ndarray) -> np.ndarray:
    """Identity up to the knee, then a smooth curve that reaches 1 at the peak (Reinhard's, extended)."""
    above = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    most = (_PEAK_NITS / _WHITE_NITS - _KNEE) / (1 - _KNEE)
    return np.minimum(light, _KNEE) + (1 - _KNEE) * above * (1 + above / most**2) / (1 + above)


def _pq_nits(signal: np.ndarray) -> np.ndarray:
    """Source: SMPTE ST 2084."""
    root = signal ** (1 / 78.84375)
    return 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def _hlg_nits(signal: np.ndarray) -> np.ndarray:
    """Source: ARIB STD-B67, BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return _PEAK_NITS * scene * luminance[..., None] ** 0.2
