"""Teachers of adaptation: 2D tracks and depth of a video, behind two small interfaces (`priors.py`).

    track_teacher, depth_teacher = open_teachers("fused", "fused", video, fused=FusedTeacher(...))
    priors = gather_priors(rgb, query_px, 0, track_teacher, depth_teacher, cache=folder)

Teachers run once per video and their output is cached on disk. To add one, write a class with a name and one method, and add its
option string in `words.py`.
"""

from st4rtrack.adapt.teachers.fused import FusedTeacher
from st4rtrack.adapt.teachers.gather import gather_priors, gather_tracks
from st4rtrack.adapt.teachers.words import open_teachers

__all__ = ["FusedTeacher", "gather_priors", "gather_tracks", "open_teachers"]
