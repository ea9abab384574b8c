"""Image pipeline of a cheap camera: exposure, tone, defocus, motion blur, noise, compression, resizing."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np

from st4rtrack.data.augment import through_jpeg


@dataclass(frozen=True)
class CameraEffects:
    """Camera effects and their settings over a clip."""

    exposure: float = 1.0  # factor on the automatic exposure
    drift: float = 0.0  # change of its logarithm per second
    lag: float = 0.0  # weight of the first frame's automatic exposure in later frames
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)  # [3] gain per colour channel
    # gamma, contrast: parameters of the tone curve
    gamma: float = 2.2
    contrast: float = 0.0
    saturation: float = 1.0  # factor; 1 leaves colours unchanged
    blur_px: float = 0.35  # standard deviation of defocus in an image 256 pixels wide
    shutter: float = 0.0  # open time as a share of the time between frames (motion blur)
    noise: float = 0.0  # standard deviation at full brightness, of display values
    vignette: float = 0.0  # strength of the darkening of the corners
    resize: float = 1.0  # factor by which images are shrunk and enlarged again; 1 for none
    jpeg: int = 0  # quality, 0 for none
    h264: int = 0  # constant rate factor, 0 for none (clips only)


def draw_effects(rng: np.random.Generator) -> CameraEffects:
    """Draw the settings of a random camera."""
    return CameraEffects(
        exposure=float(np.exp(rng.normal(-0.1, 0.22))),
        drift=float(rng.normal(0, 0.08)) if rng.random() < 0.4 else 0.0,
        lag=float(rng.uniform(0.5, 1.0)),
        balance=tuple(np.exp(rng.normal(0, 0.07, 3))),  # type: ignore[arg-type]
        gamma=float(rng.uniform(1.9, 2.5)),
        contrast=float(rng.uniform(0.1, 1.1)),
        saturation=float(rng.uniform(0.7, 1.25)),
        blur_px=float(rng.uniform(0.2, 0.6)) if rng.random() < 0.9 else float(rng.uniform(0.6, 1.3)),
        shutter=float(rng.uniform(0.1, 0.6)) if rng.random() < 0.4 else 0.0,
        noise=float(np.exp(rng.uniform(np.log(0.002), np.log(0.02)))),
        vignette=float(rng.uniform(0, 0.35)) if rng.random() < 0.4 else 0.0,
        resize=float(rng.uniform(0.5, 0.95)) if rng.random() < 0.15 else 1.0,
        jpeg=int(rng.integers(45, 97)) if rng.random() < 0.6 else 0,
        h264=int(rng.integers(18, 33)) if rng.random() < 0.5 else 0,
    )


def automatic_exposure(colour: np.ndarray) -> float:
    """Exposure factor that brings an image [H, W, 3] to normal brightness; the bright parts have half of the weight."""
    light = colour.mean(-1)
    middle = float(np.exp(np.log(np.maximum(light[::2, ::2], 1e-4)).mean()))
    bright = float(np.quantile(light[::2, ::2], 0.9))
    return 1 / max(0.5 * (middle / 0.2) + 0.5 * (bright / 0.75), 1e-3)


def develop(
    colour: np.ndarray,
    effects: CameraEffects,
    exposure: float,
    time_s: float,
    flow_px: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Convert linear colour [H, W, 3] to an image [H, W, 3] uint8.

    Args:
        exposure: automatic exposure of the frame.
        time_s: time since the start of the clip.
        flow_px: [H, W, 2] motion of every pixel to the next frame, or None for no motion blur.
    """
    height, width = colour.shape[:2]
    scale = max(height, width) / 256
    gain = np.array(effects.balance) * (exposure * effects.exposure * np.exp(effects.drift * time_s))
    image = colour * gain.astype(np.float32)
    if flow_px is not None and effects.shutter:
        image = _motion_blur(image, flow_px * np.float32(effects.shutter))
    image = cv2.GaussianBlur(np.minimum(image, 4.0), (0, 0), max(effects.blur_px * scale, 0.2))
    if effects.vignette:
        v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
        image = image * (1 - effects.vignette * (u * u + v * v) / 2)[..., None].astype(np.float32)
    image = np.maximum(image, 0)
    image = np.where(image > 0.7, 1 - 0.3 * np.exp((0.7 - image) / 0.3), image) ** np.float32(1 / effects.gamma)
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * np.float32(effects.saturation)
    image = image + np.float32(effects.contrast) * image * (1 - image) * (image - 0.5) * 2
    if effects.noise:
        fine = rng.standard_normal(image.shape, np.float32)
        image += fine * (effects.noise * (0.4 + 0.6 * np.sqrt(np.clip(image, 0, 1))))
    picture = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _compressed(picture, effects)


def _compressed(picture: np.ndarray, effects: CameraEffects) -> np.ndarray:
    height, width = picture.shape[:2]
    if effects.resize < 1:
        small = cv2.resize(picture, (round(width * effects.resize), round(height * effects.resize)), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return through_jpeg(picture, effects.jpeg) if effects.jpeg else picture


def _motion_blur(image: np.ndarray, flow_px: np.ndarray, taps: int = 7) -> np.ndarray:
    """Average along the motion of every pixel while the shutter is open; fast neighbours smear over slow ones."""
    spread = cv2.blur(flow_px, (9, 9))
    length, blurred = np.linalg.norm(flow_px, axis=-1, keepdims=True), np.linalg.norm(spread, axis=-1, keepdims=True)
    flow = np.where(blurred > length, spread, flow_px)
    limit = 0.06 * image.shape[1]
    flow = flow * np.minimum(limit / np.maximum(np.linalg.norm(flow, axis=-1, keepdims=True), 1e-6), 1)
    if np.abs(flow).max() < 0.3:
        return image
    v, u = np.meshgrid(np.arange(image.shape[0], dtype=np.float32), np.arange(image.shape[1], dtype=np.float32), indexing="ij")
    total = np.zeros_like(image)
    for share in np.linspace(-0.5, 0.5, taps, dtype=np.float32):
        total += cv2.remap(
            image, u + share * flow[..., 0], v + share * flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return total / taps


def through_h264(pictures: Sequence[np.ndarray], rate_factor: int) -> list[np.ndarray]:
    """Encode images of even size as H.264 video in memory and decode them."""
    height, width = pictures[0].shape[:2]
    # Weighted prediction and the macroblock tree are off: with them, repeated calls gave different bits for the same images.
    options = {"crf": str(rate_factor), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0:weightp=0"}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
