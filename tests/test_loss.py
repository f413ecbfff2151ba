"""The loss against the paper's formula in NumPy."""

import numpy as np
import pytest
import torch

from unetpipe.loss import soft_dice, weighted_cross_entropy

SHAPES = [(2, 3, 4, 5), (1, 2, 3, 4, 5)]


def scene(shape, seed=0):
    random = np.random.default_rng(seed)
    space = (shape[0], *shape[2:])
    logits, target = random.normal(0, 3, shape), random.integers(0, shape[1], space)
    target[random.random(space) < 0.2] = 255
    return logits, target, np.where(target == 255, 0, random.random(space))


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_is_the_papers_energy(shape):
    logits, target, weight = scene(shape)
    chosen = np.take_along_axis(softmax(logits), np.where(target == 255, 0, target)[:, None], axis=1)[:, 0]
    expected = -(weight * np.log(chosen)).sum() / weight.sum()
    found = weighted_cross_entropy(*(torch.from_numpy(a) for a in (logits, target, weight)))
    assert found.item() == pytest.approx(expected, rel=1e-5)  # float32


def test_it_is_stable_for_large_logits():
    logits = torch.tensor([[[[1e4]], [[-1e4]]]], requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.tensor([[[1]]]), torch.ones(1, 1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad.flatten().tolist() == [1, -1]


def test_a_tile_without_annotation_costs_nothing():
    target = torch.full((1, 3, 3), 255)
    assert weighted_cross_entropy(torch.randn(1, 2, 3, 3), target, torch.zeros(1, 3, 3)).item() == 0
    assert soft_dice(torch.randn(1, 2, 3, 3), target).item() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dice_is_its_definition(shape):
    logits, target, _ = scene(shape)
    known, found = target != 255, softmax(logits)
    scores = []
    for k in range(1, shape[1]):
        p, g = found[:, k][known], (target == k)[known]
        scores.append((2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1))
    assert soft_dice(torch.from_numpy(logits), torch.from_numpy(target)).item() == pytest.approx(1 - np.mean(scores))
