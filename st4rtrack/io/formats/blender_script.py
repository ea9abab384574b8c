"""Import a scene of St4RTrack into Blender 4.2 or later. This file and the data beside it are one folder.

    blender --python import_scene.py                    opens Blender with the scene
    blender -b --python import_scene.py -- shot.blend   saves the scene to shot.blend

Or open this file in the text editor of Blender (Text > Open) and press Run Script. With the package bpy, import this module and
call `import_scene()`. Only NumPy and Blender's own modules are used, and a new Blender scene is made: yours are left as they are.

The data are in the world frame of St4RTrack: x right, y down, z forward, the camera of the anchor frame at the origin. All
objects are children of an empty that turns these axes to Blender's: x right, y forward, z up. Scale or move this empty to change
the size or the position of the whole scene. Blender's frame 1 is the first frame of the scene.
"""

import importlib
import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

try:
    bpy: Any = importlib.import_module("bpy")
except ImportError:  # the functions that take and return numbers work without Blender
    bpy = None

BLENDER_FROM_OPENCV = (-math.pi / 2, 0.0, 0.0)
"""Euler angles of the empty: y down, z forward become z up, y forward."""
OPENCV_FROM_BLENDER_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])
"""Blender's cameras look along -z with y up, those of the data along +z with y down."""
SENSOR_WIDTH = 36.0


def fps_and_base(rate):
    """Blender's two numbers for a frame rate: a whole number and its divisor."""
    fps = max(1, round(rate))
    return fps, fps / rate


def pixel_aspect(intrinsics):
    """Width and height of a pixel, neither below 1, from intrinsics [3, 3] with focal lengths fx and fy."""
    ratio = intrinsics[0][0] / intrinsics[1][1]
    return (1.0, ratio) if ratio >= 1 else (1 / ratio, 1.0)


def lens_and_shift(intrinsics, width, height):
    """Focal length in mm of a sensor 36 mm wide, and the two shifts of the lens in widths of the image."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics
    return fx * SENSOR_WIDTH / width, 0.5 - cx / width, (cy - height / 2) * fx / fy / width


def read_pc2(path):
    """Positions [frames, points, 3] of a PC2 file."""
    with Path(path).open("rb") as file:
        _, _, points, _, _, frames = struct.unpack("<12siiffi", file.read(32))
        return np.fromfile(file, "<f4").reshape(frames, points, 3)


def import_scene(folder=None):
    """Import the scene of a folder; default: the folder of this file.

    Returns:
        The new Blender scene.
    """
    folder = _own_folder() if folder is None else Path(folder).resolve()
    data = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
    scene = bpy.data.scenes.new(data["name"])
    _set_time_and_size(scene, data)
    root = _add_object(data["name"], None, None, scene.collection)
    root.rotation_euler = BLENDER_FROM_OPENCV
    scene.camera = _add_camera(data, root, scene.collection)
    first_image = str(folder / "images" / "frame_000001.jpg")
    _add_background(scene.camera.data, first_image, data["num_frames"])
    tracks = np.load(folder / "tracks.npz")
    scene.active_clip = _add_clip(first_image, data, tracks)
    points = _point_nodes("st4rtrack points", data["point_width"])
    _add_tracks(folder, data, tracks, root, _add_collection("tracks", scene))
    if (folder / "static.npz").exists():
        _add_cloud("static points", folder / "static.npz", points, root, _add_collection("static", scene))
    clouds = _add_collection("frames", scene)
    for path in sorted((folder / "clouds").glob("frame_*.npz")):
        _show_in_frame(_add_cloud(path.stem, path, points, root, clouds), int(path.stem.split("_")[1]))
    if bpy.context.window is not None:
        bpy.context.window.scene = scene
    scene.frame_set(1)
    return scene


def _own_folder():
    """Folder of this file, also when it is a text of a .blend file."""
    texts = [bpy.path.abspath(text.filepath) for text in bpy.data.texts if text.filepath]
    for path in (globals().get("__file__", ""), *texts):
        if (Path(path).resolve().parent / "scene.json").is_file():
            return Path(path).resolve().parent
    raise FileNotFoundError("scene.json is not beside import_scene.py; open the script from its folder with Text > Open")


def _set_time_and_size(scene, data):
    scene.render.fps, scene.render.fps_base = fps_and_base(data["frames_per_second"])
    scene.frame_start, scene.frame_end = 1, data["num_frames"]
    scene.render.resolution_x, scene.render.resolution_y = data["width"], data["height"]
    scene.render.resolution_percentage = 100
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = pixel_aspect(data["intrinsics"][0])
    scene.render.film_transparent = True  # to lay renders over the video
    scene.view_settings.view_transform = "Standard"  # colours as in the video
    scene.unit_settings.system = "METRIC" if data["metric"] else "NONE"


def _add_object(name, content, parent, collection):
    made = bpy.data.objects.new(name, content)
    made.parent = parent
    collection.objects.link(made)
    return made


def _add_collection(name, scene):
    made = bpy.data.collections.new(name)
    scene.collection.children.link(made)
    return made


def _add_camera(data, root, collection):
    """Add the camera, with keys in the frames that have a pose; the intrinsics have keys if they change."""
    lens = bpy.data.cameras.new("camera")
    lens.sensor_fit, lens.sensor_width = "HORIZONTAL", SENSOR_WIDTH
    lens.clip_start, lens.clip_end = data["point_width"], data["point_width"] * 1e7
    camera = _add_object("camera", lens, root, collection)
    camera.rotation_mode = "QUATERNION"
    poses = np.array(data["world_from_camera"]) @ OPENCV_FROM_BLENDER_CAMERA
    values = [lens_and_shift(each, data["width"], data["height"]) for each in data["intrinsics"]]
    rotation, matrix = None, importlib.import_module("mathutils").Matrix
    for frame, pose, value in zip(data["camera_frames"], poses, values):
        previous, rotation = rotation, matrix(pose.tolist()).to_quaternion()
        if previous is not None and rotation.dot(previous) < 0:
            rotation.negate()  # the same rotation, without a turn of 360 degrees between two keys
        camera.location, camera.rotation_quaternion = pose[:3, 3], rotation
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_quaternion", frame=frame)
        lens.lens, lens.shift_x, lens.shift_y = value
        for name in ("lens", "shift_x", "shift_y") if len(set(values)) > 1 else ():
            lens.keyframe_insert(name, frame=frame)
    for animated in (camera, lens):
        for curve in _curves(animated):
            for key in curve.keyframe_points:
                key.interpolation = "LINEAR"
    return camera


def _curves(animated):
    """The F-curves of an object or of its data."""
    action = animated.animation_data.action if animated.animation_data else None
    if action is None or hasattr(action, "fcurves"):  # before Blender 5.0
        return list(action.fcurves) if action else []
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return [curve for bag in bags for curve in bag.fcurves]


def _add_background(lens, first_image, num_frames):
    """Show the images of the video behind the scene in the view of the camera."""
    image = bpy.data.images.load(first_image)
    image.source = "SEQUENCE"
    background = lens.background_images.new()
    background.image = image
    background.image_user.frame_start, background.image_user.frame_duration = 1, num_frames
    background.image_user.use_auto_refresh = True
    background.frame_method, background.alpha = "STRETCH", 1.0
    lens.show_background_images = True


def _add_clip(first_image, data, tracks):
    """Add the video as a movie clip with the intrinsics, and 2D tracks as its markers, disabled where they are not visible."""
    clip = bpy.data.movieclips.load(first_image)
    camera, ((fx, _, cx), (_, fy, cy), _) = clip.tracking.camera, data["intrinsics"][0]
    camera.sensor_width, camera.pixel_aspect, camera.focal_length_pixels = SENSOR_WIDTH, fy / fx, fx
    camera.principal_point_pixels = cx, data["height"] - cy
    positions, shown = tracks["markers_px"] / (data["width"], data["height"]), tracks["markers_visible"]
    for number in np.flatnonzero(shown.any(axis=0)).tolist():
        first = int(shown[:, number].argmax())
        u, v = positions[first, number]
        track = clip.tracking.tracks.new(name=f"track_{number:04d}", frame=first + 1)
        for frame, visible in enumerate(shown[first:, number].tolist(), first):
            u, v = positions[frame, number] if visible else (u, v)
            track.markers.insert_frame(frame + 1, co=(u, 1 - v)).mute = not visible
    return clip


def _add_tracks(folder, data, tracks, root, collection):
    """Add the tracks as points that the Mesh Cache modifier moves, and some as curves over the whole video."""
    points = _add_points("tracks", tracks["points"], tracks["colours"], root, collection)
    cache = points.modifiers.new("positions", "MESH_CACHE")
    cache.cache_format, cache.filepath, cache.frame_start = "PC2", str(folder / "tracks.pc2"), 1
    _add_nodes(points, _point_nodes("st4rtrack tracks", data["track_width"]))
    count, length = tracks["curves"].shape[:2]
    index = np.arange(count * length).reshape(count, length)
    edges = np.stack([index[:, :-1], index[:, 1:]], axis=-1).reshape(-1, 2)
    colours = np.repeat(tracks["curve_colours"], length, axis=0)
    curves = _add_points("track curves", tracks["curves"].reshape(-1, 3), colours, root, collection, edges)
    _add_nodes(curves, _curve_nodes("st4rtrack curves", data["point_width"]))


def _add_cloud(name, path, nodes, root, collection):
    cloud = np.load(path)
    made = _add_points(name, cloud["points"], cloud["colours"], root, collection)
    _add_nodes(made, nodes)
    return made


def _add_points(name, points, colours, root, collection, edges=None):
    """Add a mesh of vertices [points, 3], with sRGB colours [points, 3] uint8 as the attribute `colour`."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(points))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(points, np.float32).ravel())
    if edges is not None:
        mesh.edges.add(len(edges))
        mesh.edges.foreach_set("vertices", np.ascontiguousarray(edges, np.int32).ravel())
    colour = mesh.color_attributes.new("colour", "BYTE_COLOR", "POINT")
    rgba = np.column_stack([colours / 255, np.ones(len(colours))])
    colour.data.foreach_set("color_srgb", rgba.astype(np.float32).ravel())
    mesh.update()
    return _add_object(name, mesh, root, collection)


def _show_in_frame(made, frame):
    """Key the visibility of an object so that it is shown in one frame."""
    for at, hidden in ((frame - 1, True), (frame, False), (frame + 1, True)):
        made.hide_viewport = made.hide_render = hidden
        made.keyframe_insert("hide_viewport", frame=at)
        made.keyframe_insert("hide_render", frame=at)


def _add_nodes(made, nodes):
    made.modifiers.new("shape", "NODES").node_group = nodes


def _point_nodes(name, width):
    """Nodes that draw each vertex as a sphere; change their radius in the node Mesh to Points."""
    group, start = _new_nodes(name)
    points = group.nodes.new("GeometryNodeMeshToPoints")
    points.inputs["Radius"].default_value = width / 2
    group.links.new(start, points.inputs[0])
    return _finish_nodes(group, points.outputs[0])


def _curve_nodes(name, width):
    """Nodes that draw each edge as a tube; change its radius in the node Curve Circle."""
    group, start = _new_nodes(name)
    to_curve, to_mesh = group.nodes.new("GeometryNodeMeshToCurve"), group.nodes.new("GeometryNodeCurveToMesh")
    circle = group.nodes.new("GeometryNodeCurvePrimitiveCircle")
    circle.inputs["Resolution"].default_value = 4
    circle.inputs["Radius"].default_value = width / 2
    group.links.new(start, to_curve.inputs[0])
    group.links.new(to_curve.outputs[0], to_mesh.inputs["Curve"])
    group.links.new(circle.outputs["Curve"], to_mesh.inputs["Profile Curve"])
    return _finish_nodes(group, to_mesh.outputs[0])


def _new_nodes(name):
    group = bpy.data.node_groups.new(name, "GeometryNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Geometry", in_out=direction, socket_type="NodeSocketGeometry")
    return group, group.nodes.new("NodeGroupInput").outputs[0]


def _finish_nodes(group, geometry):
    material, end = group.nodes.new("GeometryNodeSetMaterial"), group.nodes.new("NodeGroupOutput")
    material.inputs["Material"].default_value = _material()
    group.links.new(geometry, material.inputs["Geometry"])
    group.links.new(material.outputs[0], end.inputs[0])
    return group


def _material():
    """Material that shows the attribute `colour` without light."""
    name = "st4rtrack colour"
    if name in bpy.data.materials:
        return bpy.data.materials[name]
    material = bpy.data.materials.new(name)
    if material.node_tree is None:  # before Blender 5.0
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    attribute, emission = nodes.new("ShaderNodeAttribute"), nodes.new("ShaderNodeEmission")
    output = nodes.new("ShaderNodeOutputMaterial")
    attribute.attribute_name = "colour"
    links.new(attribute.outputs["Color"], emission.inputs["Color"])
    links.new(emission.outputs["Emission"], output.inputs["Surface"])
    return material


if __name__ == "__main__":
    import_scene()
    if "--" in sys.argv[:-1]:
        bpy.ops.wm.save_as_mainfile(filepath=str(Path(sys.argv[sys.argv.index("--") + 1]).resolve()))
