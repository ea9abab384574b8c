"""Ray intersection with the solids of the procedural world: cubes cut with quadrics or superquadrics, rooms, grounds.

V views (one scene at one time each), N rays per view, P parts; all in the camera frame of the view. No data-dependent shapes
except for `compact`. Origins [V, 3], directions [V, 3, N] of any length, results in units of the direction.
"""

from collections.abc import Callable, Sequence

import torch

from st4rtrack.data.procedural_ground import columns_of, meet_ground

NEWTON_STEPS = 5
ON_SURFACE = 1e-4
SMALLEST = 1e-3
NEVER = 1e9


def combine(rows: Sequence[torch.Tensor], vector: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum of three products (dot product of component tensors)."""
    return rows[0] * vector[0] + rows[1] * vector[1] + rows[2] * vector[2]


def affine_rows(rows: Sequence[torch.Tensor], point: torch.Tensor) -> torch.Tensor:
    """Apply an affine map to points [V, 3, N]; `rows` are twelve broadcastable values: the linear part, then the translation."""
    return torch.stack([combine(rows[3 * row : 3 * row + 3], point.unbind(1)) + rows[9 + row] for row in range(3)], 1)


def superquadric(point: Sequence[torch.Tensor], across: torch.Tensor, along: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Norm ((|x|^a + |z|^a)^(b / a) + |y|^b)^(1 / b) of points (x, y, z) and its gradient.

    The unit ball is the superquadric. Coordinates below 1e-3 are raised to 1e-3, which keeps all powers within float32.
    """
    x, y, z = (c.abs().clamp(min=SMALLEST) for c in point)
    # Powers by exponential and logarithm: `**` is several times slower.
    to_a, to_b = torch.exp(across * torch.log(x)), torch.exp(along * torch.log(y))
    ring_z = torch.exp(across * torch.log(z))
    ring = to_a + ring_z
    outer = torch.exp(along / across * torch.log(ring))
    total = outer + to_b
    norm = torch.exp(torch.log(total) / along)
    scale = norm / total
    by_ring = scale * outer / ring
    gradient = (by_ring * to_a / x * point[0].sign(), scale * to_b / y * point[1].sign(), by_ring * ring_z / z * point[2].sign())
    return norm, *gradient


def _newton(
    x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor, dz: torch.Tensor,
    across: torch.Tensor, along: torch.Tensor, near: torch.Tensor, far: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """First root of norm = 1 along rays from `near`, or inf, and the gradient (outward normal) there: [4, ...].

    The norm is convex along a ray, so from outside, Newton's steps never pass the root; where the norm stops decreasing,
    the ray misses.
    """
    t = near
    for _ in range(NEWTON_STEPS):
        value, *gradient = superquadric((x + dx * t, y + dy * t, z + dz * t), across, along)
        t = torch.minimum(t - (value - 1) / combine(gradient, (dx, dy, dz)).clamp(max=-1e-6), far)
    value, *gradient = superquadric((x + dx * t, y + dy * t, z + dz * t), across, along)
    return torch.stack([torch.where(((value - 1).abs() < ON_SURFACE) & (t > 0), t, torch.inf), *gradient])


def where_needed(
    needed: torch.Tensor, call: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], otherwise: float, compact: bool
) -> torch.Tensor:
    """Evaluate `call(*inputs)`, which adds a leading axis, where `needed`; a constant elsewhere.

    inputs: of the mask's shape, or 1 in place of its last axis. compact: evaluate only where needed (faster in eager CPU mode);
    the shapes then depend on the data.
    """
    if not compact:
        return torch.where(needed, call(*(x.expand_as(needed) for x in inputs)), otherwise)
    here = needed.flatten().nonzero()[:, 0]
    rays = needed.shape[-1]
    found = call(*(x.flatten()[here if x.shape[-1] == rays else here // rays] for x in inputs))
    result = found.new_full((len(found), needed.numel()), otherwise)
    result[:, here] = found
    return result.reshape(-1, *needed.shape)


def enter_distance(
    part_from_camera: torch.Tensor, quadric: torch.Tensor, power: torch.Tensor,
    origin: torch.Tensor, direction: torch.Tensor, compact: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Ray parameter [V, P, N] where rays from one origin enter each part, inf for misses; normals [3, V, S, N] of superquadrics.

    part_from_camera [V, P, 12], quadric [V, P, 3], power [V, S, 2] of the first S parts. The backdrop (part 0) must not be among
    `part_from_camera`. A part that contains the origin counts as missed.
    """
    m, rounded = part_from_camera[..., None], power.shape[1]
    x, y, z = (origin[:, None, k, None] for k in range(3))
    dx, dy, dz = (direction[:, None, k] for k in range(3))
    near, far = torch.zeros_like(dx), torch.full_like(dx, NEVER)
    # Quadric along the ray: a t^2 + 2 b t + c <= 0; a tiny `a` handles "no quadric" without a special case.
    a, b, c = torch.full_like(dx, 1e-8), torch.zeros_like(dx), torch.full_like(x, -1.0)
    starts, alongs = [], []
    for row in range(3):
        start = m[:, :, 3 * row] * x + m[:, :, 3 * row + 1] * y + m[:, :, 3 * row + 2] * z + m[:, :, 9 + row]
        along = m[:, :, 3 * row] * dx + m[:, :, 3 * row + 1] * dy + m[:, :, 3 * row + 2] * dz
        inverse = 1.0 / (along + 1e-9)
        middle, half = -start * inverse, inverse.abs()
        near, far = torch.maximum(near, middle - half), torch.minimum(far, middle + half)
        weighted = quadric[:, :, row, None] * along
        a, b, c = a + weighted * along, b + weighted * start, c + quadric[:, :, row, None] * start * start
        starts.append(start[:, :rounded])
        alongs.append(along[:, :rounded])
    meets = b * b - a * c
    root = meets.clamp(min=0.0).sqrt()
    inverse = 1.0 / a
    near, far = torch.maximum(near, (-b - root) * inverse), torch.minimum(far, (root - b) * inverse)
    crosses = (meets >= 0) & (far > near)
    entered = torch.where(crosses & (near > 0), near, torch.inf)
    if not rounded:
        return entered, entered.new_zeros(3, *entered[:, :0].shape)
    crosses, near, far = crosses[:, :rounded], near[:, :rounded], far[:, :rounded]
    powers = (p[..., None] for p in power.unbind(-1))
    first = where_needed(crosses, _newton, (*starts, *alongs, *powers, near, far), torch.inf, compact)
    return torch.cat([first[0], entered[:, rounded:]], 1), first[1:]


def leave_room(part_from_camera: torch.Tensor, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Ray parameter [V, N] where rays from inside the room leave it; part_from_camera [V, P, 12] with the room first."""
    far = torch.full_like(direction[:, 0], NEVER)
    for start, along in _in_backdrop(part_from_camera, origin, direction):
        inverse = 1.0 / (along + 1e-9)
        far = torch.minimum(far, inverse.abs() - start * inverse)
    return far


def _in_backdrop(
    part_from_camera: torch.Tensor, origin: torch.Tensor, direction: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Origin [V, 1] and direction [V, N] of rays in the frame of part 0, for each axis."""
    m = part_from_camera[:, 0, :, None]
    axes = [m[:, 3 * row : 3 * row + 3].unbind(1) for row in range(3)]
    return [
        (combine(axis, origin[:, :, None].unbind(1)) + m[:, 9 + row], combine(axis, direction.unbind(1)))
        for row, axis in enumerate(axes)
    ]


def meet_backdrop(
    setting: str, part_from_camera: torch.Tensor, waves: torch.Tensor, origin: torch.Tensor, direction: torch.Tensor,
    limit: torch.Tensor, compact: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Ray parameter [V, N] where rays meet the walls of the "room", the flat "ground" or the "terrain"; `NEVER` for sky.

    limit [V, N]: intersections beyond it are irrelevant, and may be returned as `NEVER`.
    """
    if setting == "room":
        return leave_room(part_from_camera, origin, direction)
    rays = _in_backdrop(part_from_camera, origin, direction)
    (x, dx), (y, dy), (z, dz) = rays
    inverse = 1.0 / dy.clamp(min=1e-5)
    if setting == "ground":
        return torch.where(dy > 1e-5, -y * inverse, NEVER)
    near = (-waves[:, 0].abs().sum(1)[:, None] - y) * inverse
    needed = (dy > 1e-5) & (near < limit)
    return where_needed(needed, meet_ground, (x, y, z, dx, dy, dz, *columns_of(waves)), NEVER, compact)[0]
