"""A video to a scene: where every pixel is in 3D, where the anchor's points go, where the camera was.

python examples/01_reconstruct.py VIDEO cat_st4rtrack
"""

import sys

import numpy as np

import st4rtrack

video, folder = sys.argv[1:3]
scene = st4rtrack.reconstruct(video, output=folder)  # without output: all in memory

frames, height, width = scene.rgb.shape[:3]
print(f"{frames} frames of {width} x {height} pixels, {float(scene.time_s[-1]):.2f} s")

# Maps are read from disk one frame at a time, when they are looked at. The world is the camera of the anchor frame.
last = np.asarray(scene.reconstruction.points_world[-1])  # [height, width, 3]
print(f"the middle of the last frame is at {last[height // 2, width // 2].round(3)}")

camera = scene.cameras.world_from_camera[-1]  # [4, 4], the anchor's is the identity
print(f"its camera is at {camera[:3, 3].round(3)} and looks along {camera[:3, 2].round(3)}")

confidence = scene.reconstruction.confidence  # greater than 1, larger is surer
if confidence is not None:
    sure = np.asarray(confidence[-1])
    row, column = np.unravel_index(sure.argmax(), sure.shape)
    print(f"surest in row {row}, column {column}")
