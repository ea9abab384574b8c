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
    """Which frames of a video."""

    start: str | None = None
    """First frame: source frame number, or seconds as in 2.5s."""
    stop: str | None = None
    """End, exclusive: source frame number, or seconds as in 7s."""
    stride: int = 1
    """Take every n-th frame, after --fps."""
    fps: float | None = None
    """Drop frames to this rate. For a folder of images: its rate (default 30)."""

    def selection(self) -> "Selection":
        """As `open_video` takes them."""
        return {"start": self.start, "stop": self.stop, "stride": self.stride, "fps": self.fps}


@dataclass(frozen=True)
class SceneOptions:
    """How a video becomes a scene."""

    model: str = "tiny"
    """Checkpoint file, model folder or hub id; "tiny" is the embedded model."""
    anchor: str = "0"
    """Its content is tracked, its camera is the world: a number among those processed, or "middle"; "auto": the first, and more later."""
    size: int | None = None
    """Long side in pixels at the network. Default: the model's own."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type the network computes in; auto is bfloat16 where the hardware is fast at it."""
    batch_size: str = "auto"
    """Frames at once, or auto."""
    dtype_points: Literal["float32", "float16"] = "float32"
    """Type of the stored points; float16 halves the folder."""
    depth_prior: str = "auto"
    """Depth of single frames where no measurement knows it: builtin, none, hub id or folder of a transformers depth model, depth maps."""
    refine: bool = True
    """Temporally smooth the tracks (two-sided window, noise level estimated per track)."""
    deterministic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Bitwise reproducible on GPU (deterministic kernels, slower). CPU runs always are."""
    export: str = ""
    """Formats to write as well, separated by commas, as `st4rtrack export` knows them: ply,glb,colmap."""

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
    """What the user knows of a video. In `batch`, {name} in a path is the name of the scene folder."""

    intrinsics: str | None = None
    """Known intrinsics: fx or fx,fy or fx,fy,cx,cy in source pixels, or a file. docs/known.md has all of these."""
    cameras: Path | None = None
    """Known cameras: solver (the global solver), a COLMAP folder, TUM trajectory, transforms.json or .npz (MegaSaM, ViPE)."""
    depth: Path | None = None
    """Known z-depth, 0 where unknown: an .npz, or a folder of 16-bit PNG, TIFF, .npy or .npz."""
    depth_per_unit: float | None = None
    """Numbers in such PNG per unit: 1000 for millimetres (default), 5000 for TUM, 256 for KITTI."""
    static_mask: Path | None = None
    """What does not move is white: an image, or a folder of an image per frame."""
    metres_per_unit: float | None = None
    """Metres that a unit of the known cameras or depth is, or of the model's world where neither is given."""
    known_distance: str | None = None
    """Two pixels of the anchor frame with a known distance, in place of that: u1,v1,u2,v2=metres."""

    def known(self) -> "Known":
        """As `reconstruct` takes it."""
        from st4rtrack.io.known.known import Known

        return Known(**vars(self))
