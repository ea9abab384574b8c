"""Required and optional packages, from the metadata of st4rtrack; and codecs of PyAV."""

from dataclasses import dataclass
from importlib import metadata

import av
from packaging.requirements import Requirement

from st4rtrack.io.installation import requirements

CODECS = {"H.264": "h264", "H.265": "hevc", "AV1": "libdav1d", "VP9": "vp9", "VP8": "vp8", "MPEG-4": "mpeg4"}
CODECS |= {"ProRes": "prores", "MJPEG": "mjpeg", "GIF": "gif"}
"""Names of codecs, and the decoder of each."""

PURPOSES = {
    "images": "HEIF and OpenEXR images",
    "bench": "plots of the benchmark",
    "world": "rendered training data of real objects",
    "train": "curves while training",
    "view": "the viewer",
    "glb": "export to glTF",
    "usd": "export to USD",
    "rerun": "export to Rerun",
    "figure": "figures for papers",
    "exr": "export to OpenEXR",
    "cluster": "batch on a Ray cluster",
    "app": "the web app in examples/",
}


@dataclass(frozen=True)
class Package:
    """Package that st4rtrack depends on, with the installed version; `None` if it is not installed."""

    requirement: Requirement
    version: str | None

    @property
    def name(self) -> str:
        """Name for installation."""
        return self.requirement.name

    @property
    def fits(self) -> bool:
        """Whether a suitable version is installed."""
        return self.version is not None and self.requirement.specifier.contains(self.version, prereleases=True)


def packages_of(extra: str) -> list[Package]:
    """Packages of an extra, or the mandatory ones (""); empty if st4rtrack is not installed as a package."""
    return [Package(each, _version(each.name)) for each in map(Requirement, requirements(extra))]


def codecs() -> dict[str, bool]:
    """Whether PyAV can decode each codec."""
    return {name: decoder in av.codecs_available for name, decoder in CODECS.items()}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
