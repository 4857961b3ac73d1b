"""`jcs ablate`: what each part of the segmenter brings, by the experiment of `jcs crossval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.crossval import (
    AskedExperiment,
    ClassifierRecipeOption,
    ClassifierSettingsOption,
    ExtraOption,
    FoldOption,
    ManifestOption,
    OutputOption,
    PartedOption,
    SettingsOption,
    optional_recipe,
    recipe_with,
    run_asked,
)
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.inputs import RECIPE_INPUT
from jcs_ct.cli.judged_networks import stoppable_experiment
from jcs_ct.cli.options import DeviceOption, DrawsOption, ThreadsOption


@stoppable_experiment
def ablate(
    recipe: Annotated[Path, typer.Argument(help="Recipe of a segmenter that works alone."), RECIPE_INPUT],
    manifest: ManifestOption,
    output: OutputOption,
    fold: FoldOption = None,
    parted_patients: PartedOption = False,
    extra: ExtraOption = None,
    classifier_recipe: ClassifierRecipeOption = None,
    settings: SettingsOption = None,
    classifier_settings: ClassifierSettingsOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Find out what each part of the segmenter brings: train it without and with EFM, AFF and combination.

    The enhanced feature module (EFM), attentive feature fusion (AFF) and the combination with a classifier's features
    (Tables V and VI) are taken out one by one in a cross-validation, everything else alike. The combination needs a
    classifier: give its recipe, and with --extra a manifest with uninfected slices. The segmenters draw from those,
    too, unless --set balance=label --set infected_share=1 leaves them to the classifier.

    Example:  jcs ablate ct100-segmenter -m folds.csv -o runs/ablation --set steps=200
    """
    from jcs_ct.evaluation.pages.paper_results import TABLE_V, TABLE_VI
    from jcs_ct.experiments.variants import ablation_methods

    methods = ablation_methods(recipe_with(recipe, settings), optional_recipe(classifier_recipe, classifier_settings))
    missing = () if classifier_recipe else ("the combination (Table VI) was left out: no --classifier-recipe",)
    asked = AskedExperiment(
        manifest=manifest,
        output=output,
        only=fold,
        extra=extra,
        parted=parted_patients,
        accept_leaks=accept_leaks,
        device=device,
        threads=threads,
        draws=draws,
    )
    title = "Ablation: EFM, AFF, combination"
    run_asked(asked, methods, title=title, beside=(*TABLE_V, *TABLE_VI), warnings=missing)
