"""Pages say when networks were trained for less than the paper's."""

from __future__ import annotations

import pytest

from jcs_ct.evaluation.pages.training_budget import PAPER_BUDGETS, budget_warnings
from jcs_ct.training.recipe import Recipe


def recipe(task: str, steps: int, batch_size: int) -> Recipe:
    return Recipe(task=task, preset="compact", steps=steps, batch_size=batch_size)


@pytest.mark.parametrize("task", list(PAPER_BUDGETS))
def test_the_papers_budget_has_no_label_and_one_step_less_has(task):
    paper = PAPER_BUDGETS[task]
    assert budget_warnings([recipe(task, paper.steps, paper.batch)]) == ()
    (warning,) = budget_warnings([recipe(task, paper.steps - 1, paper.batch)])
    assert warning.startswith(f"short budget: {paper.steps - 1} steps of batch {paper.batch} a fold")


def test_each_task_is_measured_by_its_own_paper_network():
    classifier, segmenter = recipe("classifier", 400, 16), recipe("segmenter", 21_000, 4)
    (warning,) = budget_warnings([segmenter, classifier], each="a training set")
    assert warning == (
        "short budget: 400 steps of batch 16 a training set (paper: 4021 steps of batch 256); "
        "not to be compared with full training"
    )
