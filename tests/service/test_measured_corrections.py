"""What a correction says of the lesions that it took the place of."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from jcs_ct.imaging.study import QualityFlag
from jcs_ct.operating_point import OperatingPoint, Verdict
from jcs_ct.reading.diagnosis import Diagnosis
from jcs_ct.service.tasks import corrected_diagnosis
from jcs_ct.volume import CTVolume

SHAPE = (4, 8, 8)


def test_what_is_counted_on_the_networks_lesions_is_said_to_be_theirs():
    """It stood beside a reader's lesions as if it were counted on them."""
    study = SimpleNamespace(volume=CTVolume(np.full(SHAPE, -850, dtype=np.int16), np.diag([-2.0, 0.7, 0.7, 1.0])))
    reading = Diagnosis(
        verdict=Verdict.POSITIVE,
        positive_slice_count=4,
        positive_slice_threshold=1,
        lung_slice_count=4,
        positive_fraction=1.0,
        slices=(),
        segmented=True,
        activation=np.zeros(SHAPE, dtype=np.float16),
        lung_labels=np.ones(SHAPE, dtype=np.uint8),
        lesion_labels=np.zeros(SHAPE, dtype=np.uint16),
        lesions=(),
        burden=None,
        operating_point=OperatingPoint(),
        flags=(QualityFlag("LUNG_CUT", "the field cuts"), QualityFlag("NETWORKS_DISAGREE", "outlined on 0 of them")),
    )
    corrected = corrected_diagnosis(study, reading, np.ones(SHAPE, dtype=bool))
    again = corrected_diagnosis(study, corrected, np.zeros(SHAPE, dtype=bool))
    for diagnosis in (corrected, again):
        assert [flag.message for flag in diagnosis.flags] == [
            "the field cuts",
            "before the correction: outlined on 0 of them",
        ]
