"""Training clips of the procedural world."""

from dataclasses import dataclass, field

from st4rtrack.data.clip import Clip
from st4rtrack.data.procedural import ProceduralConfig, procedural_clip


@dataclass(frozen=True)
class ProceduralClips:
    """Endless source of clips: clip `index` is scene `index` of the seed, the same every time and in every process."""

    # rendering options; `num_frames` is the length of the clips
    config: ProceduralConfig = field(default_factory=lambda: ProceduralConfig(num_frames=24))
    seed: int = 0  # seed of the whole source
    device: str = "cpu"  # device that renders; the clips are NumPy arrays in any case

    def clip(self, index: int) -> Clip:
        """Return clip `index` (>= 0), with the camera frame of frame 0 as world. Sky pixels of frame 0 have no track."""
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
