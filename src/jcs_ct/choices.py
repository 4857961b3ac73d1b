"""What a person may choose between: one type a choice, from the command line to the code that acts on it.

They stand here, beside nothing heavy, so that ``--help`` can list them at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

NetworkTask = Literal["classifier", "segmenter"]
"""What a network says of a slice: whether it is infected, or where its lesions are."""

CT100Folds = Literal["miniseg", "patient-safe"]
"""Folds of CT100. The published ones part slices of some acquisitions: a network has seen neighbours of what it is
judged on. The patient-safe ones keep acquisitions together."""

ContradictionRule = Literal["set-aside", "label-from-mask", "drop-mask", "refuse"]
"""What becomes of a slice whose label and mask contradict each other. ``set-aside`` trusts neither: the slice stays
listed, without label and mask, and is neither trained on nor judged. ``label-from-mask`` is right where the label is
the patient's and every slice was drawn; ``drop-mask`` where the label is the slice's and masks were not drawn
everywhere, or mark something else."""

SplitName = Literal["train", "val", "test"]
"""What a manifest's slices are for."""

PublishedName = Literal[
    "official-segmentation",
    "official-joint",
    "official-classifier",
    "timm-res2net101d",
    "torchvision-vgg16_bn",
    "torchvision-vgg16",
]
"""Published weights that can be imported."""

EvaluationProtocol = Literal["image", "official", "miniseg", "patient-safe"]
"""How segmentations are scored. ``image`` and ``official`` share the headline table; ``miniseg`` adds the
figures that were published for CT100's published folds; ``patient-safe`` takes a CT100 folder's patient-safe ones."""

SegmentRule = Literal["positive", "always", "never"]
"""When lesions are segmented. ``positive``: in positive patients (the paper's rule), and in negative ones that a
second look doubts."""

MapVariant = Literal["paper", "grad_cam"]
"""Activation map: the paper's Eq. 1-2, or Grad-CAM of the logit."""

Backend = Literal["auto", "torch", "openvino", "onnxruntime"]
"""What runs the networks; ``auto`` is the fastest that is installed."""

ExportPrecision = Literal["fp32", "int8"]
"""In what an exported network multiplies."""

Precision = Literal["auto", "fp32", "bf16", "int8"]
"""In what networks multiply; ``auto`` is bf16 where the hardware has it, ``int8`` needs calibrated networks."""


class ComparedNetwork(StrEnum):
    """What a cross-validation can train in place of a recipe's network: segmenters that need no classifier, and the
    networks that the paper's is compared with (Table VII).
    """

    PAPER = "paper"
    OFFICIAL = "official"
    COMPACT = "compact"
    UNET = "unet"
    UNET_BILINEAR = "unet-bilinear"
    DSS_VGG16 = "dss-vgg16"
    POOLNET_RESNET50 = "poolnet-resnet50"
    POOLNET_VGG16 = "poolnet-vgg16"
    EGNET_RESNET50 = "egnet-resnet50"
    EGNET_VGG16 = "egnet-vgg16"
    DSS_VGG16_SCRATCH = "dss-vgg16-scratch"
    POOLNET_RESNET50_SCRATCH = "poolnet-resnet50-scratch"
    POOLNET_VGG16_SCRATCH = "poolnet-vgg16-scratch"
    EGNET_RESNET50_SCRATCH = "egnet-resnet50-scratch"
    EGNET_VGG16_SCRATCH = "egnet-vgg16-scratch"


class State(StrEnum):
    """Where a job stands. A job that is being worked on keeps its state and is held by a runner (``Job.owner``)."""

    QUEUED = "queued"  #: to be read; a kill leaves it so
    READ = "read"  #: results lie on disk, whole, and are still to be delivered (to a PACS, for one)
    DONE = "done"  #: nothing is left to do
    REFUSED = "refused"  #: it would fail again: the gate, a setting; ``code`` says why
    SET_ASIDE = "set_aside"  #: failed too often; waits for :meth:`Ledger.requeue`
    CANCELLED = "cancelled"  #: taken out, by a person or because the study on a PACS is no longer what was queued


ReportLanguage = Literal["en", "de"]
"""What the report page is written in; every one but English has a catalogue in ``reporting/locale``."""
