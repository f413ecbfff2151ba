"""What a training run remembers beside its weights: its curve, and the best network so far."""

import torch
from torch import nn

from unetpipe.train.validation import Score


class History:
    """What a run remembers beside its weights.

    Parameters
    ----------
    state : dict, optional
        Of a checkpoint.

    Attributes
    ----------
    curve : list of [step, mean loss since the last point, learning rate, score, threshold]
        The last two are None where the network was not scored.
    losses : list of scalar tensors
        Since the last point.
    best : dict, optional
        Step, score, threshold and weights of the best network so far.
    """

    def __init__(self, state: dict | None, place: torch.device):
        known = state["history"] if state else {"curve": [], "losses": [], "best": None}
        self.curve, self.best = known["curve"], known["best"]
        self.losses = [torch.tensor(loss, device=place) for loss in known["losses"]]

    def state(self) -> dict:
        """For a checkpoint."""
        return {"curve": self.curve, "losses": [loss.item() for loss in self.losses], "best": self.best}

    def add_point(self, step: int, rate: float, score: Score | None) -> None:
        """End a stretch of the curve."""
        self.curve.append([step, torch.stack(self.losses).mean().item(), rate, *(score or (None, None))])
        self.losses.clear()

    def keep(self, step: int, score: Score, network: nn.Module) -> None:
        """Take a network for the best one."""
        weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        self.best = {"step": step, **score._asdict(), "network": weights}

    def kept(self) -> dict | None:
        """Step, score and threshold of the best network."""
        return {name: self.best[name] for name in ("step", "value", "threshold")} if self.best else None

    def in_vain(self) -> int:
        """Validations since the best network."""
        return sum(point[0] > self.best["step"] for point in self.curve if point[3] is not None) if self.best else 0
