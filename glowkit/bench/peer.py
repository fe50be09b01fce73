"""The peer that `bench` measures beside our model: the Glow of normflows 1.7.3 (Stimper et al. 2023).

It is built as normflows' own example of a Glow builds it.
The package is optional: `pip install normflows==1.7.3`.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from glowkit.errors import GlowkitError
from glowkit.flow import GlowConfig
from glowkit.image_flow import BIN_CENTRES, ImageFlow

INSTALL = "pip install normflows==1.7.3"


class Peer(ImageFlow):
    """normflows' Glow as an image flow, so that one loop trains, encodes and measures it and ours.

    The example's prior of a level is a Gaussian for each class and dimension; faces have no classes, so here it is one
    for each dimension. The activation of its coupling nets is relu, whatever `config.activation` says, and they run in
    float32.
    """

    def __init__(self, config: GlowConfig) -> None:
        try:
            import normflows as nf
        except ImportError:
            raise GlowkitError(f"normflows is not installed: {INSTALL}") from None
        warnings.filterwarnings("ignore", "torch.lu is deprecated")
        priors, levels = [], []
        for depth in reversed(range(config.levels)):  # normflows counts levels from the deepest
            channels, size = 6 * 2**depth, config.image_size // 2 ** (depth + 1)
            steps = [
                nf.flows.GlowBlock(2 * channels, config.width, scale=config.coupling == "affine")
                for _ in range(config.steps)
            ]
            levels.append([*steps, nf.flows.Squeeze()])
            aside = 2 * channels if depth == config.levels - 1 else channels
            priors.append(nf.distributions.DiagGaussian((aside, size, size)))
        merges = [nf.flows.Merge() for _ in levels[1:]]
        super().__init__(config.image_size, config.bits, [prior.shape for prior in reversed(priors)])
        self.config, self.flow = config, nf.MultiscaleFlow(priors, levels, merges, class_cond=False)

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        parts, ladj = self.flow.inverse_and_log_det(v)
        eps = [(h - prior.loc) / prior.log_scale.exp() for h, prior in zip(parts, self.flow.q0, strict=True)]
        ladj = ladj - sum(prior.log_scale.sum() for prior in self.flow.q0)
        return torch.cat([part.flatten(1) for part in reversed(eps)], 1), ladj

    def inverse(self, z: Tensor) -> Tensor:
        parts = [
            prior.loc + prior.log_scale.exp() * z[:, where].reshape(-1, *prior.shape)
            for where, prior in zip(reversed(self.level_slices), self.flow.q0, strict=True)
        ]
        return self.flow.forward_and_log_det(parts)[0]

    @torch.no_grad()
    def initialise(self, x: Tensor, noise: torch.Generator | None = BIN_CENTRES) -> None:
        """Its actnorms set themselves on the first batch that they see."""
        self(self.dequantise(x, noise))
