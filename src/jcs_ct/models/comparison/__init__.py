"""U-Net, DSS, PoolNet and EGNet, the networks of Table VII, behind the segmenter's interface."""

from jcs_ct.models.comparison.base import ComparisonConfig, ComparisonNetwork
from jcs_ct.models.comparison.comparison_presets import (
    COMPARISONS,
    PublishedSchedule,
    build_comparison,
    comparison_preset,
    published_schedule,
)

__all__ = [
    "COMPARISONS",
    "ComparisonConfig",
    "ComparisonNetwork",
    "PublishedSchedule",
    "build_comparison",
    "comparison_preset",
    "published_schedule",
]
