"""What a user knows of a video, read from the files of other tools: intrinsics, cameras, depth, what is static, the scale."""
