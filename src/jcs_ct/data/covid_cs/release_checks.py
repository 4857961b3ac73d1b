"""COVID-CS as it is published: every file of its lists read, and its annotations held against the masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jcs_ct.data.covid_cs.feature_dataset import FeatureDataset
from jcs_ct.data.covid_cs.feature_files import read_features
from jcs_ct.data.covid_cs.feature_lists import ListedSlice, read_list
from jcs_ct.data.covid_cs.lesion_annotations import annotate, read_annotations
from jcs_ct.data.manifest import read_mask
from jcs_ct.errors import ConfigError, MaskError


def check_list(path: Path, root: Path | None = None) -> list[dict[str, Any]]:
    """Read every file of a list -> one record a slice: size, saturated values (None unknown), lesions.

    Raises:
        ConfigError: every missing, damaged or mismatched file, all at once.
    """
    listed = read_list(path, root)
    dataset, records, problems = FeatureDataset(listed), [], []
    for index, one in enumerate(listed):
        try:
            stored = read_features(one.features)
            mask = dataset.mask(index, stored)
        except (ConfigError, MaskError) as error:
            problems.append(str(error))
            continue
        records.append(
            {
                "features": one.features.name,
                "rows": stored.slice_shape[0],
                "columns": stored.slice_shape[1],
                "vgg_feats": stored.vgg_feats is not None,
                "res2net_feats": stored.res2net_feats is not None,
                "saturated": stored.saturated,
                "at_255": sum(int((map_ == 255).sum()) for map_ in stored.maps),
                "lesions": None if mask is None else len(annotate(mask)),
            }
        )
    if problems:
        raise ConfigError("\n  ".join([f"the list {path} has {len(problems)} problem(s):", *problems]))
    return records


def check_annotations(path: Path, annotations: Path, root: Path | None = None) -> None:
    """Hold annotations against the masks of a list: as many lesions a slice, and the same areas.

    An annotation belongs to the slice whose features or mask have its image's name, up to the suffix.

    Raises:
        ConfigError: every slice where they differ, and every annotated image that the list lacks, all at once.
    """
    listed = read_list(path, root)
    by_stem = {stem: one for one in listed for stem in _stems(one)}
    problems = []
    for image, lesions in read_annotations(annotations).items():
        one = by_stem.get(Path(image).stem)
        if one is None or one.mask is None:
            problems.append(f"{image}: annotated, but the list has no mask for it")
            continue
        said = sorted(lesion.area_pixel for lesion in lesions)
        measured = sorted(lesion.area_pixel for lesion in annotate(read_mask(one.mask)))
        if said != measured:
            problems.append(f"{image}: annotated areas {said}, the mask has {measured}")
    if problems:
        raise ConfigError("\n  ".join([f"{annotations} has {len(problems)} problem(s):", *problems[:20]]))


def _stems(one: ListedSlice) -> set[str]:
    return {one.features.stem, *([] if one.mask is None else [one.mask.stem])}
