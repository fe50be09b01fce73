"""The brute force itself, on maps whose determinant is known."""

import math

import torch

from glowkit import jacobian, theory


def test_log_det_of_known_maps():
    torch.manual_seed(0)
    matrix = torch.randn(6, 6, dtype=torch.float64)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    linear = jacobian.log_det(lambda v: (v.flatten(1) @ matrix.T).unflatten(1, (2, 3)), x)
    assert torch.allclose(linear, matrix.det().abs().log().expand(3))
    # x -> sinh x, coordinate by coordinate
    assert torch.allclose(jacobian.log_det(torch.sinh, x), x.cosh().log().sum((1, 2)))


def test_log_density_is_the_lognormals():
    # f = log carries the lognormal to the standard normal
    x = torch.rand(4, 3, dtype=torch.float64) + 0.5
    expected = torch.distributions.LogNormal(0.0, 1.0).log_prob(x).sum(1)
    assert torch.allclose(jacobian.log_density(torch.log, x), expected)


def test_check_measures_both_errors():
    x = torch.randn(2, 5, dtype=torch.float64)
    right = jacobian.check(lambda v: (2 * v, torch.full((2,), 5 * math.log(2))), lambda v: v / 2, x)
    assert right.dim == 5 and right.n == 2 and right.reverse < 1e-15 and right.log_det < 1e-7
    wrong = jacobian.check(lambda v: (2 * v, torch.full((2,), 4 * math.log(2))), lambda v: v / 2 + 0.1, x)
    assert abs(wrong.reverse - 0.1) < 1e-12 and abs(wrong.log_det - math.log(2) / 5) < 1e-6


def test_the_pull_back_of_a_point_and_of_a_batch_are_one_density():
    x = torch.rand(4, 3, dtype=torch.float64) + 0.5
    assert torch.allclose(jacobian.log_density(torch.log, x), theory.pull_back(torch.log)(x))
    at = jacobian.pulled_back(torch.zeros(2, 3, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(at, torch.tensor([0.0, 1.0], dtype=torch.float64) - 1.5 * math.log(2 * math.pi))
