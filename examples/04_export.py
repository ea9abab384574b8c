"""A scene in the formats of other tools; docs/formats.md says what each carries and which tool opens it.

python examples/04_export.py cat_st4rtrack exports
"""

import sys
from pathlib import Path

import st4rtrack

scene = st4rtrack.load_scene(sys.argv[1])
folder = Path(sys.argv[2])

# The suffix selects the format; a format that writes a folder is passed by name. Options are those of the format's writer.
print("wrote", st4rtrack.export(scene, folder / "points.ply"))
print("wrote", st4rtrack.export(scene, folder / "film.mp4", width=640, turn_deg=30))
print("wrote", st4rtrack.export(scene, folder / "figure.pdf", rows=2))
print("wrote", st4rtrack.export(scene, folder / "colmap", format="colmap"))
