"""Global alignment of pairwise pointmaps (DUSt3R section 3.3), with what MonST3R adds for video.

    pairs       which pairs of frames the network sees, and its answers for them
    problem     the same at the pixels that are optimised, and what is sought
    initialise  a start along the maximum spanning tree
    optimise    Adam on depth, cameras, focal lengths and the pairs' own frames
    flow        MonST3R's optical flow term and mask of what moves
    depth       depth with the rest known; from the optimised pixels to all pixels

`bench/methods/aligned.py` runs them in their order.

Written from the papers and from what is known of their behaviour; none of their code is used.
"""
