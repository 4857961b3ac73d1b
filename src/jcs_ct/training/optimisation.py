"""The optimiser, and learning rates as pure functions of the step: a resumed run needs no schedule state."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from jcs_ct.training.recipe import OptimiserConfig, Recipe


def poly_lr(base: float, step: int, steps: int, power: float = 0.9) -> float:
    """Poly decay: ``base * (1 - step / steps) ** power`` (paper, V-B)."""
    return float(base * (1.0 - min(step, steps) / steps) ** power)


def step_lr(base: float, step: int, steps: int, fraction: float = 0.3) -> float:
    """Divided by 10 every ``fraction`` of all steps (paper, V-B: every 30 of 100 epochs)."""
    return float(base * 0.1 ** int(step / steps / fraction + 1e-9))


def cosine_lr(base: float, step: int, steps: int) -> float:
    """Half a cosine from ``base`` to 0."""
    return base * 0.5 * (1.0 + math.cos(math.pi * min(step, steps) / steps))


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """The rate of optimiser step ``step`` (from 0) of ``steps``, warm-up from a tenth included."""
    base = config.learning_rate
    if config.schedule == "poly":
        rate = poly_lr(base, step, steps, config.poly_power)
    elif config.schedule == "step":
        rate = step_lr(base, step, steps, config.step_fraction)
    else:
        rate = cosine_lr(base, step, steps)
    if step < config.warmup_steps:
        rate *= 0.1 + 0.9 * step / config.warmup_steps
    return rate


def make_optimiser(recipe: Recipe, network: nn.Module) -> Optimizer:
    """The recipe's optimiser; biases and normalisation weights get no weight decay."""
    settings = recipe.optimiser
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        return SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    maker = Adam if settings.name == "adam" else AdamW
    return maker(groups, lr=settings.learning_rate, betas=settings.betas)
