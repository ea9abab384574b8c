"""Batch processing of many videos, one scene each, by local processes or actors of a Ray cluster. `docs/batch.md`.

`jobs.py` finds videos and their folders, `worker.py` makes one scene after another with a model that is loaded once, `local.py`
and `cluster.py` run workers locally and on a cluster, `run.py` assigns videos to them and collects the outcomes.
"""

from st4rtrack.batch.run import reconstruct_videos as reconstruct_videos
