"""Pictures of every kind a person has: each is read as its viewers show it, in crops and edits alike, or refused."""

import csv
import io
import zlib

import numpy as np
import pytest
import torch
from celeba_trees import NAMES, picture, write_tree
from PIL import Image, ImageCms

from glowkit import celeba, checkpoint, cli, editing
from glowkit.celeba import File, pictures
from glowkit.celeba.cropping import crop_tree
from glowkit.errors import GlowkitError

FACE = picture()  # 178 x 218, of many colours


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def written(folder, image: Image.Image, kind: str = "PNG", **how) -> File:
    path = folder / f"picture.{kind.lower()}"
    image.save(path, kind, **how)
    return File(str(path))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("number", pictures.TURNS)
def test_a_picture_is_turned_as_its_camera_noted(tmp_path, kind, number):
    """By hand: EXIF's number says which corner of the scene is the first row and column of the file."""
    first = np.zeros((4, 6, 3), np.uint8)
    first[:2, :2], first[:2, 4:], first[2:, :2] = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # corners of the scene
    scene = np.kron(first, np.ones((16, 16, 1), np.uint8))
    stored = {
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.swapaxes(0, 1),
        6: scene[:, ::-1].swapaxes(0, 1),  # row 0 of the file is the right side of the scene
        7: scene[::-1, ::-1].swapaxes(0, 1),
        8: scene[::-1].swapaxes(0, 1),  # and here the left side
    }[number]
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = number
    how = {"quality": 100, "exif": exif} | ({"lossless": True} if kind == "WebP" else {})
    file = written(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), kind, **how)
    image, notes = file.shown()
    assert image.size == (96, 64)
    with file.opened() as raw:
        assert pictures.size(raw) == (96, 64)
    assert np.abs(pixels(image) - scene).mean() < (3 if kind == "JPEG" else 1)  # 50 and more if turned otherwise
    assert notes == [("turned", f"as its camera noted (EXIF orientation {number})")]


def test_damaged_notes_of_a_camera_leave_the_picture(tmp_path):
    for exif in (b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0" + bytes(40), b"junk"):
        image, notes = written(tmp_path, FACE, "JPEG", exif=exif).shown()
        assert image.size == FACE.size and not notes


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path):
    grey = np.asarray(FACE.convert("L"))
    file = written(tmp_path, Image.fromarray(grey.astype(np.uint16) * 257))
    image, notes = file.shown()
    assert np.array_equal(pixels(image)[..., 0], grey) and notes[0][0] == "16 bits"
    with pytest.raises(GlowkitError, match="no pixel is above [0-9]+ of 65,535.*scale it first"):
        written(tmp_path, Image.fromarray(grey.astype(np.uint16))).image()


@pytest.mark.parametrize("mode", ["F", "I", "LAB", "HSV"])
def test_pixels_of_no_known_scale_are_refused(mode):
    with pytest.raises(GlowkitError, match=f"pixels of mode {mode}: a picture of 8 or 16 bits"):
        celeba.crop(Image.new(mode, (60, 60)), (20, 30), (40, 30), 32)


def translucent(mode: str) -> tuple[Image.Image, np.ndarray]:
    """A picture whose upper rows are half transparent and hide nothing, and how it looks on white."""
    alpha = np.full((218, 178), 255, np.uint8)
    alpha[:50], alpha[50:80] = 0, 128
    image = FACE.convert(mode)
    seen = pixels(image)
    share = alpha[..., None] / 255
    image.putalpha(Image.fromarray(alpha))
    return image, share * seen + (1 - share) * 255


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image, wanted = translucent(mode)
    found, notes = written(tmp_path, image).shown()
    assert np.abs(pixels(found) - wanted).max() <= 1
    assert notes == [("transparent", "laid on white (37% of it)")]
    image.putalpha(255)
    assert written(tmp_path, image).shown()[1] == []
    image.putalpha(0)
    with pytest.raises(GlowkitError, match="picture.png: wholly transparent"):
        written(tmp_path, image).image()


def test_a_transparent_colour_is_white(tmp_path):
    few = FACE.quantize(16)
    wanted = np.where(np.asarray(few)[..., None] == 3, 255, pixels(few))
    assert np.array_equal(pixels(written(tmp_path, few, transparency=3).image()), wanted)
    deep = Image.fromarray(np.array([[0, 60_000], [30_000, 30_000]], np.uint16))
    assert np.array_equal(
        pixels(written(tmp_path, deep, transparency=0).image())[..., 0], [[255, 60_000 >> 8], [117, 117]]
    )


def test_colours_of_a_profile_become_those_of_srgb(tmp_path):
    """A profile with red and blue exchanged, and one of sRGB's, which changes nothing."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert written(tmp_path, FACE, icc_profile=srgb).shown()[1] == []
    exchanged = srgb.replace(b"rXYZ", b"....").replace(b"bXYZ", b"rXYZ").replace(b"....", b"bXYZ")
    exchanged = exchanged.replace("sRGB built-in".encode("utf-16-be"), "BGRs built-in".encode("utf-16-be"))
    found, notes = written(tmp_path, FACE, icc_profile=exchanged).shown()
    assert np.abs(pixels(found)[..., ::-1] - pixels(FACE)).mean() < 2
    assert notes == [("colour profile", "from BGRs built-in to sRGB")]
    found, notes = written(tmp_path, FACE, icc_profile=b"no profile").shown()
    assert np.array_equal(pixels(found), pixels(FACE)) and "taken for sRGB" in notes[0][1]


@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_of_an_animation_the_first_is_taken(tmp_path, kind):
    more = [FACE.rotate(90), FACE.rotate(180)]
    how = {} if kind == "PNG" else {"lossless": True}
    found, notes = written(tmp_path, FACE, kind, save_all=True, append_images=more, **how).shown()
    assert np.array_equal(pixels(found), pixels(FACE))
    assert notes == [("animated", "the first of 3 pictures was taken")]


@pytest.mark.parametrize(
    "begins, name", [(b"GIF89a", "GIF"), (b"\0\0\0\x18ftypheic", "HEIC"), (b"II*\0", "TIFF"), (b"%PDF-1.7", "PDF")]
)
def test_other_formats_are_named(tmp_path, begins, name):
    (tmp_path / "photo.jpg").write_bytes(begins + bytes(40))
    with pytest.raises(GlowkitError, match=f"not an image .* it is {name}, so save it as one of these"):
        File(str(tmp_path / "photo.jpg")).image()


def test_a_photograph_of_196_megapixels_is_too_large_and_not_damaged(tmp_path):
    data = io.BytesIO()
    picture(8, 8).save(data, "PNG")
    changed = bytearray(data.getvalue())
    changed[16:24] = (14_000).to_bytes(4, "big") * 2
    changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
    (tmp_path / "large.png").write_bytes(changed)
    with pytest.raises(GlowkitError, match="too large to be read: 196,000,000 pixels, of at most 67,108,864"):
        File(str(tmp_path / "large.png")).image()


def test_a_crop_and_its_report_are_those_of_the_picture_as_shown(tmp_path):
    """Of a tree as it is, and with one of its images turned in the file and back by EXIF."""
    tree = write_tree(tmp_path / "tree")
    plain = [celeba.read(tree).crop(i, 32) for i in range(3)]
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 8
    path = tree / "img_align_celeba" / NAMES[0]
    Image.open(path).transpose(Image.Transpose.ROTATE_270).save(path, "JPEG", quality=100, subsampling=0, exif=exif)
    turned = celeba.read(tree)
    assert turned.image_size == (178, 218)
    assert (turned.crop(0, 32).float() - plain[0].float()).abs().mean() < 3
    assert torch.equal(turned.crop(1, 32), plain[1])
    assert crop_tree(tree, tmp_path / "crops", 32)["turned"] == 1
    lines = [*csv.reader((tmp_path / "crops" / "crop_report.csv").open())]
    assert [NAMES[0], "turned", "as its camera noted (EXIF orientation 8)"] in lines


def test_edit_says_what_it_did_to_the_picture(tmp_path, capsys, monkeypatch):
    face = torch.zeros(3, 16, 16)
    made = editing.Edit(face.byte(), [0, 1], face.expand(5, -1, -1, -1), None)
    monkeypatch.setattr(checkpoint, "load", lambda *_: None)
    monkeypatch.setattr(editing, "edit", lambda *_: made)
    translucent("RGB")[0].save(tmp_path / "face.png")
    with pytest.raises(SystemExit):
        cli.app(["edit", str(tmp_path / "face.png"), "-a", "Smiling", "-o", str(tmp_path / "strip.png")])
    assert capsys.readouterr().err == f"glowkit: {tmp_path / 'face.png'} is transparent: laid on white (37% of it)\n"
