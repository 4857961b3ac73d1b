"""Learning rates as pure functions of the step, so that a resumed run needs no schedule state."""

from __future__ import annotations

import math

from jcs_ct.training.config import OptimiserConfig


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
