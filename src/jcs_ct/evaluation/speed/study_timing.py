"""Table II: seconds for an infected and an uninfected study, beside the plain way to run the same networks.

An infected study has every slice classified, mapped and segmented, an uninfected one is classified and nothing more;
which slices those are does not depend on what the networks say, so networks with drawn weights can be timed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jcs_ct.engine import (
    ClassifiedSlice,
    Execution,
    ReadyClassifier,
    ReadyNetwork,
    ReadySegmenter,
    classify_slices,
    runner_for,
    segment_slices,
)
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.speed.plain_way import eager_lesions, eager_logits, eager_map, eager_probability, plain_copy
from jcs_ct.evaluation.speed.timing_rounds import TimedWay
from jcs_ct.models.presets import (
    CLASSIFIERS,
    SEGMENTERS,
    build_classifier,
    build_segmenter,
    classifier_preset,
    segmenter_preset,
)
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.progress import CountProgress, Progress

STAGES = ("classify", "map", "segment")
#: Input sizes of the paper (III-A, V-B).
PAPER_CLASSIFIER_PIXELS, PAPER_SEGMENTER_PIXELS = 224, 512
#: Different slices that are drawn; a longer study repeats them.
_DRAWN_SLICES = 24
#: Drawn weights: the networks of a preset that has none to be timed with.
WITHOUT_WEIGHTS = tuple(name for name in CLASSIFIERS if f"{name}-joint" in SEGMENTERS and name != "compact")


@dataclass(frozen=True, eq=False)
class TimedNetworks:
    """A classifier and a segmenter to be timed.

    Args:
        name: In tables.
        classifier, segmenter: The networks.
        trained: False when the weights were drawn: times are good, answers are not.
    """

    name: str
    classifier: ReadyClassifier
    segmenter: ReadySegmenter
    trained: bool = True

    @property
    def both(self) -> tuple[ReadyClassifier, ReadySegmenter]:
        """In the order they run in."""
        return self.classifier, self.segmenter


@dataclass(frozen=True, eq=False)
class TimedStudy:
    """Slices to be timed with.

    Args:
        hu: (different slices, rows, columns).
        indices: Into ``hu``, one a slice of the study; slices repeat.
    """

    hu: NDArray[np.int16]
    indices: tuple[int, ...]


def phantom_study(slices: int, *, size: int = 512, seed: int = 0) -> TimedStudy:
    """A study of phantom slices; at most 24 different ones are drawn.

    Raises:
        ConfigError: a phantom that cannot be drawn.
    """
    drawn = make_phantom(PhantomConfig(slices=min(slices, _DRAWN_SLICES), size=size, seed=seed)).volume.hu
    return TimedStudy(drawn, tuple(index % len(drawn) for index in range(slices)))


def untrained_networks(preset: str, *, seed: int = 0) -> TimedNetworks:
    """The networks of a preset at the paper's input sizes, with weights drawn from ``seed``.

    Raises:
        ConfigError: a preset that is not known, or the one whose weights come in the box.
    """
    if preset not in WITHOUT_WEIGHTS:
        raise ConfigError(f"no preset {preset!r} to draw weights for; known: {', '.join(WITHOUT_WEIGHTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = build_classifier(classifier_preset(preset)).eval()
        segmenter = build_segmenter(segmenter_preset(f"{preset}-joint")).eval()

    drawn = f"drawn from seed {seed}"
    return TimedNetworks(
        name=f"{preset} (drawn weights)",
        classifier=ReadyClassifier(
            classifier, SlicePreprocessor(size=PAPER_CLASSIFIER_PIXELS), preset, drawn, f"{preset} classifier"
        ),
        segmenter=ReadySegmenter(
            segmenter, SlicePreprocessor(size=PAPER_SEGMENTER_PIXELS), preset, drawn, f"{preset} segmenter"
        ),
        trained=False,
    )


def engine_method(
    networks: TimedNetworks,
    study: TimedStudy,
    execution: Execution,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> TimedWay:
    """The way ``jcs diagnose`` runs its networks, without the slices that it skips.

    The map's closed form runs in the classifier's pass; what is left of it is bringing the maps to the slices' grid.
    """
    found: list[ClassifiedSlice] = []
    named = name or f"{networks.name}: jcs"
    shape = (study.hu.shape[1], study.hu.shape[2])

    def report(stage: str) -> Callable[[int, int], None] | None:
        if progress is None:
            return None
        return lambda done, total: progress(f"{named}: {stage}", done, total)

    def classify() -> None:
        found[:] = classify_slices(
            networks.classifier, study.hu, study.indices, execution=execution, progress=report("classify")
        )

    def bring_maps() -> None:
        for item in found:
            networks.classifier.preprocessor.restore(item.activation, item.region, shape)

    def segment() -> None:
        slices = segment_slices(
            networks.segmenter, study.hu, study.indices, execution=execution, progress=report("segment")
        )
        for _ in slices:
            pass

    return TimedWay(named, {"classify": classify, "map": bring_maps, "segment": segment})


def eager_method(
    networks: TimedNetworks,
    study: TimedStudy,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> TimedWay:
    """The same networks as research code runs them: one slice at a time, fp32, module by module.

    Nothing is prepared ahead, maps come by a backward pass, and all five side outputs are computed.
    """
    classifier = plain_copy(networks.classifier.network, device)
    segmenter = plain_copy(networks.segmenter.network, device)
    named = f"{networks.name}: eager"

    def counted(stage: str, run: Callable[[int], object]) -> Callable[[], None]:
        def all_slices() -> None:
            for done, index in enumerate(study.indices, start=1):
                run(index)
                if progress is not None:
                    progress(f"{named}: {stage}", done, len(study.indices))

        return all_slices

    return TimedWay(
        named,
        {
            "classify": counted(
                "classify", lambda i: eager_probability(classifier, networks.classifier, study.hu[i])
            ),
            "map": counted("map", lambda i: eager_map(classifier, networks.classifier, study.hu[i])),
            "segment": counted("segment", lambda i: eager_lesions(segmenter, networks.segmenter, study.hu[i])),
        },
    )


def peer_method(
    ready: ReadyNetwork,
    study: TimedStudy,
    *,
    device: torch.device,
    batch_size: int,
    progress: CountProgress | None = None,
) -> TimedWay:
    """A MONAI U-Net of its tutorials' size, on the same input, in batches, eager fp32: segmentation alone.

    Raises:
        ConfigError: MONAI is not installed.
    """
    try:
        from monai.networks.nets.unet import UNet  # an optional peer, not needed to diagnose
    except ImportError as error:
        raise ConfigError("the peer needs MONAI: pip install monai, or leave it out with --no-peer") from error
    channels = (16, 32, 64, 128, 256)
    unet = UNet(2, ready.preprocessor.channels, 1, channels=channels, strides=(2, 2, 2, 2), num_res_units=2)
    unet = unet.eval().to(device)
    shape = (study.hu.shape[1], study.hu.shape[2])

    def segment() -> None:
        done = 0
        for group in _groups(study.indices, batch_size):
            pairs = [ready.preprocessor(study.hu[index]) for index in group]
            images = torch.from_numpy(np.stack([image for image, _ in pairs])).to(device)
            with torch.no_grad():
                probabilities = torch.sigmoid(unet(images)).cpu().numpy()
            for plane, (_, region) in zip(probabilities, pairs, strict=True):
                ready.preprocessor.restore(plane[0], region, shape)
            done += len(group)
            if progress is not None:
                progress(done, len(study.indices))

    return TimedWay(f"MONAI U-Net, {ready.preprocessor.size} pixels: eager", {"segment": segment})


def _groups(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def largest_differences(
    networks: TimedNetworks, study: TimedStudy, execution: Execution, *, slices: int = 3
) -> dict[str, float]:
    """Between ``jcs diagnose``'s way and the plain one: largest absolute difference, by answer.

    ``logits`` and ``classify`` (the probability) of the classifier, ``map`` (normalised activation, on the slice's
    grid) and ``segment`` (probability of lesion, likewise). The plain way runs on the CPU in fp32 and takes the first
    ``slices`` different slices.
    """
    chosen = sorted(set(study.indices))[:slices]
    classifier = plain_copy(networks.classifier.network, torch.device("cpu"))
    segmenter = plain_copy(networks.segmenter.network, torch.device("cpu"))
    ready, hu = networks.classifier, study.hu
    shape = (hu.shape[1], hu.shape[2])
    logits = _engine_logits(ready, hu, chosen, execution)
    largest = dict.fromkeys(("logits", "classify", "map", "segment"), 0.0)

    def compare(answer: str, ours: NDArray[Any] | float, plain: NDArray[Any]) -> None:
        largest[answer] = max(largest[answer], float(np.abs(ours - plain).max()))

    for item, found in zip(classify_slices(ready, hu, chosen, execution=execution), logits, strict=True):
        plane = hu[item.slice_index]
        plain = eager_logits(classifier, ready, plane)
        compare("logits", found, plain.numpy())
        compare("classify", item.probability, torch.softmax(plain, dim=0)[1].numpy())
        activation = ready.preprocessor.restore(item.activation, item.region, shape)
        compare("map", activation, eager_map(classifier, ready, plane))
    for index, lesions in segment_slices(networks.segmenter, hu, chosen, execution=execution):
        compare("segment", lesions, eager_lesions(segmenter, networks.segmenter, hu[index]))
    return largest


def _engine_logits(
    ready: ReadyNetwork, hu: NDArray[Any], indices: Sequence[int], execution: Execution
) -> NDArray[np.float32]:
    """(slices, 2) logits as the engine's classifier gives them."""
    model = runner_for(ready, execution).model
    return model(model.place(np.stack([ready.preprocessor(hu[index])[0] for index in indices])))[0]
