"""Figures of the code's structure, of a package of known size."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "performance"))

from structure import closure, figures, read_modules

FILES = {
    "st4rtrack/__init__.py": "",
    "st4rtrack/pipeline/__init__.py": '"""The method."""\n',
    "st4rtrack/pipeline/reconstruct.py": "from st4rtrack.io import video\n\n\ndef reconstruct(video, *, model=None):\n    pass\n",
    "st4rtrack/io/__init__.py": "",
    "st4rtrack/io/video.py": "if TYPE_CHECKING:\n    import st4rtrack.view\n\ndef open_video(source):\n    import st4rtrack.types\n",
    "st4rtrack/types.py": "x = 1\n",
    "st4rtrack/view.py": "class View:\n    def _draw(self, a, b):\n        pass\n",
    "docs/a.md": "one\ntwo\n",
    "README.md": "one\n",
}


def test_figures_count_lines_parameters_and_the_import_closure(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    modules = read_modules(tmp_path)
    needed = closure("st4rtrack.pipeline.reconstruct", modules)
    prefix = "st4rtrack."
    assert needed == {prefix + name for name in ("pipeline", "pipeline.reconstruct", "io.video", "types")}
    found = figures(tmp_path)
    assert found["package lines"] == "15" and found["modules"] == "7" and found["public functions"] == "2"
    assert found["modules behind reconstruct()"] == "4" and found["lines behind reconstruct()"] == "12"
    assert (found["README lines"], found["docs lines"]) == ("1", "2")
