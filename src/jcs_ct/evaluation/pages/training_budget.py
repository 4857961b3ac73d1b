"""What a page says of networks that were trained for less than the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jcs_ct.training.recipe import Recipe


@dataclass(frozen=True)
class Budget:
    """Optimiser steps of a global batch."""

    steps: int
    batch: int

    @property
    def slices_seen(self) -> int:
        """Slices that take part in training, with repeats."""
        return self.steps * self.batch

    def __str__(self) -> str:
        return f"{self.steps} steps of batch {self.batch}"


#: The paper's own (V-B): the classifier's 100 epochs of 10 294 slices, the segmenter's 21 000 steps.
PAPER_BUDGETS: Mapping[str, Budget] = {"classifier": Budget(4_021, 256), "segmenter": Budget(21_000, 4)}


def budget_warnings(recipes: Sequence[Recipe], *, each: str = "a fold") -> tuple[str, ...]:
    """One line for every task whose networks see fewer slices in training than the paper's did.

    Args:
        recipes: Of the networks on a page.
        each: What one training is for.
    """
    warnings = []
    for task, paper in PAPER_BUDGETS.items():
        budgets = sorted({(recipe.steps, recipe.batch_size) for recipe in recipes if recipe.task == task})
        if all(steps * batch >= paper.slices_seen for steps, batch in budgets):
            continue
        listed = ", ".join(str(Budget(*budget)) for budget in budgets)
        warnings.append(f"short budget: {listed} {each} (paper: {paper}); not to be compared with full training")
    return tuple(warnings)
