"""Figures that others published, printed beside ours and never mixed with them.

The paper's are of its private COVID-CS slices; MiniSeg's are of the 99 CT100 slices in its own five folds.
"""

from __future__ import annotations

from jcs_ct.evaluation.pages.tables import PAPER, PUBLISHED, Cell

Row = dict[str, Cell]


def _overlap(method: str, dice: float, iou: float, e_measure: float) -> Row:
    return {
        "method": method,
        "origin": PAPER,
        "dice_percent": dice,
        "iou_percent": iou,
        "e_measure_adaptive_percent": e_measure,
    }


def _duration(method: str, infected_s: float, uninfected_s: float, **stages_s: float) -> Row:
    return {"method": method, "origin": PAPER, "infected_s": infected_s, "uninfected_s": uninfected_s, **stages_s}


#: Table II: seconds a case. JCS ran on an RTX 2080 Ti, 300 slices; the other rows are the sources that it cites.
TABLE_II: tuple[Row, ...] = (
    _duration("JCS on an RTX 2080 Ti", 22.0, 1.0, classify_s=1.0, segment_s=21.0),
    _duration("CT radiologist with JCS", 54.4, 1.0),
    _duration("CT radiologist", 21.5 * 60, 21.5 * 60),
    _duration("RT-PCR", 4.0 * 3600, 4.0 * 3600),
)

#: Table IV: threshold, sensitivity, specificity.
TABLE_IV: tuple[Row, ...] = tuple(
    {
        "threshold": float(threshold),
        "origin": PAPER,
        "sensitivity_percent": sensitivity,
        "specificity_percent": specificity,
    }
    for threshold, sensitivity, specificity in (
        (15, 96.0, 91.5),
        (20, 95.0, 92.0),
        (25, 95.0, 93.0),
        (30, 94.5, 93.5),
    )
)

TABLE_V: tuple[Row, ...] = (
    _overlap("no EFM, no AFF", 71.0, 57.7, 88.0),
    _overlap("EFM", 74.3, 61.4, 88.9),
    _overlap("AFF", 75.9, 63.4, 90.9),
    _overlap("EFM + AFF", 77.5, 65.4, 92.0),
)

TABLE_VI: tuple[Row, ...] = (
    _overlap("segmentation alone", 77.5, 65.4, 92.0),
    _overlap("joint", 78.5, 66.4, 92.7),
)

TABLE_VII: tuple[Row, ...] = (
    _overlap("U-Net", 65.1, 54.1, 79.7),
    _overlap("DSS", 65.7, 51.7, 79.9),
    _overlap("EGNet", 69.3, 55.4, 83.6),
    _overlap("PoolNet", 69.7, 55.9, 83.9),
    _overlap("JCS", 78.5, 66.4, 92.7),
)

#: Shares of slices by Dice in Fig. 11 (a), in percent.
FIGURE_11_SHARES: Row = {
    "method": "JCS",
    "origin": PAPER,
    "dice_at_least_0_6_percent": 95.9,
    "dice_0_1_to_0_6_percent": 3.3,
    "dice_below_0_1_percent": 0.8,
}


def _miniseg(method: str, miou: float, sen: float, spc: float, dsc: float, hd: float) -> Row:
    return {
        "method": method,
        "origin": PUBLISHED,
        "miou_percent": miou,
        "sensitivity_percent": sen,
        "specificity_percent": spc,
        "dice_percent": dsc,
        "hausdorff_px": hd,
    }


#: Published with MiniSeg for CT100; a dagger marks ImageNet weights.
MINISEG: tuple[Row, ...] = (
    _miniseg("MiniSeg", 82.15, 84.95, 97.72, 75.91, 74.42),
    _miniseg("DUpsampling \N{DAGGER}", 81.69, 84.54, 97.60, 75.27, 81.07),
    _miniseg("DeepLabv3 \N{DAGGER}", 81.30, 84.80, 97.48, 74.65, 81.77),
    _miniseg("Inf-Net \N{DAGGER}", 81.62, 76.50, 98.32, 74.44, 86.81),
    _miniseg("U-Net", 77.56, 72.24, 97.71, 68.37, 94.25),
    _miniseg("U-Net++", 77.64, 77.26, 97.28, 69.04, 91.73),
    _miniseg("Attention U-Net", 77.71, 74.75, 97.56, 68.93, 92.15),
)
