"""Reading and writing of scene folders.

`table` defines the arrays and the metadata known before the first frame, `description` is scene.json, `arrays` scene.zarr and the
journal of completed frames, `folder` checks whether a folder may be written to. `sink` accepts frames one at a time, or a scene.
"""

from st4rtrack.io.scene.arrays import JOURNAL as JOURNAL
from st4rtrack.io.scene.arrays import SCENE_ZARR as SCENE_ZARR
from st4rtrack.io.scene.description import FORMAT_VERSION as FORMAT_VERSION
from st4rtrack.io.scene.description import SCENE_JSON as SCENE_JSON
from st4rtrack.io.scene.description import read_results as read_results
from st4rtrack.io.scene.description import record_result as record_result
from st4rtrack.io.scene.folder import OVERVIEW as OVERVIEW
from st4rtrack.io.scene.folder import adopt_scene as adopt_scene
from st4rtrack.io.scene.folder import finish_adoption as finish_adoption
from st4rtrack.io.scene.folder import holds_scene as holds_scene
from st4rtrack.io.scene.folder import prepare_folder as prepare_folder
from st4rtrack.io.scene.load import load_scene as load_scene
from st4rtrack.io.scene.sink import SceneBuffer as SceneBuffer
from st4rtrack.io.scene.sink import SceneSink as SceneSink
from st4rtrack.io.scene.sink import SceneWriter as SceneWriter
from st4rtrack.io.scene.sink import save_scene as save_scene
from st4rtrack.io.scene.table import SceneHeader as SceneHeader
