import torch

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import sample_frames, sample_map
from tests.seeds import SEED

FRAMES, HEIGHT, WIDTH = 3, 5, 7


def random_maps() -> torch.Tensor:
    return torch.randn(FRAMES, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)


def random_pixels(count: int = 20) -> torch.Tensor:
    places = torch.rand(FRAMES, count, 2, generator=torch.Generator().manual_seed(1 + SEED), dtype=torch.float64)
    return places * torch.tensor([WIDTH, HEIGHT])


def test_each_frame_is_read_at_its_own_pixels() -> None:
    maps, pixels = random_maps(), random_pixels()
    found = sample_frames(maps, pixels)
    for frame in range(FRAMES):
        torch.testing.assert_close(found[frame], sample_map(maps[frame], pixels[frame]), rtol=0, atol=0)


def test_pixel_centres_give_the_map_back_and_between_them_it_is_linear() -> None:
    maps = random_maps()
    centres = torch.from_numpy(pixel_grid(HEIGHT, WIDTH)).reshape(-1, 2).expand(FRAMES, -1, -1)
    torch.testing.assert_close(sample_frames(maps, centres), maps.flatten(1, 2))
    plane = torch.from_numpy(pixel_grid(HEIGHT, WIDTH)).expand(FRAMES, -1, -1, -1)
    inside = random_pixels().clamp(0.5).minimum(torch.tensor([WIDTH, HEIGHT]) - 0.5)
    torch.testing.assert_close(sample_frames(plane, inside), inside)


def test_gradients_are_exact_and_reach_every_pixel() -> None:
    maps, pixels = random_maps().requires_grad_(), random_pixels(4).requires_grad_()
    assert torch.autograd.gradcheck(sample_frames, (maps, pixels))
    everywhere = torch.from_numpy(pixel_grid(HEIGHT, WIDTH) + 0.2).reshape(-1, 2).expand(FRAMES, -1, -1)
    (gradient,) = torch.autograd.grad(sample_frames(maps, everywhere).sum(), maps)
    assert (gradient > 0).all()
