"""`jcs evaluate classifier` and `jcs evaluate shortcuts`: trained classifiers on a manifest's slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.evaluate import ManifestOption, OutputOption, SplitOption
from jcs_ct.cli.inputs import NAMED_INPUT, SOME_INPUT
from jcs_ct.cli.judged_networks import (
    judged_manifest,
    manifest_warnings,
    named_checkpoints,
    split_warnings,
    stoppable_evaluation,
    write_page,
)
from jcs_ct.cli.options import DeviceOption, DrawsOption

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.engine import ReadyClassifier

ClassifiersArgument = Annotated[
    list[str],
    typer.Argument(help="Checkpoints, as NAME=FILE or FILE, or compact for the one in the box."),
    NAMED_INPUT,
]


@stoppable_evaluation
def classifier(
    classifiers: ClassifiersArgument,
    manifest: ManifestOption,
    output: OutputOption,
    split: SplitOption = "test",
    device: DeviceOption = "auto",
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Judge classifiers slice by slice: AUC, sensitivity and specificity by source, with intervals over patients.

    A slice is infected from the probability that a checkpoint's operating point names, else from 0.5. Every slice's
    probability is kept as CSV. FILE may be such a CSV (scores.csv), which is then scored again.

    Example:  jcs evaluate classifier compact -m slices.csv -o evaluation/classifier
    """
    from jcs_ct.data.manifest.slice_names import slice_names
    from jcs_ct.engine import Execution
    from jcs_ct.evaluation.classifier.slice_discrimination import evaluate_scores
    from jcs_ct.experiments.methods import method_folder
    from jcs_ct.experiments.slice_scores import read_scores, score_manifest, write_scores
    from jcs_ct.metrics.bootstrap import Resampling

    execution = Execution(device=device)
    table, known = judged_manifest(manifest, split, accept_leaks=accept_leaks)
    methods, warnings, weights = [], [*split_warnings(split), *known], {}
    with stage_progress() as progress:
        for number, (name, path) in enumerate(named_checkpoints(classifiers, "classifier")):
            progress("classifiers", number, len(classifiers))
            if path.suffix == ".csv":
                methods.append(read_scores(path, name=name))
                warnings.append(f"{name} was scored from {path.name}: its slices are those of that file")
                continue
            ready, cut, found = _opened(name, path, table)
            warnings += found
            weights[name] = ready.sha256
            methods.append(
                score_manifest(
                    ready,
                    table.split(split),
                    cut=cut,
                    name=name,
                    names=slice_names(table.rows),
                    execution=execution,
                )
            )
            write_scores(output / "scores" / f"{method_folder(name)}.csv", methods[-1])
        progress("classifiers", len(classifiers), len(classifiers))
    evaluation = evaluate_scores(
        methods,
        title=f"Slices: {manifest.stem}, split {split}",
        facts={"weights_sha256": weights, "manifest_sha256": table.sha256, "split": split},
        warnings=warnings,
        resampling=Resampling(draws=draws),
    )
    write_page(output, evaluation)


@stoppable_evaluation
def shortcuts(
    classifiers: ClassifiersArgument,
    manifest: ManifestOption,
    output: OutputOption,
    split: SplitOption = "test",
    limit: Annotated[
        int, typer.Option(min=1, help="Most slices to take, spread evenly over sources and labels.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the text and frames that are added.")] = 0,
    device: DeviceOption = "auto",
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Test whether a classifier reads the lungs: slices are blanked outside them, marked, windowed, emptied.

    The verdict should stay under all changes but one: with the lungs blanked it should fall to uninfected.

    Example:  jcs evaluate shortcuts compact -m slices.csv -o evaluation/shortcuts --limit 100
    """
    from jcs_ct.engine import Execution
    from jcs_ct.evaluation.classifier.shortcut_tables import evaluate_shortcuts
    from jcs_ct.evaluation.classifier.shortcuts import manifest_planes, measure_shortcuts, spread_slices
    from jcs_ct.metrics.bootstrap import Resampling

    execution = Execution(device=device)
    table, known = judged_manifest(manifest, split, accept_leaks=accept_leaks)
    chosen = spread_slices(table.split(split), limit)
    planes = manifest_planes(chosen, seed=seed)
    results, warnings, weights = [], [*split_warnings(split), *known], {}
    with stage_progress() as progress:
        for name, path in named_checkpoints(classifiers, "classifier"):
            ready, cut, found = _opened(name, path, table)
            warnings += found
            weights[name] = ready.sha256

            def measured(done: int, total: int, name: str = name) -> None:
                progress(name, done, total)

            results.append(
                measure_shortcuts(ready, planes, chosen, name=name, cut=cut, execution=execution, progress=measured)
            )
    evaluation = evaluate_shortcuts(
        results,
        planes,
        chosen,
        title=f"Shortcuts: {manifest.stem}, split {split}",
        facts={"weights_sha256": weights, "cuts": {r.name: r.cut for r in results}, "split": split, "seed": seed},
        warnings=warnings,
        resampling=Resampling(draws=draws),
    )
    write_page(output, evaluation)


@stoppable_evaluation
def trivial(
    manifest: Annotated[
        Path, typer.Option("--manifest", "-m", help="CSV of labelled slices; its folds part them."), SOME_INPUT
    ],
    output: OutputOption,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the decision trees, and of the folds where the manifest has none.")
    ] = 0,
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Measure what size, brightness and sharpness of the pictures alone tell of the label, source by source.

    A classifier's AUC on a source says as much of disease as it lies above this.

    Example:  jcs evaluate trivial -m sarscov2.csv -o evaluation/trivial
    """
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.evaluation.classifier.trivial_features import evaluate_trivial_features, score_trivially
    from jcs_ct.metrics.bootstrap import Resampling

    table, known = judged_manifest(manifest, None, accept_leaks=accept_leaks)
    scores = {}
    with stage_progress() as progress:
        for source in sorted({row.source for row in table}):
            rows = Manifest(tuple(row for row in table if row.source == source and row.label is not None))
            if len({row.label for row in rows}) < 2:
                typer.echo(f"{source or 'slices'}: one label only, nothing to tell apart", err=True)
                continue

            def measured(done: int, total: int, source: str = source) -> None:
                progress(source, done, total)

            scores[source] = score_trivially(rows, seed=seed, progress=measured)
    title = f"Trivial features: {manifest.stem}"
    evaluation = evaluate_trivial_features(scores, title=title, resampling=Resampling(draws=draws))
    write_page(output, replace(evaluation, warnings=(*evaluation.warnings, *known)))


def _opened(name: str, path: Path, table: Manifest) -> tuple[ReadyClassifier, float, list[str]]:
    """The classifier, its cut, and what the reader should know of both."""
    from jcs_ct.checkpoints import load_classifier, read_info

    info = read_info(path)
    warnings = manifest_warnings(name, info.provenance, table)
    if info.operating_point is None:
        warnings.append(f"{name} has no operating point (see `jcs calibrate`): a slice is infected from 0.5")
    cut = info.operating_point.slice_probability if info.operating_point else 0.5
    return load_classifier(path), cut, warnings
