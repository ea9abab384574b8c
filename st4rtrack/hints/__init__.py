"""What a network receives before it decodes a video."""
