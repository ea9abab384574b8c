"""Required and optional packages and codecs, and how to install missing ones; read from the package's own metadata."""

from dataclasses import dataclass
from importlib import metadata

import av
from packaging.requirements import Requirement

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
    "cluster": "batch on a Ray cluster",
    "app": "the web app in examples/",
}


@dataclass(frozen=True)
class Package:
    """Package that st4rtrack depends on.

    Attributes:
        name: name for installation.
        wanted: version requirement such as ">=2.5".
        version: installed version, `None` if not installed.
    """

    name: str
    wanted: str
    version: str | None

    @property
    def fits(self) -> bool:
        """Whether a suitable version is installed."""
        requirement = Requirement(f"{self.name}{self.wanted}")
        return self.version is not None and requirement.specifier.contains(self.version, prereleases=True)


def core_packages() -> list[Package]:
    """Mandatory packages; empty if st4rtrack is not installed as a package."""
    return [_package(requirement) for requirement in _requirements() if requirement.marker is None]


def extras() -> dict[str, list[Package]]:
    """Packages of each user-facing extra."""
    return {
        extra: [
            _package(requirement)
            for requirement in _requirements()
            if requirement.marker is not None and requirement.marker.evaluate({"extra": extra})
        ]
        for extra in PURPOSES
    }


def codecs() -> dict[str, bool]:
    """Whether PyAV can decode each codec."""
    return {name: decoder in av.codecs_available for name, decoder in CODECS.items()}


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(line) for line in metadata.requires("st4rtrack") or []]
    except metadata.PackageNotFoundError:
        return []


def _package(requirement: Requirement) -> Package:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        version = None
    return Package(requirement.name, str(requirement.specifier), version)
