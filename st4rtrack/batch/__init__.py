"""Many videos: each to a scene of its own, by processes of this machine or actors of a Ray cluster. `docs/batch.md`.

`jobs.py` says which videos and folders, `worker.py` makes one scene after another with a model that is loaded once, `local.py` and
`cluster.py` are the two places where workers run, `run.py` gives them the videos and keeps what came of each.
"""

from st4rtrack.batch.run import reconstruct_videos as reconstruct_videos
