"""3D tracks of points of the anchor frame: queried in pixels of the source video, read from a scene.

python examples/02_tracks.py cat_st4rtrack
"""

import sys

import numpy as np

import st4rtrack
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import invert_rigid, transform_points

scene = st4rtrack.load_scene(sys.argv[1])

# The middle and the quarter points of the image at the network, in pixels of the source video; sub-pixel positions are possible.
height, width = scene.rgb.shape[1:3]
network_px = np.array([[0.5, 0.5], [0.25, 0.5], [0.75, 0.5]]) * (width, height)
tracks = scene.tracks(scene.pixel_map.source_from_network(network_px))

for k, (u, v) in enumerate(tracks.query_px):
    path = tracks.points_world[:, k]  # [time, 3]
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    print(f"pixel ({u:.1f}, {v:.1f}): path of {length:.3f}, visible in {tracks.visible[:, k].sum()} of {len(path)} frames")

# Positions in the last image: world to camera, camera to network pixels, network pixels to source pixels.
camera_from_world = invert_rigid(scene.cameras.world_from_camera[-1])
last_px = project(transform_points(camera_from_world, tracks.points_world[-1]), scene.cameras.intrinsics[-1])
print("in the last frame at", scene.pixel_map.source_from_network(last_px).round(1).tolist())
