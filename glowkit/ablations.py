"""Glows with a part exchanged, to find which part makes latent arithmetic work.

Each exchange leaves an exact flow of the same images, trained by the same likelihood. Pixels in a random order have no
neighbours; permutations drawn once mix no channels (RealNVP's way, Dinh et al. 2017); fully connected coupling nets
know of no place; and a twist of the latents keeps the likelihood of every image as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from glowkit import fields, flow
from glowkit.flow import Glow, GlowConfig
from glowkit.gaussian_maps import twist, untwist
from glowkit.layers import ACTIVATIONS, InvertibleConv

PIXELS = ("in place", "shuffled")
MIXINGS = ("learned", "fixed")
NETS = ("convolutional", "dense")
CONFIG = flow.CONFIG | {
    "pixels": fields.OneOf(PIXELS),
    "mixing": fields.OneOf(MIXINGS),
    "nets": fields.OneOf(NETS),
    "twist": fields.Real(0, 100),
    "scatter": fields.Real(0, 10),
}


@dataclass(frozen=True)
class AblationConfig(GlowConfig):
    """The shape of a Glow, and what is exchanged in it; as it stands here, nothing.

    pixels: "shuffled" by one permutation of the places of a picture. mixing: "fixed" permutations of the channels in
    the place of invertible convolutions. nets: "dense" coupling nets, with `width` hidden units. twist: the strength of
    the `gaussian_maps.twist` that latents go through. scatter: the standard deviation of the weights that the last
    layer of every coupling net starts with.
    """

    pixels: str = "in place"
    mixing: str = "learned"
    nets: str = "convolutional"
    twist: float = 0.0
    scatter: float = 0.0

    kinds: ClassVar[Mapping[str, fields.Kind]] = CONFIG

    def mixing_parameters(self, channels: int) -> int:
        return super().mixing_parameters(channels) if self.mixing == "learned" else 0

    def net_parameters(self, channels: int, out: int, size: int) -> int:
        if self.nets == "convolutional":
            return super().net_parameters(channels, out, size)
        w, places = self.width, size * size
        return (channels * places + 1) * w + (w + 1) * w + (w + 1) * out * places


class Ablation(Glow):
    """A `Glow` with what its `AblationConfig` says exchanged."""

    def __init__(self, config: AblationConfig) -> None:
        super().__init__(config)
        size = config.image_size
        for level in self.levels:
            size //= 2
            for step in level.steps:
                if config.mixing == "fixed":
                    step.conv = FixedMixing(len(step.norm.bias))
                if config.nets == "dense":
                    half, channels = step.coupling.half, len(step.norm.bias)
                    out = half * (2 if step.coupling.affine else 1)
                    step.coupling.net = DenseNet(channels - half, config.width, out, size, config.activation)
                if config.scatter:
                    net = step.coupling.net
                    last = net.linear3 if config.nets == "dense" else net.conv3
                    nn.init.normal_(last.weight, std=config.scatter)
            # Dense nets have no kernels to fold.
            level.folded = config.nets == "convolutional"
        # Of the places, the same in all channels; drawn anew from its seed rather than kept in a file.
        order = torch.randperm(config.image_size**2, generator=torch.Generator().manual_seed(0))
        self.register_buffer("order", order, persistent=False)

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        z, ladj = super().forward(self._placed(v, self.order))
        return twist(z, self.config.twist) if self.config.twist else z, ladj

    def inverse(self, z: Tensor) -> Tensor:
        v = super().inverse(untwist(z, self.config.twist) if self.config.twist else z)
        return self._placed(v, self.order.argsort())

    def initialise(self, x: Tensor, noise: torch.Generator | None = None) -> None:
        # As the model sees them, and on its device: what is no image of its size has no such places to shuffle.
        super().initialise(self._placed(self.quantise(x), self.order), noise)

    def _placed(self, x: Tensor, order: Tensor) -> Tensor:
        """x (B, 3, H, W) with its places in this order, if they are shuffled at all."""
        return x.flatten(2)[:, :, order].view_as(x) if self.config.pixels == "shuffled" else x


class FixedMixing(InvertibleConv):
    """A permutation of the channels, drawn once: an `InvertibleConv` with nothing to learn."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        fixed = {"lu": torch.zeros_like(self.lu.data), "log_s": torch.zeros_like(self.log_s.data)}
        for name, tensor in fixed.items():
            delattr(self, name)
            self.register_buffer(name, tensor)
        self.permutation.copy_(torch.randperm(channels))
        self.sign.fill_(1.0)


class DenseNet(nn.Module):
    """NN of the coupling without convolutions: three fully connected layers, the last of which starts at zero.

    (B, channels, H, W) -> (B, out, H, W), H = W = size: every output sees every input, wherever it is.
    """

    def __init__(self, channels: int, width: int, out: int, size: int, activation: str) -> None:
        super().__init__()
        self.activation, self.shape = ACTIVATIONS[activation], (out, size, size)
        places = size * size
        self.linear1, self.linear2 = nn.Linear(channels * places, width), nn.Linear(width, width)
        self.linear3 = nn.Linear(width, out * places)
        nn.init.zeros_(self.linear3.weight)
        nn.init.zeros_(self.linear3.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.linear1(x.flatten(1)))
        return self.linear3(self.activation(self.linear2(h))).unflatten(1, self.shape)

    def initialise(self, x: Tensor) -> None:
        """Its layers start as they are: they have no actnorm."""
