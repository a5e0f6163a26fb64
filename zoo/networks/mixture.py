"""A mixture of Gaussians for each class, fitted to codes after training and drawn from by one map of normal noise.

A decoder is at home where its encoder takes real pictures, which is not where a prior says (Dai & Wipf 2019,
arXiv:1903.05789); a density fitted there ex post is what to draw from (Ghosh et al. 2020, arXiv:1903.12436).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

ROUNDS = 25  # of expectation and maximization; more change nothing that is seen
SHRINKAGE = 0.05  # of a component's covariance, towards a narrow copy of its class's
JITTER = 1e-6  # on a covariance's diagonal


class ClassMixture(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, N), (B,) -> codes (B, L), of `count` Gaussians a class.

    Where there are several, the last of the N = L + 1 numbers chooses among them, by its quantile.
    """

    bounds: Tensor
    mean: Tensor
    root: Tensor

    def __init__(self, num_classes: int, count: int, latent: int) -> None:
        super().__init__()
        self.count, self.latent = count, latent
        self.register_buffer("bounds", torch.linspace(0.0, 1.0, count + 1)[1:].repeat(num_classes, 1))
        self.register_buffer("mean", torch.zeros(num_classes, count, latent))
        self.register_buffer("root", torch.eye(latent).repeat(num_classes, count, 1, 1))

    @property
    def width(self) -> int:
        """How many numbers of noise a code takes."""
        return self.latent + (self.count > 1)

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        mean, root = self.mean[class_ids], self.root[class_ids]  # (B, K, L), (B, K, L, L)
        if self.count == 1:
            return mean[:, 0] + torch.matmul(root[:, 0], noise.transpose(1, 2))[:, :, 0]
        quantile = 0.5 * (1.0 + torch.erf(noise[:, 0, -1:] / math.sqrt(2.0)))  # (B, 1)
        chosen = (quantile > self.bounds[class_ids][:, :-1]).sum(1)
        rows = torch.arange(self.count, device=chosen.device) == chosen[:, None]  # (B, K), one of them
        drawn = mean + torch.matmul(root, noise[:, :, :-1, None].expand(-1, self.count, -1, -1))[..., 0]
        return (drawn * rows[:, :, None]).sum(1)

    @torch.no_grad()
    def fit(self, codes: Tensor, class_ids: Tensor) -> None:
        """To codes (N, L) of classes (N,), each of which has at least two of them a component."""
        for class_id in range(len(self.mean)):
            weights, means, covariances = fitted(codes[class_ids == class_id].double(), self.count)
            self.bounds[class_id] = weights.cumsum(0)
            self.mean[class_id] = means
            self.root[class_id] = torch.linalg.cholesky(covariances)


def fitted(codes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means (K, L) and covariances (K, L, L) by expectation-maximization (Dempster et al. 1977)."""
    size, width = codes.shape
    whole, jitter = codes.T.cov(), JITTER * torch.eye(width).to(codes)
    if count == 1:
        return codes.new_ones(1), codes.mean(0)[None], (whole + jitter)[None]
    narrow = whole * count ** (-2.0 / width)  # as wide as a part of so many is
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).to(codes.device)
    weights, means = codes.new_full((count,), 1.0 / count), codes[order[:count]]
    covariances = narrow.repeat(count, 1, 1)
    for _ in range(ROUNDS):
        shares = _log_densities(codes, weights, means, covariances + jitter).softmax(1)  # (N, K)
        counts = shares.sum(0)
        means = (shares.T @ codes) / counts[:, None].clamp(min=JITTER)
        apart = codes[None] - means[:, None]  # (K, N, L)
        scatter = torch.matmul((shares.T[:, :, None] * apart).transpose(1, 2), apart)
        pseudo = SHRINKAGE * size / count
        covariances = (scatter + pseudo * narrow) / (counts + pseudo)[:, None, None]
        weights = counts / size
    return weights, means, covariances + jitter


def _log_densities(codes: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """Of each code under each weighted component, up to a constant, (N, K)."""
    roots = torch.linalg.cholesky(covariances)
    apart = (codes[None] - means[:, None]).transpose(1, 2)  # (K, L, N)
    squares = torch.linalg.solve_triangular(roots, apart, upper=False).square().sum(1)
    log_volumes = roots.diagonal(dim1=1, dim2=2).log().sum(1)
    found: Tensor = (weights.log() - log_volumes)[None] - 0.5 * squares.T
    return found
