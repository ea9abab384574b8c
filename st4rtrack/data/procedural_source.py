"""The procedural world as a source of training clips."""

from dataclasses import dataclass, field

from st4rtrack.data.clip import Clip
from st4rtrack.data.procedural import ProceduralConfig, procedural_clip


@dataclass(frozen=True)
class ProceduralClips:
    """Endless clips: number `index` is scene `index` of the seed, the same each time and in every process.

    Attributes:
        config: what to render; `num_frames` is the length of the clips.
        seed: of the whole source.
        device: that renders; the clips are NumPy arrays in any case.
    """

    config: ProceduralConfig = field(default_factory=lambda: ProceduralConfig(num_frames=24))
    seed: int = 0
    device: str = "cpu"

    def clip(self, index: int) -> Clip:
        """Clip `index` (>= 0), its world the camera frame of frame 0. Where frame 0 shows the sky there is no track."""
        if index < 0:
            raise IndexError(f"clips are numbered from 0, not {index}")
        clip = procedural_clip(self.seed, self.config, number=index, device=self.device)
        return Clip(
            rgb=clip.rgb,
            depth=clip.depth,
            intrinsics=clip.intrinsics,
            world_from_camera=clip.world_from_camera,
            tracking_points_world=clip.tracking_points_world,
            tracking_valid=clip.tracking_valid,
            moving=clip.moving,
            name=f"procedural {self.seed}/{index}",
        )
