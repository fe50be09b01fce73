"""The layers of Glow (Kingma & Dhariwal 2018) as the table of section 2.2 has them, one after the other.

Every layer is a bijection with `forward(x) -> (y, ladj)` and `inverse(y) -> x`, where `ladj` (B,) is
log |det dy/dx| in nats for each image. Images are (B, C, H, W). First the three layers of a step of flow and the step
itself, then what stands between steps: the squeeze, and the priors that standardise what a level sets aside.

A model has these layers, with these parameters. It runs their steps in another form, with most of this arithmetic done
once for all images rather than for each: `glowkit.kernels`. This is the definition, and the tests hold the other to it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COUPLINGS = ("additive", "affine")
# The activation functions of coupling nets. An edited latent leaves the data, and a net of rectifiers answers twice the
# step with twice the shift, layer upon layer; with bounded units it answers with little more than it ever did.
# In place: nobody else holds the tensor, and fresh memory costs as much as the function.
ACTIVATIONS = {"relu": F.relu_, "capped": lambda h: F.hardtanh_(h, 0.0, 2.0)}
# An affine scale lies in [exp(-BOUND), exp(BOUND)]: the original's sigmoid(h + 2) may come close to 0, and the inverse
# then divides an edited latent by it, at every layer.
AFFINE_BOUND = math.log(2.0)
# The same for the scale of a level's prior, which only has to reach from one grey level to the whole range.
PRIOR_BOUND = 4.0


def pixels(x: Tensor) -> int:
    """H W of x (B, C, H, W)."""
    return x.shape[-2] * x.shape[-1]


def bounded(log_s: Tensor, bound: float) -> Tensor:
    """log_s, smoothly kept within -bound and bound."""
    return bound * torch.tanh(log_s / bound)


# ---------------------------------------------------------------------------------------------- layers of one step


class ActNorm(nn.Module):
    """y = s * (x + b), one scale s = exp(log_scale) and bias b a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set bias and scale so that this batch leaves with mean 0 and standard deviation 1 in each channel."""
        self.bias.copy_(-x.mean((0, 2, 3)))
        self.log_scale.copy_(-x.std((0, 2, 3), correction=0).clamp(min=1e-6).log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = (x + self.bias[:, None, None]) * self.log_scale.exp()[:, None, None]
        return y, pixels(x) * self.log_scale.sum().expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        return y * (-self.log_scale).exp()[:, None, None] - self.bias[:, None, None]


class InvertibleConv(nn.Module):
    """y = W x at every pixel, W = P L (U + diag(s)): P a fixed permutation, L unit lower, U strictly upper.

    `lu` (c, c) holds L below its diagonal and U above, as LAPACK does; row i of P has its 1 in column permutation[i].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        dtype = torch.get_default_dtype()
        self.register_buffer("permutation", permutation.argmax(1))
        self.register_buffer("sign", diagonal.sign().to(dtype))
        self.lu = nn.Parameter((lower.tril(-1) + upper.triu(1)).to(dtype))
        self.log_s = nn.Parameter(diagonal.abs().log().to(dtype))

    def weight(self) -> Tensor:
        """W (c, c) = P L (U + diag(s))."""
        P = F.one_hot(self.permutation, len(self.lu)).to(self.lu)
        L = self.lu.tril(-1) + torch.eye(len(self.lu)).to(self.lu)
        U = self.lu.triu(1)
        s = self.sign * self.log_s.exp()
        return P @ L @ (U + s.diag())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.conv2d(x, self.weight()[:, :, None, None])
        return y, pixels(x) * self.log_s.sum().expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        inverse = torch.linalg.inv(self.weight().double()).to(y.dtype)
        return F.conv2d(y, inverse[:, :, None, None])


class EdgeConv(nn.Module):
    """A 3x3 convolution that knows where the image ends: one more input channel, 1 inside and 0 in the padding."""

    def __init__(self, channels: int, out: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels + 1, 3, 3) * std)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(with_edge(x), self.weight, padding=1)


def with_edge(x: Tensor) -> Tensor:
    """x (B, C, H, W) and one more channel of ones, which a convolution's padding ends."""
    # `pad` keeps channels_last, and `cat` of an expanded map does not.
    return F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)


class CouplingNet(nn.Module):
    """NN of the coupling: 3x3 - actnorm - activation - 1x1 - actnorm - activation - 3x3 that starts at zero.

    `activation` is one of ACTIVATIONS. Any function would do: it is never inverted.
    """

    def __init__(self, channels: int, width: int, out: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.conv1 = EdgeConv(channels, width, std=0.05)
        self.norm1 = ActNorm(width)
        self.conv2 = nn.Parameter(torch.randn(width, width, 1, 1) * 0.05)
        self.norm2 = ActNorm(width)
        self.conv3 = EdgeConv(width, out, std=0.0)
        self.bias3 = nn.Parameter(torch.zeros(out))
        self.log_scale3 = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.norm1(self.conv1(x))[0])
        h = self.activation(self.norm2(F.conv2d(h, self.conv2))[0])
        scale = (3 * self.log_scale3).exp()
        return scale[:, None, None] * (self.conv3(h) + self.bias3[:, None, None])

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        h = self.conv1(x)
        self.norm1.initialise(h)
        self.norm2.initialise(F.conv2d(self.activation(self.norm1(h)[0]), self.conv2))


class Coupling(nn.Module):
    """y_a = s * x_a + t, y_b = x_b, with (log s, t) = NN(x_b); additive coupling has s = 1."""

    def __init__(self, channels: int, width: int, coupling: str, activation: str = "relu") -> None:
        super().__init__()
        self.half = channels // 2
        self.affine = coupling == "affine"
        out = self.half * (2 if self.affine else 1)
        self.net = CouplingNet(channels - self.half, width, out, activation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_a, x_b = x[:, : self.half], x[:, self.half :]
        log_s, t = self.log_s_t(x_b)
        return torch.cat([log_s.exp() * x_a + t, x_b], 1), log_s.sum((1, 2, 3))

    def inverse(self, y: Tensor) -> Tensor:
        y_a, x_b = y[:, : self.half], y[:, self.half :]
        log_s, t = self.log_s_t(x_b)
        return torch.cat([(y_a - t) * (-log_s).exp(), x_b], 1)

    def log_s_t(self, x_b: Tensor) -> tuple[Tensor, Tensor]:
        """NN(x_b): log s, kept within AFFINE_BOUND, and t, each of the shape of x_a."""
        h = self.net(x_b)
        if not self.affine:
            return torch.zeros_like(h), h
        log_s, t = h.chunk(2, 1)
        return bounded(log_s, AFFINE_BOUND), t


class Step(nn.Module):
    """One step of flow (fig. 2, left): actnorm, invertible 1x1 convolution, coupling."""

    def __init__(self, channels: int, width: int, coupling: str, activation: str = "relu") -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.conv = InvertibleConv(channels)
        self.coupling = Coupling(channels, width, coupling, activation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, ladj_norm = self.norm(x)
        h, ladj_conv = self.conv(h)
        y, ladj_coupling = self.coupling(h)
        return y, ladj_norm + ladj_conv + ladj_coupling

    def inverse(self, y: Tensor) -> Tensor:
        return self.norm.inverse(self.conv.inverse(self.coupling.inverse(y)))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        """Data-dependent initialisation on one batch; returns what the initialised step makes of it."""
        self.norm.initialise(x)
        h = self.conv(self.norm(x)[0])[0]
        self.coupling.net.initialise(h[:, self.coupling.half :])
        return self.coupling(h)[0]


# ------------------------------------------------------------------------------------------------ squeeze and priors


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 4C, H/2, W/2): each 2x2 block of pixels becomes channels."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """The inverse of `squeeze`."""
    return F.pixel_shuffle(x, 2)


class SplitPrior(nn.Module):
    """Sets half the channels aside as N(mean, s^2) given the other half, standardised: eps = (h - mean) / s."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        out = 2 * (channels - self.half)
        self.conv = EdgeConv(self.half, out, std=0.0)
        self.bias = nn.Parameter(torch.zeros(out))
        self.log_scale = nn.Parameter(torch.zeros(out))

    def _mean_log_s(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """scale * (conv(kept) + bias), in halves; the scale goes into the convolution, which is small."""
        scale = (3 * self.log_scale).exp()
        weight = self.conv.weight * scale[:, None, None, None]
        mean, log_s = F.conv2d(with_edge(kept), weight, self.bias * scale, padding=1).chunk(2, 1)
        return mean, bounded(log_s, PRIOR_BOUND)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h (B, C, H, W) -> kept (B, C/2, H, W), eps (B, C/2, H, W), ladj (B,)."""
        kept, aside = h[:, : self.half], h[:, self.half :]
        mean, log_s = self._mean_log_s(kept)
        return kept, (aside - mean) * (-log_s).exp(), -log_s.sum((1, 2, 3))

    def inverse(self, kept: Tensor, eps: Tensor) -> Tensor:
        mean, log_s = self._mean_log_s(kept)
        return torch.cat([kept, mean + log_s.exp() * eps], 1)


class TopPrior(nn.Module):
    """The deepest level's N(mean, s^2), one mean and scale a channel, standardised as the others are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_s = nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        log_s = bounded(self.log_s, PRIOR_BOUND)
        eps = (h - self.mean[:, None, None]) * (-log_s).exp()[:, None, None]
        return eps, -pixels(h) * log_s.sum().expand(len(h))

    def inverse(self, eps: Tensor) -> Tensor:
        return eps * bounded(self.log_s, PRIOR_BOUND).exp()[:, None, None] + self.mean[:, None, None]
