"""Streams: the numbers that runs and studies were made with, and no two steps alike."""

import torch

from glowkit import randomness


def test_a_stream_is_a_function_of_seed_and_step():
    draws = {
        (seed, step): torch.rand(4, generator=randomness.stream(seed, step)) for seed in range(3) for step in range(3)
    }
    assert len({tuple(numbers.tolist()) for numbers in draws.values()}) == 9
    torch.manual_seed(99)  # whatever else draws numbers
    assert torch.equal(torch.rand(4, generator=randomness.stream(1, 2)), draws[1, 2])


def test_the_streams_of_published_runs_stay():
    """Seed 2, step 5: what a resumed run or another pass of a study has to draw again."""
    expected = torch.rand(4, generator=torch.Generator().manual_seed(2_000_011))
    assert torch.equal(torch.rand(4, generator=randomness.stream(2, 5)), expected)
