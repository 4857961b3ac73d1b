"""A lesion mask is the same pixels in whatever way a tool writes it, or it is refused."""

import numpy as np
import pytest
from PIL import Image

from jcs_ct.errors import MaskError
from jcs_ct.imaging.mask_pictures import mask_labels, read_mask_picture

MASK = np.zeros((16, 20), dtype=bool)
MASK[4:9, 6:12] = True
M = MASK.astype(np.uint8)
ZERO = np.zeros_like(M)


def palette(indices, *colours):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette(sum(colours, ()) + (0,) * (768 - 3 * len(colours)))
    return image


def stack(*channels):
    return Image.fromarray(np.dstack([np.broadcast_to(one, M.shape).astype(np.uint8) for one in channels]))


def exif_turned():
    image = Image.fromarray(np.rot90(M * 255))
    image.getexif()[0x0112] = 6
    return image


RIGHT = {
    "one.png": Image.fromarray(M),
    "white.png": Image.fromarray(M * 255),
    "middle.png": Image.fromarray(M * 77),
    "bits.png": Image.fromarray(MASK),
    "u16.png": Image.fromarray(M.astype(np.uint16) * 256),
    "f32.tif": Image.fromarray(M.astype(np.float32) * np.float32(0.4)),
    "i32.tif": Image.fromarray(M.astype(np.int32)),
    "red.png": stack(M * 255, 0, 0),
    "nearly_black.png": stack(0, 0, M),
    "alpha_red.png": stack(255, 0, 0, M * 255),
    "alpha_black.png": stack(0, 0, 0, M * 255),
    "alpha_shown.png": stack(M * 255, 0, 0, M * 255),
    "opaque.png": stack(M * 255, 0, 0, 255),
    "grey_alpha.png": Image.fromarray(np.dstack([ZERO + 255, M * 255])),
    "palette.png": palette(M, (0, 0, 0), (128, 0, 0)),
    "palette_turned.png": palette(1 - M, (255, 255, 255), (0, 0, 0)),
    "palette_of_the_web.png": stack(M * 255, 0, 0).convert("P"),
    "palette.gif": palette(M, (0, 0, 0), (255, 255, 255)),
    "bmp.bmp": Image.fromarray(M * 255),
    "exif.png": exif_turned(),
    "labels.png": Image.fromarray(M * 3 - (np.arange(20) % 2).astype(np.uint8) * M),
    "palette_labels.png": palette(M + M * (np.arange(20) % 2).astype(np.uint8), (0, 0, 0), (9, 9, 9), (0, 200, 0)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_lesion_is_the_same_pixels(tmp_path, name):
    image = RIGHT[name]
    image.save(tmp_path / name, exif=image.getexif()) if name == "exif.png" else image.save(tmp_path / name)
    assert (read_mask_picture(tmp_path / name) == MASK).all()


def smoothed():
    return Image.fromarray(M * 255).resize((40, 32), Image.Resampling.BILINEAR)


WRONG = {
    "all_white.png": (Image.fromarray(ZERO + 255), "has the one value 255: all would be lesion"),
    "all_one.png": (Image.fromarray(ZERO + 1), "has the one value 1: all would be lesion"),
    "no_zero.png": (Image.fromarray((M.astype(np.uint16) + 1) * 1000), "has no 0 for the background"),
    "inverted.png": (Image.fromarray(255 - M * 255), "marks 91% of the slice and 100% of its border"),
    "inverted_bits.png": (Image.fromarray(~MASK), "seems to be marked, invert it"),
    "smoothed.png": (smoothed(), "store it without loss and unsmoothed"),
    "unsure.png": (Image.fromarray(np.where(MASK[:, ::-1], 255, M).astype(np.uint8)), "has 3 values"),
    "white_palette.png": (palette(M, (255, 255, 255), (200, 0, 0)), "one on black"),
    "all_red.png": (stack(255, 0, 0), "1 colour"),
    "two_colours.png": (stack(M * 255, M[::-1] * 255, 0), r"colour\(s\)"),
    "transparent.png": (stack(M * 255, 0, 0, 0), "transparencies 0"),
    "shades.png": (stack(255, 0, 0, M * 100 + 50), "transparencies 50, 150"),
    "both.png": (stack(M[::-1] * 255, 0, 0, M * 255), "2 colours beside what is transparent"),
    "negative.tif": (Image.fromarray(M.astype(np.float32) - 1), "negative or not finite"),
    "nan.tif": (Image.fromarray(np.where(MASK, np.nan, 0).astype(np.float32)), "negative or not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mask_that_could_mean_several_things_is_refused(tmp_path, name):
    image, said = WRONG[name]
    image.save(tmp_path / name)
    with pytest.raises(MaskError, match=said) as refused:
        read_mask_picture(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


@pytest.mark.parametrize("colour", [0, 255])
def test_a_mask_in_which_nothing_was_drawn_is_empty(tmp_path, colour):
    """As tools write it that mark a lesion by what is not transparent."""
    stack(colour, colour, colour, 0).save(tmp_path / "a.png")
    assert not read_mask_picture(tmp_path / "a.png").any()


def test_a_jpeg_of_a_mask_is_refused_and_a_damaged_file_too(tmp_path):
    Image.fromarray(M * 255).save(tmp_path / "a.jpg", quality=50)
    with pytest.raises(MaskError, match="store it without loss"):
        read_mask_picture(tmp_path / "a.jpg")
    (tmp_path / "b.png").write_bytes(b"no mask")
    with pytest.raises(MaskError, match=r"b\.png: the mask cannot be read"):
        read_mask_picture(tmp_path / "b.png")


def test_lesion_labels_choose_among_any_values(tmp_path):
    levels = M * 85
    levels[12, 3:5] = 170
    levels[13, 3:5] = 255
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert (read_mask_picture(tmp_path / "a.png", (85,)) == MASK).all()
    assert read_mask_picture(tmp_path / "a.png", (85, 255)).sum() == MASK.sum() + 2
    assert mask_labels(tmp_path / "a.png") == (85, 170, 255)
    assert not read_mask_picture(tmp_path / "a.png", (4,)).any()


def test_a_palette_is_read_by_its_indices_whatever_a_slice_holds_of_them(tmp_path):
    colours = (0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 128)
    levels = M * 2
    for name in ("lesion.png", "lesion_and_lung.png"):
        palette(levels, *colours).save(tmp_path / name)
        assert (read_mask_picture(tmp_path / name, (2,)) == MASK).all()
        assert not read_mask_picture(tmp_path / name, (3,)).any()
        levels[12, 3:5] = 1
    palette(M).save(tmp_path / "all_black.png")
    assert (read_mask_picture(tmp_path / "all_black.png") == MASK).all()
    palette(M * 2, (9, 9, 9), *colours).save(tmp_path / "not_black.png")
    assert (read_mask_picture(tmp_path / "not_black.png", (2,)) == MASK).all()


@pytest.mark.parametrize("image", [stack(M * 255, 0, 0), stack(255, 0, 0, M * 255)], ids=["colour", "transparency"])
def test_colours_have_no_values_that_lesion_labels_could_name(tmp_path, image):
    image.save(tmp_path / "a.png")
    with pytest.raises(MaskError, match="marks by colour or transparency, and lesion_labels names values"):
        read_mask_picture(tmp_path / "a.png", (1,))


def test_an_empty_mask_is_empty(tmp_path):
    Image.fromarray(ZERO).save(tmp_path / "a.png")
    stack(0, 0, 0).save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert not read_mask_picture(tmp_path / name).any()
