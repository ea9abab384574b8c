"""Depth of other tools, as it is stored."""

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from st4rtrack.io.known.maps import open_depth
from st4rtrack.types import UserError


def test_open_depth_takes_the_largest_16_bit_value_as_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    depth = np.array([[1500, 65535], [0, 2500]], np.uint16)
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), depth)
    maps = open_depth(tmp_path)
    for row in range(2):
        np.testing.assert_allclose(maps.read(row), [[1.5, 0], [0, 2.5]])
    assert caplog.text.count("unknown") == 1


def test_open_depth_of_exr_without_the_package_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    (tmp_path / "0.exr").write_bytes(b"v/1\x01")
    with pytest.raises(UserError, match=r"0\.exr.*OpenEXR.*pip install"):
        open_depth(tmp_path).read(0)


@pytest.mark.parametrize("names", [["Z"], ["left.Z", "left.R"], ["V"]])
def test_open_depth_of_exr_reads_the_depth_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    depth = np.full((2, 3), 4.5, np.float32)
    channels = {name: SimpleNamespace(pixels=depth if i == 0 else -depth) for i, name in enumerate(names)}
    package = SimpleNamespace(File=lambda path, separate_channels: SimpleNamespace(channels=lambda: channels))
    monkeypatch.setitem(sys.modules, "OpenEXR", package)
    (tmp_path / "0.exr").write_bytes(b"v/1\x01")
    np.testing.assert_array_equal(open_depth(tmp_path).read(0), depth)
