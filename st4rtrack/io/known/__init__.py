"""Readers of known geometry of a video: intrinsics, camera poses, depth, static masks and scale."""
