"""Conversion of decoded video frames to upright 8-bit RGB images with square pixels and BT.709 colours."""

import logging
import tempfile
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.filter import Graph

from st4rtrack.io.images import over_grey
from st4rtrack.io.memory import MAX_PIXELS

logger = logging.getLogger(__name__)

_LARGEST_ASPECT = 4.0  # maximum pixel aspect ratio: larger ones indicate a damaged header, not an anamorphic lens
_BT2020 = 9  # colour matrix of H.273


class FrameConverter:
    """Converts the decoded frames of one stream to RGB images; not thread-safe.

    The filters are stateless, so the result does not depend on the frame at which reading starts.
    """

    def __init__(self, pixel_aspect: Fraction | None, first: Any, source: str) -> None:
        """Args: pixel aspect ratio, width / height (`None`: square); first frame; source name for messages."""
        self._aspect = usable_aspect(pixel_aspect, first, source)
        self._orient = _orientation(first)
        self._filters: dict[tuple[Any, ...], Callable[[Any], Any]] = {}

    def __call__(self, frame: Any) -> np.ndarray:
        """Convert a frame to [height, width, 3] uint8; all frames have one size unless the video changes its size."""
        height, width = frame.height, frame.width
        if interlaced := frame.interlaced_frame:
            frame = self._filtered(frame, "field", {"type": "top"})
        if hdr_curve(frame) is not None:
            frame = self._tone_mapped(frame)
        image = frame.to_ndarray(format="rgba" if has_alpha(frame) else "rgb24")
        if image.shape[2] == 4:
            image = over_grey(image[..., :3], image[..., 3] / np.float32(255))
        if interlaced:  # rows of the bottom field lie halfway between those of the top field
            rows = np.array([[1, 0, 0], [0, 0.5, 0]])
            image = cv2.warpAffine(
                image, rows, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
            )
        if self._aspect != 1:
            square = (max(1, round(width * self._aspect)), height)
            image = cv2.resize(image, square, interpolation=cv2.INTER_CUBIC if self._aspect > 1 else cv2.INTER_AREA)
        return np.ascontiguousarray(self._orient(image))

    def _tone_mapped(self, frame: Any) -> Any:
        curve, primaries = int(frame.color_trc), int(frame.color_primaries)
        matrix = {} if int(frame.colorspace) != 2 else {"src_colorspace": _BT2020}  # 2: untagged
        rgb = frame.reformat(format="gbrp16le", **matrix)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the filter reads its table from a file, once
            options = {"file": str(Path(folder) / "hdr.cube"), "interp": "tetrahedral"}
            return self._filtered(rgb, "lut3d", options, key=(curve, primaries), prepare=write_cube)

    def _filtered(self, frame: Any, name: str, options: dict[str, str], *, key: tuple[int, ...] = (), prepare: Any = None) -> Any:
        """Apply an FFmpeg filter with one output frame per input frame; `prepare` writes the file in its options."""
        kind = (name, frame.format.name, frame.width, frame.height, *key)
        if kind not in self._filters:
            if prepare is not None:
                prepare(Path(options["file"]), *key)
            self._filters[kind] = _one_to_one(frame, name, options)
        return self._filters[kind](frame)


def has_alpha(frame: Any) -> bool:
    """Whether a frame can have transparent pixels."""
    return any(component.is_alpha for component in frame.format.components)


def hdr_curve(frame: Any) -> str | None:
    """Name of the HDR transfer curve of a frame; `None` for standard dynamic range."""
    return HDR_CURVES.get(int(getattr(frame, "color_trc", 0) or 0))


def usable_aspect(pixel_aspect: Fraction | None, frame: Any, source: str) -> float:
    """Pixel aspect ratio, width / height; 1 if the file has none or an implausible one."""
    if not pixel_aspect or pixel_aspect == 1:
        return 1.0
    aspect = float(pixel_aspect)
    if not 1 / _LARGEST_ASPECT <= aspect <= _LARGEST_ASPECT or frame.width * aspect * frame.height > MAX_PIXELS:
        logger.warning("%s has an implausible pixel aspect ratio (%s): pixels are assumed to be square", source, pixel_aspect)
        return 1.0
    return aspect


def _one_to_one(frame: Any, name: str, options: dict[str, str]) -> Callable[[Any], Any]:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    chain = [source, graph.add(name, **options), graph.add("buffersink")]
    for before, after in pairwise(chain):
        before.link_to(after)
    graph.configure()

    def apply(frame: Any, _graph: Graph = graph) -> Any:  # keeps a reference: a garbage-collected graph frees its filters
        chain[0].push(frame)
        return chain[-1].pull()

    return apply


def _orientation(frame: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Function that makes the decoded image upright: quarter rotation or mirroring from the display matrix."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return lambda image: image
    # (x, y) of the decoded image is shown at (a x + c y, b x + d y), in the order a b . c d . of fixed-point numbers.
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(a) >= abs(b):
        return lambda image: image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return lambda image: image.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]


HDR_CURVES = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of ITU-T H.273."""

_PEAK_NITS, _WHITE_NITS = 1000.0, 203.0
_KNEE = 0.75  # in units of diffuse white: brighter highlights, up to the peak, are compressed
_GRID = 33
_BT709 = 1
_BT2020_TO_709 = np.array([[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]])
_P3_TO_709 = np.array([[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]])
_TO_709 = {_BT709: np.eye(3), 12: _P3_TO_709}  # by colour primaries of H.273; without a tag HDR is BT.2020


def tone_mapped(signal: np.ndarray, curve: int, primaries: int) -> np.ndarray:
    """Tone-map an HDR signal [..., 3] in 0..1 to BT.709 colours [..., 3] in 0..1."""
    light = (_pq_nits(signal) if HDR_CURVES[curve] == "PQ" else _hlg_nits(signal)) / _WHITE_NITS
    light = np.maximum(light @ _TO_709.get(primaries, _BT2020_TO_709).T, 0)
    brightest = light.max(axis=-1, keepdims=True)
    compressed = light * (_compressed(brightest) / np.maximum(brightest, 1e-9))  # one factor for all channels keeps the hue
    return compressed.clip(0, 1) ** (1 / 2.4)


def write_cube(path: Path, curve: int, primaries: int) -> None:
    """Write `tone_mapped` as a lookup table in a .cube file."""
    axis = np.linspace(0, 1, _GRID)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red changes fastest
    table = tone_mapped(np.stack([red, green, blue], axis=-1).reshape(-1, 3), curve, primaries)
    path.write_text(f"LUT_3D_SIZE {_GRID}\n" + "\n".join(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in table.tolist()) + "\n")


def _compressed(light: np.ndarray) -> np.ndarray:
    """Highlight compression: identity up to the knee, then extended Reinhard, which reaches 1 at the peak."""
    above = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    most = (_PEAK_NITS / _WHITE_NITS - _KNEE) / (1 - _KNEE)
    return np.minimum(light, _KNEE) + (1 - _KNEE) * above * (1 + above / most**2) / (1 + above)


def _pq_nits(signal: np.ndarray) -> np.ndarray:
    """Inverse PQ curve, luminance in nits. Source: SMPTE ST 2084."""
    root = signal ** (1 / 78.84375)
    return 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def _hlg_nits(signal: np.ndarray) -> np.ndarray:
    """Inverse HLG curve with system gamma, luminance in nits. Source: ARIB STD-B67, BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return _PEAK_NITS * scene * luminance[..., None] ** 0.2
