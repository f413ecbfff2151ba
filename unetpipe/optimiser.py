"""How the weights of a network are updated, and how fast."""

import math

import torch
from torch import nn


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Rises over the first twentieth of the steps, then falls to 0 as a cosine."""
    warm = max(1, steps // 20)
    if step < warm:
        return highest * (step + 1) / warm
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def make_optimiser(network: nn.Module, plan: dict) -> torch.optim.Optimizer:
    """AdamW, or the gradient descent with momentum 0.99 of the paper's section 3."""
    if plan["optimiser"] == "sgd":
        return torch.optim.SGD(network.parameters(), lr=plan["learning_rate"], momentum=0.99, fused=True)
    return torch.optim.AdamW(network.parameters(), lr=plan["learning_rate"], weight_decay=1e-4, fused=True)
