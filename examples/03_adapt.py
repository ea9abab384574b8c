"""A model adapted to one video, from the video alone: its fused geometry is the teacher of tracks, depth and cameras.

python examples/03_adapt.py VIDEO cat.safetensors [STEPS]
"""

import sys

import st4rtrack
from st4rtrack.adapt import adapt_videos

video, checkpoint = sys.argv[1:3]
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 200

adaptation = adapt_videos([video], output=checkpoint, config={"steps": steps}, scenes="none")
print(f"wrote {adaptation.checkpoint}; the report is in {adaptation.report}")

scene = st4rtrack.reconstruct(video, model=st4rtrack.load_model(checkpoint))
print(f"reconstructed {len(scene)} frames with the adapted model")
