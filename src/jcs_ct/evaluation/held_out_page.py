"""The page of a cross-validation: what every method's networks say of the slices they were kept from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jcs_ct.choices import EvaluationProtocol
from jcs_ct.evaluation.classifier.slice_discrimination import evaluate_scores, run_table
from jcs_ct.evaluation.pages import paper_results
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.training_budget import budget_warnings
from jcs_ct.evaluation.segmentation.lesion_comparison import evaluate_predictions
from jcs_ct.experiments.cross_validation import held_out_lesions, held_out_scores
from jcs_ct.experiments.fold_runs import Folds
from jcs_ct.experiments.judged_slices import CaseSet
from jcs_ct.experiments.lesion_predictions import Predictions, write_predictions
from jcs_ct.experiments.methods import Method, method_facts, method_folder
from jcs_ct.experiments.own_cut import with_own_cuts
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling


def evaluate_held_out_lesions(
    methods: Sequence[Method],
    folds: Folds,
    cases: CaseSet,
    folder: Path,
    *,
    title: str,
    protocol: EvaluationProtocol = "image",
    others: Sequence[Predictions] = (),
    own_cuts: bool = False,
    beside: Sequence[paper_results.Row] = (),
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """Score and compare segmenters once all runs in ``folder`` are finished.

    Args:
        methods: Of the experiment.
        folds: Of the experiment.
        cases: From :meth:`Folds.cases`.
        folder: Of the experiment.
        title: Of the page.
        protocol: ``miniseg`` adds that table.
        others: Further predictions of the same cases, compared too.
        own_cuts: Put each method before itself with the cut that the other folds choose (``<name>, own cut``, written
            to ``<name>/predictions-own-cut/``); differences are to the first of all.
        beside: Published rows below the headline.
        facts, warnings: For the page.
        resampling: Of intervals and tests.
    """
    found = [held_out_lesions(method, cases, folder) for method in methods]
    wanted = [method.name for method in methods] if own_cuts else ()
    together, chosen = with_own_cuts([*found, *others], wanted, cases)
    for name, own in chosen.items():
        place = folder / method_folder(name) / "predictions-own-cut"
        write_predictions(place, [case.name for case in cases], own.predictions.levels)
    return evaluate_predictions(
        together,
        cases,
        title=title,
        protocol=protocol,
        beside=beside,
        facts={**_facts(methods, folds), "cuts": {name: own.cuts for name, own in chosen.items()}, **(facts or {})},
        warnings=(*_budgets(methods), *warnings),
        resampling=resampling,
    )


def evaluate_held_out_scores(
    methods: Sequence[Method],
    folds: Folds,
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """Score and compare classifiers once all runs in ``folder`` are finished; arguments as for segmenters."""
    scores = [held_out_scores(method, folds.runs(method), folder) for method in methods]
    return evaluate_scores(
        scores,
        title=title,
        facts={**_facts(methods, folds), **(facts or {})},
        warnings=(*_budgets(methods), *warnings),
        more_tables=[run_table(each, resampling) for each in scores[:1]],
        resampling=resampling,
    )


def _facts(methods: Sequence[Method], folds: Folds) -> dict[str, Any]:
    return {
        "folds": folds.note(validating=any(method.validates for method in methods)),
        "slices_that_train_in_every_fold": sum(row.split == "train" for row in folds.shared),
        **method_facts(methods),
    }


def _budgets(methods: Sequence[Method]) -> tuple[str, ...]:
    return budget_warnings([method.recipe for method in methods])
