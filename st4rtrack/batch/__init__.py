"""Batch processing of many videos, one scene each, by local processes or actors of a Ray cluster. `docs/batch.md`.

`jobs.py` finds videos and their folders, `worker.py` has workers as processes of this machine, which load the model once, and
`cluster.py` those of a Ray cluster; `run.py` assigns videos to them and collects the outcomes.
"""

from st4rtrack.batch.run import reconstruct_videos as reconstruct_videos
