"""What training minimises.

Letters of shapes: B batch, Y X space (Z before them in volumes), K classes.
"""

import torch
from torch.nn import functional

from unetpipe.store import IGNORED


def weighted_cross_entropy(logits_BKYX, target_BYX, weight_BYX) -> torch.Tensor:
    """The paper's energy, eq. 1, as a mean: −Σ w log softmax(a)_target / Σ w.

    Parameters
    ----------
    logits_BKYX : float tensor
    target_BYX : int64 tensor
        Classes; ignored pixels must have weight 0.
    weight_BYX : float tensor
    """
    safe = torch.where(target_BYX == IGNORED, 0, target_BYX)
    loss = functional.cross_entropy(logits_BKYX.float(), safe, reduction="none")
    return (weight_BYX * loss).sum() / weight_BYX.sum().clamp_min(1e-6)


def soft_dice(logits_BKYX, target_BYX) -> torch.Tensor:
    """1 − Dice of the probabilities, the mean over all classes but the background (Milletari et al. 2016).

    Parameters
    ----------
    logits_BKYX : float tensor
    target_BYX : int64 tensor
    """
    known = (target_BYX != IGNORED).unsqueeze(1)
    found = torch.softmax(logits_BKYX.float(), dim=1) * known
    safe = torch.where(target_BYX == IGNORED, 0, target_BYX)
    truth = torch.zeros_like(found).scatter_(1, safe.unsqueeze(1), 1.0) * known
    axes = [0, *range(2, found.ndim)]
    both, all_of = (found * truth).sum(axes)[1:], (found + truth).sum(axes)[1:]
    return 1 - ((2 * both + 1) / (all_of + 1)).mean()
