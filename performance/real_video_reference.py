"""An independent reference for `real_video.py`: pycolmap's incremental mapper on all frames of a clip at source size."""

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack.classical.solver.colmap import Mapping, pycolmap, read_model
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.types import Video

SEQUENTIAL_OVERLAP = 10


def reference_mapping(video: Video) -> Mapping | None:
    """Cameras and points by pycolmap's incremental mapper on all frames at source size; the world is the camera of frame 0."""
    module = pycolmap()
    module.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        images, database = Path(folder) / "images", Path(folder) / "database.db"
        images.mkdir()
        for number, rgb in enumerate(video.frames()):
            cv2.imwrite(str(images / f"{number:06d}.png"), rgb[..., ::-1])
        module.extract_features(database, images, camera_mode=module.CameraMode.SINGLE, **_extraction(module))
        pairing = module.SequentialPairingOptions()
        pairing.overlap = SEQUENTIAL_OVERLAP
        matching = module.FeatureMatchingOptions()
        matching.num_threads, matching.use_gpu = 1, False
        module.match_sequential(database, matching_options=matching, pairing_options=pairing)
        options = module.IncrementalPipelineOptions()
        options.num_threads, options.random_seed = 1, 0
        models = module.incremental_mapping(database, images, Path(folder), options).values()
        best = max(models, key=lambda model: model.num_reg_images(), default=None)
        if best is None:
            return None
        for image in best.images.values():
            image.name = Path(image.name).stem
        return in_first_camera(read_model(best, len(video)))


def _extraction(module: Any) -> dict[str, Any]:
    reader, extraction = module.ImageReaderOptions(), module.FeatureExtractionOptions()
    reader.camera_model = "SIMPLE_PINHOLE"
    extraction.num_threads, extraction.use_gpu = 1, False
    return {"reader_options": reader, "extraction_options": extraction}


def in_first_camera(mapping: Mapping) -> Mapping | None:
    """The same with the camera of frame 0 as the world; `None` where it is not registered."""
    first = mapping.camera_from_world[0]
    if not np.isfinite(first).all():
        return None
    mapping.camera_from_world = mapping.camera_from_world @ invert_rigid(first)
    mapping.points_world = transform_points(first, mapping.points_world)
    return mapping
