"""What files that are written for slices are called."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jcs_ct.data.manifest.rows import ManifestRow


def slice_names(rows: Sequence[ManifestRow]) -> Mapping[Path, str]:
    """Names of files made of slices: the image's stem, and where stems repeat a hash of patient and path behind it.

    Never the patient: a name may be an identity. Names follow from the whole manifest, whatever part of it is judged.
    """
    stems = Counter(row.path.stem for row in rows)

    def name(row: ManifestRow) -> str:
        if stems[row.path.stem] == 1:
            return row.path.stem
        place = "/".join((row.source, row.patient, *row.path.parts[-4:]))
        digest = hashlib.sha256(place.encode()).hexdigest()
        return f"{row.path.stem}-{digest[:8]}"

    return {row.path: name(row) for row in rows}
