"""The training loop: a stopped run goes on as if it had never stopped."""

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from unetpipe.checkpoint import save_checkpoint
from unetpipe.device import choose_precision
from unetpipe.fitting import Choices, compile_or_not
from unetpipe.log import Progress
from unetpipe.loss import soft_dice, weighted_cross_entropy
from unetpipe.network import Network, laid_out
from unetpipe.optimiser import learning_rate, make_optimiser
from unetpipe.ranks import add, agree_on_flags, rank, size
from unetpipe.tiles import Drawing, Material, batches, choose, draw_batch, tile_seed
from unetpipe.train.history import History
from unetpipe.train.validation import Score, Validation
from unetpipe.watch import Watch

logger = logging.getLogger(__name__)
SAVE_EVERY = 60.0  # seconds between checkpoints
CURVE_POINTS = 100
LOADERS = 4  # threads that draw tiles for a GPU


class Run(NamedTuple):
    """What makes a training run the same one when it starts again."""

    plan: dict  # settings, as the config gives them
    choices: Choices
    key: str
    folder: Path  # of the checkpoints


def optimise(
    network: Network,
    material: Material,
    drawing: Drawing,
    run: Run,
    state: dict | None,
    watch: Watch,
    validation: Validation | None = None,
) -> History:
    """The training loop; the network ends with the best weights where there is a validation, else with the last ones.

    Raises
    ------
    InterruptedError
        If the watch asked the run to end.
    FloatingPointError
        If the loss is no number any more; the last checkpoint is from before.
    """
    plan, place = run.plan, drawing.device
    steps, precision = plan["steps"], choose_precision(run.choices.precision, place)
    optimiser = make_optimiser(network, plan)
    start, history = _restore(state, network, optimiser, place)
    scored = _moments(steps, plan["validations"]) if validation else set()
    points = scored | _moments(steps, CURVE_POINTS)
    drawn = batches(material, drawing, range(start, steps), ahead=1 if place.type == "cpu" else LOADERS)
    model = _model(network, run.choices, partial(draw_batch, material, drawing, start), place)
    progress = Progress(steps, "steps", done=start)
    begun = saved = time.monotonic()
    waited = longest = 0.0
    network.train()
    for step in range(start, steps):
        if history.in_vain() >= (plan["patience"] or steps):
            logger.info("no better network in %d validations: training ends at step %d", plan["patience"], step)
            break
        torch.manual_seed(tile_seed(drawing.seed, drawing.tiles(step)[0]))  # dropout
        asked = time.monotonic()
        image, target, weight = next(drawn)
        waited += time.monotonic() - asked
        with torch.autocast(place.type, precision, enabled=precision != torch.float32):
            logits = model(laid_out(2 * image - 1, precision))
        loss = _loss(logits, target, weight, plan["dice"])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if plan["clip"]:
            nn.utils.clip_grad_norm_(network.parameters(), plan["clip"])
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, plan["learning_rate"])
        optimiser.step()
        history.losses.append(loss.detach())
        reason = watch.reason(max(longest, time.monotonic() - asked))
        stop, due = agree_on_flags(bool(reason), time.monotonic() - saved > SAVE_EVERY)
        due = stop or due or step + 1 == steps
        if due or step + 1 in points:
            _check(history.losses, step, material, drawing)
        if step + 1 in points:
            score = _validate(validation, network, history, step + 1) if validation and step + 1 in scored else None
            history.add_point(step + 1, optimiser.param_groups[0]["lr"], score)
        progress.advance(f"loss {history.curve[-1][1]:.4f}" if history.curve else "")
        if due and rank() == 0:
            parts = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "history": history.state()}
            note = {"key": run.key, "choices": run.choices._asdict(), "step": step + 1}
            save_checkpoint(run.folder, {**note, **parts})
            saved = time.monotonic()
        if stop:
            raise InterruptedError(f"{reason}: training saved at step {step + 1}; start again to go on")
        longest = max(longest, time.monotonic() - asked)
    logger.info("%.1f %% of the time was spent waiting for tiles", 100 * waited / max(1e-9, time.monotonic() - begun))
    if history.best:
        network.load_state_dict(history.best["network"])
    return history


def _loss(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, dice: float) -> torch.Tensor:
    loss = weighted_cross_entropy(logits, target, weight, add=add)
    return loss + dice * soft_dice(logits, target, add=add) if dice else loss


def _moments(steps: int, count: int) -> set[int]:
    """So many of the steps, evenly, the last one among them."""
    return {-(-steps * number // count) for number in range(1, count + 1)}


def _validate(validation: Validation, network: Network, history: History, step: int) -> Score:
    """Score the network, and keep it if it is the best so far."""
    score = validation(network)
    if not history.best or validation.better(score, Score(history.best["value"], history.best["threshold"])):
        history.keep(step, score, network)
    best = history.kept() or {}
    said = "validation at step %d: %s %.4f at threshold %.1f; best %.4f at step %d"
    logger.info(said, step, validation.metric, *score, best["value"], best["step"])
    return score


def _model(network: Network, choices: Choices, draw, place: torch.device) -> Any:
    """What the loop calls: compiled if that was chosen; among several ranks one whose gradients are those of all."""
    if size() > 1 and place.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    model = (
        compile_or_not(network, draw()[0], choose_precision(choices.precision, place)) if choices.compiled else network
    )
    if size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[place.index] if place.type == "cuda" else None)


def _check(losses: list[torch.Tensor], step: int, material: Material, drawing: Drawing) -> None:
    """Refuse to go on from a loss that is no number, and say where it came from."""
    broken = (~torch.stack(losses).isfinite()).nonzero().flatten().tolist()
    if broken:
        first = step - len(losses) + 1 + broken[0]
        places = choose(material, drawing._replace(rank=0, ranks=1), first)
        names = ", ".join(f"{material.spaces[place.space].name} at z, y, x {place.at}" for place in places)
        raise FloatingPointError(
            f"the loss is no number at step {first + 1}, drawn from {names}; look at its pixels and labels, "
            "or set train.learning_rate lower, or train.precision to float32"
        )


def _restore(state: dict | None, network: nn.Module, optimiser, place: torch.device) -> tuple[int, History]:
    """Step and history of a checkpoint; 0 where there is none."""
    if state is not None:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
    return state["step"] if state else 0, History(state, place)
