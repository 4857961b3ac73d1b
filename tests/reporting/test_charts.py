from __future__ import annotations

import pytest

from jcs_ct.reporting.charts import histogram_plot, slice_plot
from jcs_ct.reporting.language import Words

ENGLISH = Words.of("en")


def _slices(count, infected=(), without_lung=(), lesions=()):
    return [
        {
            "slice_index": index,
            "infection_probability": 0.8 if index in infected else 0.2,
            "infected": index in infected,
            "has_lung": index not in without_lung,
            "lesion_count": 1 if index in lesions else 0,
        }
        for index in range(count)
    ]


def _burden(edges, counts, cut=-200.0):
    return {"hu_histogram": {"bin_edges_hu": edges, "voxel_counts": counts}, "high_opacity_cut_hu": cut}


def test_every_slice_has_its_bar():
    plot = slice_plot(_slices(10, infected=(4, 5), without_lung=(0,)), 0.5, ENGLISH)
    assert [bar.kind for bar in plot.bars] == ["outside", *["clear"] * 3, "infected", "infected", *["clear"] * 4]
    assert plot.bars[4].height == pytest.approx(0.8 * plot.frame.height)
    assert plot.bars[0].x == plot.frame.left
    assert plot.bars[-1].x + plot.bars[-1].width <= plot.frame.left + plot.frame.width
    assert plot.bars[4].title == "slice 5: probability 0.80, 0 lesions"


def test_the_threshold_parts_infected_bars_from_others():
    plot = slice_plot(_slices(10, infected=(4,)), 0.5, ENGLISH)
    assert plot.bars[4].y < plot.threshold_y < plot.bars[3].y


def test_runs_of_slices_become_spans():
    plot = slice_plot(_slices(10, lesions=(2, 3, 4, 7), without_lung=(9,)), 0.5, ENGLISH)
    step = plot.frame.width / 10
    widths = [width for _, width in plot.lesion_spans]
    assert widths == pytest.approx([3 * step, step], abs=0.01)
    assert plot.no_lung_spans[0][0] == pytest.approx(plot.frame.left + 9 * step, abs=0.01)


@pytest.mark.parametrize("count", [1, 2, 10, 133, 1200])
def test_ticks_are_slice_numbers_from_one(count):
    labels = [int(tick.label) for tick in slice_plot(_slices(count), 0.5, ENGLISH).ticks]
    assert labels[0] == 1
    assert labels == sorted(set(labels))
    assert labels[-1] <= count
    assert len(labels) <= 12


def test_shares_of_the_bands_add_up():
    edges = [-1000.0, -900.0, -500.0, -100.0, 100.0]
    plot = histogram_plot(_burden(edges, [10, 60, 20, 10]), ENGLISH)
    assert [band.percent for band in plot.bands] == [10.0, 60.0, 20.0, 10.0]
    assert [band.name for band in plot.bands][1:] == ["normally aerated", "poorly aerated", "not aerated"]


def test_a_share_is_not_stated_when_the_bins_do_not_allow_it():
    plot = histogram_plot(_burden([-1000.0, -450.0, 100.0], [5, 5]), ENGLISH)
    assert [band.percent for band in plot.bands] == [None, None, None, None]


def test_the_cut_of_high_opacity_is_drawn():
    plot = histogram_plot(_burden([-1000.0, -200.0, 100.0], [9, 1]), ENGLISH)
    assert [cut.label for cut in plot.cuts if cut.is_high_opacity] == ["PHO cut −200 HU"]
    assert [bar.kind for bar in plot.bars] == ["lung", "dense"]


def test_an_empty_histogram_is_no_plot():
    assert histogram_plot(_burden([-1000.0, 0.0], [0]), ENGLISH) is None
    assert histogram_plot(_burden([], []), ENGLISH) is None
