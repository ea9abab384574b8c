"""Self-supervised adaptation to videos without labels (paper section 3.3): `adapt_videos`, `reconstruct_adapted`."""

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.reconstruct import reconstruct_adapted
from st4rtrack.adapt.result import Adaptation
from st4rtrack.adapt.run import adapt_videos

__all__ = ["AdaptConfig", "Adaptation", "adapt_videos", "reconstruct_adapted"]
