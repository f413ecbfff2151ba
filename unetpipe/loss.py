"""What training minimises.

Letters of shapes: B batch, Y X space (Z before them in volumes), K classes.
"""

from collections.abc import Callable

import numpy as np
import torch

from unetpipe.store import IGNORED

Sum = Callable[[torch.Tensor], torch.Tensor]


def same(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over one rank."""
    return tensor


def weighted_cross_entropy(logits_BKYX, target_BYX, weight_BYX, *, add: Sum = same) -> torch.Tensor:
    """The paper's energy, eq. 1, as a mean: −Σ w log softmax(a)_target / Σ w.

    Parameters
    ----------
    logits_BKYX : float tensor
    target_BYX : int64 tensor
        Classes; ignored pixels must have weight 0.
    weight_BYX : float tensor
    add : function
        Sums over all ranks, where a batch is shared among them.
    """
    logits_BKYX = logits_BKYX.float()
    own = (logits_BKYX * _one_hot(logits_BKYX, target_BYX)).sum(dim=1)
    loss = logits_BKYX.logsumexp(dim=1) - own
    both = add(torch.stack([(weight_BYX * loss).sum(), weight_BYX.sum()]))
    return both[0] / both[1].clamp_min(1e-6)


def soft_dice(logits_BKYX, target_BYX, *, add: Sum = same) -> torch.Tensor:
    """1 − Dice of the probabilities, the mean over all classes but the background (Milletari et al. 2016).

    Parameters
    ----------
    logits_BKYX : float tensor
    target_BYX : int64 tensor
    add : function
        Sums over all ranks, where a batch is shared among them.
    """
    known = (target_BYX != IGNORED).unsqueeze(1)
    found = torch.softmax(logits_BKYX.float(), dim=1) * known
    truth = _one_hot(found, target_BYX)
    axes = [0, *range(2, found.ndim)]
    both, all_of = add(torch.stack([(found * truth).sum(axes), (found + truth).sum(axes)]))[:, 1:]
    return 1 - ((2 * both + 1) / (all_of + 1)).mean()


def _one_hot(like_BKYX, target_BYX) -> torch.Tensor:
    """1 in the channel of the target, 0 elsewhere and where it is ignored: products with it are deterministic."""
    classes = torch.arange(like_BKYX.shape[1], device=target_BYX.device)
    return (target_BYX.unsqueeze(1) == classes.view(1, -1, *[1] * (target_BYX.ndim - 1))).to(like_BKYX.dtype)


def class_weights(frequencies: np.ndarray, balance: float) -> np.ndarray:
    """w_c of the paper's eq. 2: share of each class to the power −balance, of mean 1 over the pixels.

    Parameters
    ----------
    frequencies : (K,) int
        Pixels of each class in all training truths.

    Raises
    ------
    ValueError
        If a class does not occur.
    """
    if (frequencies == 0).any():
        absent = int(np.flatnonzero(frequencies == 0)[0])
        raise ValueError(
            f"class {absent} has no pixel in the training truths; annotate it or take it from truth.classes"
        )
    share = frequencies / frequencies.sum()
    weight = share ** (-balance)
    return weight / (weight * share).sum()
