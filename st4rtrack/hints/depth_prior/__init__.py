"""Depth priors: depth of single frames from a network or files, behind one interface.

    prior = open_depth_prior("builtin", video)
    predicted = prior(video.frame(3), 3)

A new provider is a class with a name and one method, registered in `open.py`.
"""

from st4rtrack.hints.depth_prior.open import open_depth_prior
from st4rtrack.hints.depth_prior.prior import DepthPrior, PriorDepth

__all__ = ["DepthPrior", "PriorDepth", "open_depth_prior"]
