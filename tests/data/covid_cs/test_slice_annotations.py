import numpy as np
from PIL import Image

from jcs_ct.data.covid_cs.slice_annotations import annotate_manifest, annotate_mask, annotations_csv
from jcs_ct.data.manifest import Manifest, ManifestRow


def test_fields_of_figure_6_are_those_of_the_mask():
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:5, 4:9] = True
    mask[10, 20] = mask[11, 21] = True  # one lesion, by a corner
    large, small = annotate_mask(mask)
    assert (large.area_pixel, large.x0, large.y0, large.width, large.height) == (15, 4, 2, 5, 3)
    assert (large.position_x, large.position_y) == (6.0, 3.0)
    assert (small.area_pixel, small.x0, small.y0, small.width, small.height) == (2, 20, 10, 2, 2)
    assert annotate_mask(np.zeros((4, 4), dtype=bool)) == ()


def test_a_slice_without_lesion_has_its_row(tmp_path):
    for name, value in (("a", 255), ("b", 0)):
        mask = np.zeros((8, 8), dtype=np.uint8)
        mask[2, 3] = value
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    rows = [ManifestRow(tmp_path / f"{n}.png", n, 1, tmp_path / f"{n}.png") for n in "ab"]
    rows.append(ManifestRow(tmp_path / "c.png", "c", 0))
    lines = annotations_csv(annotate_manifest(Manifest(tuple(rows)))).splitlines()
    assert lines[0] == "slice,lesion_count,lesion_id,area_pixel,position_x,position_y,x0,y0,width,height"
    assert lines[1:] == ["a.png,1,1,1,3.0,2.0,3,2,1,1", "b.png,0,,,,,,,,"]
