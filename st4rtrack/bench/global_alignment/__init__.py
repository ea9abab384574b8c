"""Global alignment of pairwise pointmaps (DUSt3R section 3.3), with MonST3R's extensions for video.

    pairs       choice of frame pairs and the network's pointmaps for them
    problem     pairwise pointmaps at the optimised pixels; the unknowns
    initialise  initialisation along the maximum spanning tree; depth for fixed cameras, of all pixels
    optimise    Adam on depths, cameras, focal lengths and per-edge similarities
    flow        MonST3R's optical flow term and mask of dynamic pixels

`bench/methods/aligned.py` runs these steps in order.

Implemented from the papers and from published behaviour; contains none of their code.
"""
