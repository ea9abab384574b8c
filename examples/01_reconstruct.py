"""A video to a scene: the 3D point of every pixel, the tracks of the anchor's points, and the cameras.

python examples/01_reconstruct.py VIDEO cat_st4rtrack
"""

import sys

import numpy as np

import st4rtrack

video, folder = sys.argv[1:3]
scene = st4rtrack.reconstruct(video, output=folder)  # without output: all in memory

frames, height, width = scene.rgb.shape[:3]
print(f"{frames} frames of {width} x {height} pixels, {float(scene.time_s[-1]):.2f} s")

# Maps are read from disk on access, one frame at a time. The world is the camera frame of the anchor.
last = np.asarray(scene.reconstruction.points_world[-1])  # [height, width, 3]
print(f"the middle of the last frame is at {last[height // 2, width // 2].round(3)}")

camera = scene.cameras.world_from_camera[-1]  # [4, 4], the anchor's is the identity
print(f"its camera is at {camera[:3, 3].round(3)} and looks along {camera[:3, 2].round(3)}")

confidence = scene.reconstruction.confidence  # greater than 1; higher is more confident
if confidence is not None:
    last_confidence = np.asarray(confidence[-1])
    row, column = np.unravel_index(last_confidence.argmax(), last_confidence.shape)
    print(f"most confident in row {row}, column {column}")
