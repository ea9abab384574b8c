"""The table of cases: what people report, and the right behaviour.

A case is right when one of its expectations holds. `situation` holds the warning codes that the input deserves (recall counts them),
`allowed` the codes that are no false warning either.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.cases import clips
from tests.cases.clips import Look

Kind = Literal["geometry", "picture", "reading", "system", "clean", "sequence"]
CODES = (
    *(
        "cut",
        "zoom",
        "zoom_estimated",
        "distortion",
        "panorama",
        "rotation_only",
        "fixed_camera",
        "dark_frames",
        "low_light",
        "low_texture",
        "bars",
        "overlay",
        "focal_at_limit",
        "short_video",
    ),
    *("side_by_side", "unsolved_frames", "camera_jump", "inconsistent"),
)
GENERIC = frozenset({"unsolved_frames", "camera_jump", "inconsistent", "focal_at_limit"})
"""Codes that say that something is wrong, not what: right wherever the result is not good."""


@dataclass(frozen=True)
class Expected:
    """What must hold; what is `None` or empty is not asked for.

    Attributes:
        codes: warning codes that must all be there.
        any_code: at least one of them must be there.
        silent: no warning but those the case allows.
        reliable: what the quality report must say.
        unsolved: frames that must be unsolved, with nothing visible in them.
        solved: least share of solved frames.
        angle_deg: mean camera angle error at most.
        step_deg: rotation error of the step from the anchor to its neighbour at most.
        focal: ratio of the focal length to the truth at most, either way, in the anchor and in the last solved frame.
        path: farthest camera from the anchor at most, in world units of the truth.
        sentence: pattern (regular expression, any case) that a warning, an error or what a command prints must match.
        exit_code: of the command.
        frames, size: number of frames and (width, height) that are read.
        values: pairs of a name in the row and the value it must have.
    """

    codes: tuple[str, ...] = ()
    any_code: tuple[str, ...] = ()
    silent: bool = False
    reliable: bool | None = None
    unsolved: tuple[int, ...] = ()
    solved: float | None = None
    angle_deg: float | None = None
    step_deg: float | None = None
    focal: float | None = None
    path: float | None = None
    sentence: str | None = None
    exit_code: int | None = None
    frames: int | None = None
    size: tuple[int, int] | None = None
    values: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        name: unique.
        kind: what part of the software it is about.
        make: gives a `Clip` from a `Look` (geometry, picture, clean), or the row of a file or a command in a folder (reading, system).
        expected: alternatives.
        options: of `make`.
        look: of clips.
        situation, allowed: warning codes that are deserved, or no mistake.
        run: options of `reconstruct`; "static_mask" may be a function of the look.
        reported: where people report it.
    """

    name: str
    kind: Kind
    make: Callable[..., Any]
    expected: tuple[Expected, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    look: Look = field(default_factory=Look)
    situation: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    run: dict[str, Any] = field(default_factory=dict)
    reported: str = ""


GOOD = Expected(silent=True, angle_deg=2.0, step_deg=0.3, focal=1.15)
DOUBTED = Expected(reliable=False)
"""Where the cause cannot be found: a correct result, or an unreliable one."""
CORRECT = Expected(angle_deg=2.0, focal=1.25)
A = Look(seed=1)
B = Look(seed=2, room="wide", style="tiles", width=256, height=144, focal=0.9, direction=-1)
C = Look(seed=3, room="tall", style="spots", width=144, height=192, focal=0.7, speed=1.3, bodies=2)
D = Look(seed=4, room="hall", style="planks", width=208, height=156, focal=1.05, bodies=0)
NO_PARALLAX = frozenset({"fixed_camera", "rotation_only", "focal_at_limit"})


def _clip(
    kind: Kind,
    name: str,
    make: Callable[..., Any],
    looks: str,
    *expected: Expected,
    situation: tuple[str, ...] = (),
    allowed: tuple[str, ...] | frozenset[str] = (),
    reported: str = "",
    run: dict[str, Any] | None = None,
    **options: Any,
) -> list[Case]:
    """A case for each of the looks, named by a letter."""
    known = {"a": A, "b": B, "c": C, "d": D}
    names = {letter: name if letter == looks[0] else f"{name}-{letter}" for letter in looks}
    sets = frozenset(situation), frozenset(allowed)
    return [Case(names[k], kind, make, expected, options, known[k], *sets, run or {}, reported) for k in looks]


def _geometry(name: str, make: Callable[..., Any], looks: str, *expected: Expected, **how: Any) -> list[Case]:
    return _clip("geometry", name, make, looks, *expected, **how)


def _picture(name: str, make: Callable[..., Any], looks: str, *expected: Expected, **how: Any) -> list[Case]:
    return _clip("picture", name, make, looks, *expected, **how)


def _range(start: int, stop: int) -> tuple[int, ...]:
    return tuple(range(start, stop))


ZOOM = (Expected(codes=("zoom",)), Expected(focal=1.15, path=0.2))
ZOOM_MOVING = (Expected(codes=("zoom",)), Expected(focal=1.15, angle_deg=2.0))
LENS = Expected(codes=("distortion",))
ROTATION = (Expected(codes=("rotation_only",), angle_deg=2.0, path=0.1),)
FIXED = (Expected(codes=("fixed_camera",), angle_deg=0.05, step_deg=0.05, path=0.01),)
BARS = (Expected(codes=("bars",), angle_deg=2.0, focal=1.15), Expected(reliable=False, codes=("bars",)))
OVERLAY = (Expected(codes=("overlay",)), Expected(angle_deg=2.0, focal=1.15))

GEOMETRY = [
    *_geometry("slide", clips.moving, "abcd", GOOD, reported="every clip: the step of the anchor"),
    *_geometry("forward", clips.moving, "ac", GOOD, path="forward"),
    *_geometry("arc", clips.moving, "bd", GOOD, path="arc"),
    *_geometry("handheld", clips.moving, "ab", GOOD, path="handheld"),
    *_geometry(
        "zoom-in",
        clips.zoom,
        "ab",
        *ZOOM,
        situation=("zoom", "zoom_estimated"),
        allowed=NO_PARALLAX,
        reported="colmap/glomap#211",
    ),
    *_geometry("zoom-out", clips.zoom, "c", *ZOOM, situation=("zoom", "zoom_estimated"), allowed=NO_PARALLAX, factor=0.55),
    *_geometry("zoom-moving", clips.zoom, "ab", *ZOOM_MOVING, situation=("zoom", "zoom_estimated"), factor=1.6, path="slide"),
    *_geometry(
        "dolly-zoom", clips.dolly_zoom, "ad", *ZOOM_MOVING, situation=("zoom", "zoom_estimated"), reported="colmap/glomap#211"
    ),
    *_geometry(
        "cut",
        clips.cut,
        "ab",
        Expected(codes=("cut",), unsolved=_range(12, 24), sentence=r"\b12\b"),
        situation=("cut",),
        reported="monst3r#35",
    ),
    *_geometry("cut-twice", clips.cut, "c", Expected(codes=("cut",), unsolved=_range(8, 24)), situation=("cut",), at=(8, 16)),
    *_geometry(
        "cut-same-room",
        clips.cut,
        "d",
        Expected(codes=("cut",), unsolved=_range(14, 24)),
        situation=("cut",),
        at=(14,),
        same_room=True,
    ),
    *_geometry(
        "pan",
        clips.rotation,
        "abc",
        *ROTATION,
        situation=("rotation_only",),
        allowed=NO_PARALLAX,
        reported="MASt3R-SLAM#54, vggsfm#73",
    ),
    *_geometry(
        "tilt", clips.rotation, "d", *ROTATION, situation=("rotation_only",), allowed=NO_PARALLAX, yaw_deg=5.0, pitch_deg=25.0
    ),
    *_geometry(
        "roll", clips.rotation, "a", *ROTATION, situation=("rotation_only",), allowed=NO_PARALLAX, yaw_deg=12.0, roll_deg=15.0
    ),
    *_geometry("tripod", clips.tripod, "abcd", *FIXED, situation=("fixed_camera",), allowed=NO_PARALLAX, reported="pl-slam#27"),
    *_geometry("barrel", clips.lens, "ab", Expected(angle_deg=2.5), DOUBTED, LENS, allowed=CODES, reported="vipe#105"),
    *_geometry("pincushion", clips.lens, "c", Expected(angle_deg=2.5), DOUBTED, allowed=CODES, distortion=0.1),
    *_geometry(
        "off-centre",
        clips.off_centre,
        "ab",
        CORRECT,
        Expected(codes=("focal_at_limit",)),
        DOUBTED,
        allowed=("focal_at_limit",),
        reported="dust3r#127",
    ),
    *_geometry(
        "stabilised",
        clips.stabilised,
        "ab",
        CORRECT,
        DOUBTED,
        allowed=("focal_at_limit",),
        reported="record3d#83",
    ),
    *_geometry(
        "side-by-side",
        clips.side_by_side,
        "ab",
        Expected(codes=("side_by_side",)),
        situation=("side_by_side",),
        allowed=GENERIC,
        reported="record3d#83",
    ),
    *_geometry("loop", clips.loop, "ab", CORRECT, DOUBTED, reported="dso#13"),
    *_geometry("stands-first", clips.stands_first, "ab", Expected(angle_deg=2.0, step_deg=0.3), allowed=("fixed_camera",)),
    *_geometry("short-8", clips.short, "ab", Expected(codes=("short_video",)), situation=("short_video",), frames=8),
    *_geometry(
        "short-12",
        clips.short,
        "c",
        Expected(any_code=("short_video", "focal_at_limit")),
        CORRECT,
        allowed=("short_video",),
        frames=12,
    ),
    *_geometry(
        "two-frames",
        clips.short,
        "a",
        Expected(codes=("short_video",), silent=True),
        situation=("short_video",),
        allowed=frozenset(CODES) - {"fixed_camera", "rotation_only"},
        frames=2,
    ),
    *_geometry(
        "three-frames",
        clips.short,
        "bd",
        Expected(codes=("short_video",), silent=True),
        situation=("short_video",),
        allowed=frozenset(CODES) - {"fixed_camera", "rotation_only"},
        frames=3,
    ),
    *_geometry(
        "one-frame",
        clips.short,
        "a",
        Expected(codes=("short_video",)),
        DOUBTED,
        situation=("short_video",),
        allowed=CODES,
        frames=1,
    ),
    *_geometry("time-lapse", clips.time_lapse, "a", CORRECT, DOUBTED, allowed=("short_video",)),
    *_geometry("frozen-end", clips.frozen, "a", Expected(angle_deg=2.0, step_deg=0.3), allowed=("fixed_camera",)),
    *_geometry("doubled", clips.doubled, "a", Expected(angle_deg=2.0, step_deg=0.3)),
    *_geometry("rolling-shutter", clips.rolling_shutter, "ab", CORRECT, DOUBTED, reported="2dgs#185"),
    *_geometry("motion-blur", clips.motion_blur, "a", Expected(angle_deg=2.0)),
]

DARK = ("dark_frames", "low_light", "low_texture")
PICTURE = [
    *_picture("letterbox", clips.bars, "ab", *BARS, situation=("bars",), reported="Endo-Depth-and-Motion#26"),
    *_picture("pillarbox", clips.bars, "c", *BARS, situation=("bars",), top=0, side=40),
    *_picture("bars-grey", clips.bars, "d", *BARS, situation=("bars",), top=24, level=16.0, noise=1.0),
    *_picture("bars-blurred", clips.blurred_bars, "ac", *BARS, situation=("bars",)),
    *_picture("bars-thin", clips.bars, "a", *BARS, situation=("bars",), top=12, path="handheld"),
    *_picture("watermark", clips.overlay, "abc", *OVERLAY, situation=("overlay",), reported="musubi-tuner PR#1062"),
    *_picture(
        "watermark-masked",
        clips.overlay,
        "ab",
        Expected(angle_deg=2.0, focal=1.15),
        allowed=("overlay",),
        run={"static_mask": clips.overlay_area},
    ),
    *_picture(
        "fade-in",
        clips.fade,
        "ab",
        Expected(codes=("dark_frames",), unsolved=_range(0, 4)),
        situation=("dark_frames",),
        allowed=("low_light",),
        reported="kwiver PR#1401",
    ),
    *_picture(
        "fade-out",
        clips.fade,
        "c",
        Expected(codes=("dark_frames",), unsolved=_range(20, 24)),
        situation=("dark_frames",),
        allowed=("low_light",),
        at_end=True,
    ),
    *_picture(
        "black-middle",
        clips.black_middle,
        "ab",
        Expected(codes=("dark_frames",), unsolved=(10, 11)),
        situation=("dark_frames",),
        allowed=("low_light",),
        reported="kwiver PR#1401",
    ),
    *_picture(
        "all-black",
        clips.all_black,
        "a",
        Expected(any_code=DARK, reliable=False, unsolved=_range(1, 24)),
        Expected(exit_code=2),
        situation=("dark_frames",),
        allowed=CODES,
    ),
    *_picture(
        "night",
        clips.night,
        "ab",
        Expected(any_code=DARK, unsolved=_range(1, 24)),
        situation=("low_light",),
        allowed=CODES,
        reported="MAC-VO#20",
    ),
    *_picture(
        "night-lights",
        clips.night_lights,
        "ab",
        Expected(any_code=DARK, reliable=False, unsolved=_range(1, 24)),
        situation=("low_light",),
        allowed=CODES,
    ),
    *_picture("night-street", clips.night_lights, "a", CORRECT, DOUBTED, gain=0.2, noise=1.5),
    *_picture(
        "white-wall",
        clips.blank_wall,
        "a",
        Expected(any_code=DARK, unsolved=_range(1, 24)),
        situation=("low_texture",),
        allowed=CODES,
        reported="MAC-VO#20",
    ),
    *_picture(
        "grey-wall",
        clips.blank_wall,
        "b",
        Expected(any_code=DARK, unsolved=_range(1, 24)),
        situation=("low_texture",),
        allowed=CODES,
        level=110,
        noise=6,
    ),
    *_picture("exposure", clips.exposure, "ab", Expected(angle_deg=2.0, focal=1.25, solved=0.99)),
    *_picture("flicker", clips.flicker, "ab", CORRECT, DOUBTED, reported="2dgs#185"),
    *_picture("strip", clips.cropped, "a", CORRECT, DOUBTED),
]


def clean_cases(count: int) -> list[Case]:
    """The first `count` clean variants: a moving camera with parallax, nothing to warn about."""
    return [Case(f"clean-{k:03d}", "clean", _make_clean, (GOOD,), {"number": k}) for k in range(count)]


def _make_clean(look: Look, number: int) -> clips.Clip:
    del look  # the number decides
    return clips.clean(number)


def all_cases(clean: int = 100) -> list[Case]:
    """Every case, then the clean variants."""
    return [*GEOMETRY, *PICTURE, *clean_cases(clean)]
