"""Output of the quality report of a scene on the command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from st4rtrack.scene import Scene

UNRELIABLE = 3
"""Exit code of an unreliable scene with `--require-reliable`."""


def print_quality(scene: "Scene") -> bool:
    """Print the quality line and the warnings of a scene, or an event "quality"; `--quiet`: unreliable scenes only.

    Returns:
        Whether the scene is reliable; False without a quality report.
    """
    from st4rtrack.cli.reporter import answer, reporter, say
    from st4rtrack.io.scene.description import quality_to_json

    report = scene.quality
    if report is None:
        say("quality: unknown, the scene was made by an earlier version; --overwrite makes it again")
        return False
    reporter().event("quality", **quality_to_json(report))
    put = say if report.reliable else answer
    put(report.summary(len(scene)))
    for warning in report.warnings:
        put(f"  {warning.code}: {warning.sentence}")
    return report.reliable
