"""What Blender makes of an exported folder; run by an interpreter with the package bpy: PYTHON blender_check.py FOLDER IMAGE.

Prints JSON: frame rate and range, and per frame the camera, the projections of the tracks and the visible frame clouds.
"""

import json
import runpy
import sys
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector


def imported(folder: Path):
    """Run the script as the text editor does: there, `__file__` is a path inside the .blend file, and the text knows its own."""
    text = bpy.data.texts.load(str(folder / "import_scene.py"))
    names = {"__name__": "text", "__file__": "/nowhere/shot.blend/import_scene.py"}
    exec(compile(text.as_string(), names["__file__"], "exec"), names)
    return names


def by_frame(scene, frame: int) -> dict:
    scene.frame_set(frame)
    graph = scene.view_layers[0].depsgraph
    graph.update()
    camera, tracks = (bpy.data.objects[name].evaluated_get(graph) for name in ("camera", "tracks"))
    positions = np.empty(len(tracks.data.vertices) * 3, np.float32)
    tracks.data.vertices.foreach_get("co", positions)
    seen = [world_to_camera_view(scene, camera, tracks.matrix_world @ Vector(p)) for p in positions.reshape(-1, 3)]
    size = scene.render.resolution_x, scene.render.resolution_y
    return {
        "camera": [list(row) for row in camera.matrix_world],
        "tracks_px": [(x * size[0], (1 - y) * size[1]) for x, y, _ in seen],
        "clouds": [o.name for o in bpy.data.collections["frames"].objects if not o.evaluated_get(graph).hide_render],
        "markers": {
            track.name: [*marker.co, marker.mute]
            for track in scene.active_clip.tracking.tracks
            if (marker := track.markers.find_frame(frame)) is not None
        },
    }


def points_drawn(scene) -> int:
    """Number of drawn tracks, 0 where Blender does not show them to Python (before 5.0)."""
    tracks = bpy.data.objects["tracks"].evaluated_get(scene.view_layers[0].depsgraph)
    geometry = tracks.evaluated_geometry() if hasattr(tracks, "evaluated_geometry") else None
    return 0 if geometry is None else len(geometry.pointcloud.points)


def main(folder: Path, picture: Path) -> None:
    names = imported(folder)
    scene = names["import_scene"]()
    scene.frame_set(2)
    result = {"version": bpy.app.version_string, "drawn": points_drawn(scene)}
    modifiers = bpy.data.objects["tracks"].modifiers
    modifiers.remove(modifiers["shape"])  # the mesh has the positions, not the spheres
    background = scene.camera.data.background_images[0]
    result |= {
        "frames_per_second": scene.render.fps / scene.render.fps_base,
        "range": [scene.frame_start, scene.frame_end],
        "background": [Path(background.image.filepath).name, background.image.source, background.image_user.frame_duration],
        "clip_frames": scene.active_clip.frame_duration,
        "keys": [key.co[0] for key in names["_curves"](scene.camera)[0].keyframe_points],
        "frames": {frame: by_frame(scene, frame) for frame in range(scene.frame_start, scene.frame_end + 1)},
    }
    scene.frame_set(2)
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 1, "CPU"
    scene.cycles.use_denoising, scene.cycles.filter_width = False, 0.01  # the colours of the points, unmixed
    scene.render.filepath = str(picture)
    for name in ("tracks", "static"):  # only the cloud of this frame has the colours of this frame
        bpy.data.collections[name].hide_render = True
    bpy.ops.render.render(write_still=True, scene=scene.name)
    sys.argv = ["import_scene.py", "--", str(picture.with_suffix(".blend"))]
    runpy.run_path(str(folder / "import_scene.py"), run_name="__main__")  # as `blender --python import_scene.py -- FILE`
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
