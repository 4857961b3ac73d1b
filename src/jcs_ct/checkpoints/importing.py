"""Published weights -> a checkpoint of this package, strictly key by key, offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from jcs_ct.checkpoints.checkpoint_info import CheckpointInfo, file_sha256, is_checkpoint
from jcs_ct.checkpoints.foreign_files import read_foreign
from jcs_ct.checkpoints.format import save_checkpoint
from jcs_ct.checkpoints.key_comparison import LISTED, Fit, compare
from jcs_ct.checkpoints.published import COUNTER, PUBLISHED, PublishedFormat
from jcs_ct.errors import CheckpointError, ConfigError
from jcs_ct.models.layers import FrozenBatchNorm2d


@dataclass(frozen=True, eq=False)
class ImportedWeights:
    """A network made of a published file.

    Args:
        network: In evaluation mode, fp32.
        info: What its checkpoint will say.
        left_out: Names of the file that have no place here, by the format's own rule.
        counters_added: BatchNorm counters the file lacks, set to 0.
    """

    network: nn.Module
    info: CheckpointInfo
    left_out: tuple[str, ...]
    counters_added: int


def import_weights(path: Path | str, name: str) -> ImportedWeights:
    """Read a published file as one of :data:`PUBLISHED`.

    Raises:
        ConfigError: no format of that name.
        CheckpointError: no such file, damaged, with code in it, or another network's; the message lists the missing,
            unexpected and mis-shaped keys and names the format that fits best.
    """
    if name not in PUBLISHED:
        raise ConfigError(f"no published format {name!r}; known: {', '.join(PUBLISHED)}")
    path = Path(path)
    if is_checkpoint(path):
        raise CheckpointError(f"{path}: already a checkpoint of jcs-ct, it needs no import; see `jcs weights show`")
    published, foreign = PUBLISHED[name], read_foreign(path)
    fit = fit_of(published, foreign.tensors)
    if fit.differences:
        raise CheckpointError(_refusal(path, published, fit, foreign.tensors))
    tensors, added = _renamed(published, foreign.tensors)
    with torch.device("meta"):  # every tensor comes from the file: nothing is drawn first
        network = published.build()
    network.load_state_dict(tensors, assign=True)
    _refuse_impossible_values(path, published, network)
    info = CheckpointInfo(
        task=published.task,
        preset=published.preset,
        config=asdict(published.config),
        preprocessor=published.preprocessor,
        operating_point=published.operating_point,
        provenance={
            "imported_as": name,
            "file": path.name,
            "file_sha256": file_sha256(path),
            "wrapped_in": foreign.wrapper,
            "data_parallel_prefix": foreign.had_prefix,
        },
    )
    return ImportedWeights(network.eval(), info, left_out(published, foreign.tensors), added)


def write_imported(imported: ImportedWeights, output: Path) -> None:
    """Write imported weights as a checkpoint, in fp32: the logits stay what they were."""
    save_checkpoint(output, imported.network, imported.info, half=False)


def fit_of(published: PublishedFormat, tensors: Mapping[str, Tensor]) -> Fit:
    """Compare a foreign state dict with a format; what has no place by the format's rules is set aside."""
    aside = set(left_out(published, tensors))
    return compare(
        {**published.expected, **{name: () for name in published.counters if name in tensors}},
        {name: tensor for name, tensor in tensors.items() if name not in aside},
    )


def best_fit(tensors: Mapping[str, Tensor]) -> tuple[PublishedFormat, Fit]:
    """The format that most keys of the file are right for, then the one with the fewest missing; and how it fits."""
    fits = [(published, fit_of(published, tensors)) for published in PUBLISHED.values()]
    return max(fits, key=lambda pair: (2 * pair[1].matching - pair[1].came, -len(pair[1].missing)))


def left_out(published: PublishedFormat, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names without a place here: a head for other classes, and counters of BatchNorms that are frozen here.

    A counter that stands beside no BatchNorm of the format stays, so that a stray one is found.
    """
    frozen = {f"{norm}.{COUNTER}" for norm in published.norms} - set(published.counters)
    return tuple(name for name in tensors if name.startswith(published.left_out) or name in frozen)


def _renamed(published: PublishedFormat, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Their names -> ours; floats become fp32; counters that the file lacks become 0."""
    renamed: dict[str, Tensor] = {}
    added = 0
    for here, there in published.names.items():
        if there in tensors:
            value = tensors[there]
            renamed[here] = value.float() if value.is_floating_point() else value
        else:
            renamed[here] = torch.zeros((), dtype=torch.long)
            added += 1
    return renamed, added


def _refuse_impossible_values(path: Path, published: PublishedFormat, network: nn.Module) -> None:
    """A value that is not finite, or a variance that cannot be divided by, would make every logit NaN."""
    problems = [
        f"{published.names[name]} has values that are not finite"
        for name, value in network.state_dict().items()
        if not bool(torch.isfinite(value).all())
    ]
    for name, norm in network.named_modules():
        if isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d)) and norm.running_var is not None:
            impossible = int((norm.running_var + norm.eps <= 0).sum())
            if impossible:
                there = published.names[f"{name}.running_var"]
                problems.append(f"{there} has {impossible} variance(s) that are not above 0 (eps is {norm.eps:g})")
    if problems:
        raise CheckpointError("\n  ".join([f"{path}: {len(problems)} tensor(s) cannot be used:", *problems[:LISTED]]))


def _refusal(path: Path, published: PublishedFormat, fit: Fit, tensors: Mapping[str, Tensor]) -> str:
    lines = [f"{path}: not {published.name} ({published.about}):", *fit.lines()]
    best, closest = best_fit(tensors)
    if closest.matching == 0:
        lines.append("no key of it is known to any format")
    elif closest.differences and closest.matching <= fit.matching:
        lines.append(f"no other format fits better; {fit.matching} of {len(published.expected)} keys are right")
    elif closest.differences == 0:
        lines.append(f"it fits {best.name}, every key: use --as {best.name}")
    else:
        lines.append(f"it fits {best.name} best, with {closest.differences} differences")
    return "\n  ".join(lines)
