"""Interface of a prediction method.

A method is made once from the options and then called with one sequence after another.
"""

from collections.abc import Callable

from st4rtrack.bench.predictions import Prediction
from st4rtrack.io.worldtrack import WorldTrackSequence

Method = Callable[[WorldTrackSequence], Prediction]
