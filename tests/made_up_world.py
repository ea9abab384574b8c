"""A tiny made-up set of models in the format of Sweet Home 3D, so that tests of the rendered world need no assets."""

import zipfile
from pathlib import Path

import cv2
import numpy as np

MODELS = {
    # name: (title, category, width, depth, height in cm)
    "table": ("Table", "Living room", 120, 80, 70),
    "deskSmall": ("Desk", "Office", 100, 60, 72),
    "chair": ("Chair", "Living room", 45, 45, 90),
    "cup": ("Cup", "Kitchen", 12, 12, 14),
    "pot": ("Pot", "Kitchen", 20, 20, 18),
    "box": ("Box", "Miscellaneous", 30, 25, 20),
    "ball": ("Basketball", "Miscellaneous", 24, 24, 24),
    "cupboard": ("Cupboard", "Bedroom", 90, 45, 180),
    "male01": ("Male", "Characters", 60, 40, 180),
    "dog": ("Dog", "Characters", 35, 80, 70),
    "fordFocus": ("Car", "Vehicles", 200, 430, 150),
    "poplar": ("Tree", "Exterior", 200, 200, 500),
    "bench": ("Bench", "Exterior", 150, 50, 80),
}
CUBE = """mtllib {name}.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
v 1 0 1
v 1 1 1
v 0 1 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl paint
f 1/1 4/4 3/3 2/2
f 5/1 6/2 7/3 8/4
f 1/1 2/2 6/3 5/4
usemtl plain
f 4/1 8/2 7/3 3/4
f -8/1 -4/2 -1/3 -5/4
f 2/1 3/2 7/3 6/4
"""
MATERIALS = """newmtl paint
Kd 1 1 1
map_Kd {name}.png
newmtl plain
Kd {red} 0.5 0.3
Ks 0.4 0.4 0.4
Ns 100
newmtl glass
d 0.1
"""


def write_library(folder: Path, copies: int = 3) -> Path:
    """A folder with one `.sh3f` file of boxes; several copies of each model, so that both splits have some."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = ["id=made-up"]
    with zipfile.ZipFile(folder / "Made.sh3f", "w") as archive:
        archive.writestr("LICENSE.TXT", "CC0, made up by a test")
        number = 0
        for stem, (title, category, width, depth, height) in MODELS.items():
            for copy in range(copies):
                name, number = f"{stem}{copy}" if copy else stem, number + 1
                image = rng.integers(40, 255, (8, 8, 3)).astype(np.uint8)
                archive.writestr(f"made/{name}/{name}.obj", CUBE.format(name=name))
                archive.writestr(f"made/{name}/{name}.mtl", MATERIALS.format(name=name, red=0.2 + 0.02 * number))
                enlarged = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR)
                archive.writestr(f"made/{name}/{name}.png", cv2.imencode(".png", enlarged)[1].tobytes())
                for key, value in {
                    "name": title, "category": category, "model": f"/made/{name}/{name}.obj",
                    "width": width, "depth": depth, "height": height,
                }.items():  # fmt: skip
                    rows.append(f"{key}#{number}={value}")
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(rows))
    return folder
