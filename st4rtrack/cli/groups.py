"""Options that commands have in common, each said once: a command takes a group as one parameter, a user sees its options alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from st4rtrack.io.known.known import Known
    from st4rtrack.pipeline.reconstruct import Selection


@dataclass(frozen=True)
class FrameOptions:
    """Frame selection."""

    start: str | None = None
    """First frame: source frame number, or seconds as in 2.5s."""
    stop: str | None = None
    """End (exclusive): source frame number, or seconds as in 7s."""
    stride: int = 1
    """Take every n-th frame, after --fps."""
    fps: float | None = None
    """Drop frames to this rate; for a folder of images: its rate (else 30)."""

    def selection(self) -> "Selection":
        """As `open_video` takes them."""
        return {"start": self.start, "stop": self.stop, "stride": self.stride, "fps": self.fps}


@dataclass(frozen=True)
class SceneOptions:
    """Reconstruction."""

    model: str = "tiny"
    """Checkpoint file, model folder or hub id; "tiny" is the embedded model."""
    anchor: str = "0"
    """World frame: index among the processed frames, middle, or auto (0, plus further anchors)."""
    size: int | None = None
    """Long side at the network in pixels. Default: the model's own."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the network; auto: bfloat16 where it is fast."""
    batch_size: str = "auto"
    """Frames per batch, or auto."""
    dtype_points: Literal["float32", "float16"] = "float32"
    """Type of the stored points; float16 halves the folder."""
    depth_prior: str = "auto"
    """Monocular depth: builtin, none, hub id, model folder, or depth maps."""
    refine: bool = True
    """Temporally smooth the tracks (two-sided window)."""
    deterministic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Bitwise reproducible on GPU (slower); CPU runs always are."""
    export: str = ""
    """Formats to write as well, separated by commas: ply,glb,colmap."""

    def checked(self) -> "CheckedSceneOptions":
        """The options that are text, understood.

        Raises:
            UserError: one is not.
        """
        from st4rtrack.cli.options import export_formats, positive_int, read_anchor

        return CheckedSceneOptions(
            anchor=read_anchor(self.anchor),
            size=None if self.size is None else positive_int(self.size, "--size"),
            batch_size=None if self.batch_size == "auto" else positive_int(self.batch_size, "--batch-size"),
            formats=tuple(export_formats(self.export)),
        )


@dataclass(frozen=True)
class CheckedSceneOptions:
    """What of `SceneOptions` was text or could be wrong, as Python takes it."""

    anchor: int | Literal["middle", "auto"]
    size: int | None
    batch_size: int | None
    formats: tuple[str, ...]


@dataclass(frozen=True)
class KnownOptions:
    """User-provided geometry. In `batch`, {name} in a path is the name of the scene folder."""

    intrinsics: str | None = None
    """Known intrinsics: fx[,fy[,cx,cy]] in source pixels, or a file (docs/known.md)."""
    cameras: Path | None = None
    """Known cameras: solver, COLMAP folder, TUM trajectory, transforms.json or .npz."""
    depth: Path | None = None
    """Known z-depth (0: unknown): .npz, or folder of 16-bit PNG, TIFF, .npy or .npz."""
    depth_per_unit: float | None = None
    """Integer depth scale: values per unit (1000: millimetres, the default; 5000: TUM; 256: KITTI)."""
    static_mask: Path | None = None
    """White where the scene is static: an image, or a folder with an image per frame."""
    metres_per_unit: float | None = None
    """Metres per unit of the known cameras or depth, else of the model's world."""
    known_distance: str | None = None
    """Metric scale from two pixels of the anchor frame: u1,v1,u2,v2=metres."""

    def known(self) -> "Known":
        """As `reconstruct` takes it."""
        from st4rtrack.io.known.known import Known

        return Known(**vars(self))
