"""Scenes of an adaptation: before and after, and those that the built-in teacher reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from st4rtrack.adapt.teachers import FusedTeacher
from st4rtrack.model.checkpoint import embedded_hash, load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import AdaptOptions, KnownGeometry
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import Video


@dataclass(frozen=True)
class OutputPaths:
    """Output paths of an adaptation: checkpoint, report folder, and the state file of an unfinished adaptation."""

    checkpoint: Path

    @property
    def report(self) -> Path:
        stem = self.checkpoint.stem
        return self.checkpoint.with_name(stem if stem.endswith("_adapted") else f"{stem}_adapted")

    @property
    def state(self) -> Path:
        return self.checkpoint.with_name(f"{self.checkpoint.stem}.unfinished.pt")


def is_monocular(model: St4RTrack) -> bool:
    """Whether a network has no decoders, so that its monocular head is adapted."""
    return model.config.head == "monocular"


@dataclass(frozen=True)
class Scenes:
    """Makes the scenes of the videos: before and after the adaptation, and those that the built-in teacher reads.

    `given`: scene of the base model that the teacher of a network without decoders reads instead.
    """

    model: St4RTrack
    paths: OutputPaths
    options: AdaptOptions
    overwrite: bool
    given: Scene | None

    def make(self, video: Video, known: KnownGeometry | None, fused: FusedTeacher, when: Literal["before", "after"]) -> Scene:
        """Reconstruct a video as `run` does with this network, into NAME_before or NAME_after of the report folder."""
        if when == "before" and is_monocular(self.model) and self.given is None:
            return fused.scene
        overwrite = when == "after" or not self.paths.state.exists()
        return self._made(self.model.eval(), video, known, f"{video.name}_{when}", overwrite)

    def teacher(self, video: Video, known: KnownGeometry | None) -> FusedTeacher:
        """Built-in teacher of a video: its scene by the base model if this has a depth prior, else by the embedded model."""
        own = is_monocular(self.model)
        name = f"{video.name}_before" if own and self.options.scenes != "none" else f"teachers/{video.name}"

        def scene() -> Scene:
            if own and self.given:
                return self.given
            model = self.model.eval() if own else load_model(None, device=str(self.model.device))
            return self._made(model, video, known, name, self.overwrite)

        return FusedTeacher(scene, self.model.weights_hash if own else embedded_hash(), measured_only=own)

    def _made(self, model: St4RTrack, video: Video, known: KnownGeometry | None, name: str, overwrite: bool) -> Scene:
        size = self.options.size or self.model.config.image_size
        folder = self.paths.report / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        return reconstruct(video, model=model, output=folder, overwrite=overwrite, size=size, fit=self.options.fit, known=known)
