"""Lists in the forms that people have them in, and names that lists and folders spell differently."""

import csv
import io
import itertools
import string

import numpy as np
import pytest
from celeba_trees import ATTRIBUTES, LABELS, NAMES, edit_line, write_landmarks, write_tree
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from glowkit import celeba
from glowkit.celeba.cropping import crop_tree
from glowkit.celeba.files import image_name
from glowkit.errors import GlowkitError

ROWS = [[name, *(str(2 * v - 1) for v in row)] for name, row in zip(NAMES, LABELS.astype(int), strict=True)]
HEAD = ["image_id", *ATTRIBUTES]


@pytest.fixture
def tree(tmp_path):
    """Images and a list of attributes, which tests replace."""
    tree = write_tree(tmp_path / "tree")
    for name in ("identity_CelebA.txt", "list_eval_partition.txt"):
        (tree / name).unlink()
    return tree


def lines(rows, by: str) -> str:
    return "".join(by.join(row) + "\n" for row in rows)


def quoted(rows) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)  # ends lines as Windows does
    return text.getvalue()


def zeros(rows, no: str, yes: str = "1"):
    return [[no if cell == "-1" else yes if cell == "1" else cell for cell in row] for row in rows]


LISTS = {
    "quoted": quoted([HEAD, *ROWS]),
    "semicolons": lines([HEAD, *ROWS], ";"),
    "tabs": lines([HEAD, *ROWS], "\t"),
    "bars": lines([HEAD, *ROWS], "|"),
    "spaces after commas": lines([HEAD, *ROWS], ", "),
    "an index": lines([["", *HEAD], *([str(i), *row] for i, row in enumerate(ROWS))], ","),
    "two indices": lines([["Unnamed: 0.1", "Unnamed: 0", *HEAD], *(["7", "8", *row] for row in ROWS)], ","),
    "an index, tabs": lines([["", *HEAD], *([str(i), *row] for i, row in enumerate(ROWS))], "\t"),
    "row names of R": quoted([["", *HEAD], *([str(i), *row] for i, row in enumerate(ROWS, 1))]),
    "images last": lines([[*HEAD[1:], "filename"], *([*row[1:], row[0]] for row in ROWS)], ","),
    "0 and 1": lines([HEAD, *zeros(ROWS, "0")], ","),
    "floats": lines([HEAD, *zeros(ROWS, "-1.0", "1.0")], ","),
    "truths": lines([HEAD, *zeros(ROWS, "FALSE", "TRUE")], ";"),
    "sep=": "sep=;\n" + lines([HEAD, *ROWS], ";"),
    "empty rows and columns": lines([[*HEAD, "", ""], *([*row, "", ""] for row in ROWS)], ",") + ",,,,,\n\n",
    "the official one through a spreadsheet": lines([["4", "", "", ""], [*ATTRIBUTES, ""], *ROWS], ","),
    "the official one renamed": lines([["4"], ATTRIBUTES, *ROWS], " "),
    "no suffixes": lines([HEAD, *([row[0][:-4], *row[1:]] for row in ROWS)], ","),
}


@pytest.mark.parametrize("form, encoding", list(zip(LISTS, itertools.cycle(("utf-8-sig", "utf-8", "utf-16")))))
def test_attributes_as_spreadsheets_write_them(tree, form, encoding):
    (tree / "list_attr_celeba.txt").unlink()
    (tree / "list_attr_celeba.csv").write_bytes(LISTS[form].encode(encoding))
    t = celeba.read(tree)
    assert t.names == NAMES and t.attributes == ATTRIBUTES and (t.labels == LABELS).all()


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "LIST_ATTR_CELEBA.CSV", "list_attr_celeba (1).csv.txt"])
def test_the_name_of_a_list_does_not_decide_its_form(tree, name):
    (tree / "list_attr_celeba.txt").unlink()
    (tree / name).write_text(LISTS["semicolons"])
    assert (celeba.read(tree).labels == LABELS).all()


def test_official_lists_with_zeros_and_a_named_column(tree):
    rows = [["4"], HEAD, *zeros(ROWS, "0")]
    (tree / "list_attr_celeba.txt").write_text(lines(rows, " "))
    t = celeba.read(tree)
    assert t.attributes == ATTRIBUTES and (t.labels == LABELS).all()


@pytest.mark.parametrize(
    "text",
    [
        "image_id,partition\n{0},0\n{1},1\n{2},2\n{3},2\n",
        "{0},0\n{1},1\n{2},2\n{3},2\n",
        "{0}\t0\n{1}\t1\n{2}\t2\n{3}\t2\n",
    ],
)
def test_partitions_and_people_with_or_without_a_header(tree, text):
    (tree / "list_eval_partition.csv").write_text(text.format(*NAMES))
    (tree / "identity_CelebA.csv").write_text(text.format(*NAMES).replace("partition", "id").replace("2\n", "2.0\n"))
    t = celeba.read(tree)
    assert t.splits.tolist() == t.identities.tolist() == [0, 1, 2, 2]


def test_a_comma_is_a_decimal_point_where_semicolons_separate(tree):
    rows = [[69, 111, 107, 113, 88, 140, 70, 155, 105, 156]] * 4
    write_landmarks(tree / "list_landmarks_align_celeba.txt", rows)
    listed = (tree / "list_landmarks_align_celeba.txt").read_text().splitlines()
    text = "image_id " + "\n".join(listed[1:]).replace(" 69 ", " 69,5 ")
    (tree / "list_landmarks_align_celeba.txt").unlink()
    (tree / "list_landmarks_align_celeba.csv").write_text(text.replace(" ", ";"))
    assert celeba.read(tree).eyes[0].tolist() == [[69.5, 111], [107, 113]]


@pytest.mark.parametrize(
    "line, text, words",
    [
        (2, "000001.jpg,1,0,1", "line 3: '-1 -1 1' is not 1 or -1, or else 1 or 0"),
        (2, "000001.jpg,1,-1,", "line 2: '1 -1 ' is not 1 or -1"),
        (2, "000001.jpg,1,-1,1,1", "line 1: the header names 3 columns, but line 2 has 4 values"),
        (4, "000005.jpg,1,-1,1,1", "line 4: 4 values, not 3"),
        (4, '"000005.jpg,1,-1,1', "line 5: not CSV (unexpected end of data)"),
        (1, "image_id,Male,,Young", "line 1: the header has ''"),
        (2, "first,1,-1,1", None),
        (1, "one,Male,Smiling,Young", None),
    ],
)
def test_faults_of_csv_are_named(tree, line, text, words):
    (tree / "list_attr_celeba.txt").unlink()
    path = tree / "list_attr_celeba.csv"
    path.write_text(lines([HEAD, *ROWS], ","))
    edit_line(path, line, text)
    if words:
        with pytest.raises(GlowkitError) as caught:
            celeba.read(tree)
        assert str(caught.value).startswith(f"{path} {words}")
    else:
        celeba.read(tree)


def test_a_list_that_names_no_image_is_told(tree):
    (tree / "list_attr_celeba.txt").unlink()
    (tree / "list_attr_celeba.csv").write_text("one,Male\nfirst,1\n")
    with pytest.raises(GlowkitError, match="line 2: 'first,1' names no image, such as 000001.jpg"):
        celeba.read(tree)


# --------------------------------------------------------------------------------------- names in another form


def rename(tree, listed, there) -> None:
    for name, new in zip(NAMES, there, strict=True):
        (tree / "img_align_celeba" / name).rename(tree / "img_align_celeba" / new)
    (tree / "list_attr_celeba.txt").write_text(
        lines([["4"], ATTRIBUTES, *([name, *row[1:]] for name, row in zip(listed, ROWS, strict=True))], " ")
    )


@pytest.mark.parametrize(
    "listed, there",
    [
        (NAMES, [name.replace("jpg", "png") for name in NAMES]),  # as the official archive of PNGs has them
        (NAMES, [name.replace("jpg", "JPG") for name in NAMES]),
        (
            NAMES,
            [name.replace("jpg", suffix) for name, suffix in zip(NAMES, ("jpeg", "PNG", "Jpg", "jpg"), strict=True)],
        ),
        ([name.upper() for name in NAMES], NAMES),
        ([name[:-4] for name in NAMES], NAMES),
        ([f"img_align_celeba/{name}" for name in NAMES], NAMES),
        ([f"C:\\celeba\\{name}" for name in NAMES], NAMES),
        ([f"./{name}" for name in NAMES], NAMES),
        ([f"{int(name[:-4])}.jpg" for name in NAMES], NAMES),
        (NAMES, [f"{int(name[:-4])}.png" for name in NAMES]),
        (["Zoe\u0308.jpg", "e\u0301.jpg", "b.jpg", "c.jpg"], ["Zo\u00eb.jpg", "\u00e9.jpg", "b.jpg", "c.jpg"]),
        (
            ["ZO\u00cb.jpg", "\u00e9.jpg", "STRASSE.jpg", "c.jpg"],
            ["zoe\u0308.jpg", "e\u0301.jpg", "stra\u00dfe.jpg", "C.png"],
        ),
    ],
)
def test_names_that_differ_in_form_alone_are_matched(tree, listed, there):
    rename(tree, listed, there)
    t = celeba.read(tree)
    assert t.names == list(there) and (t.labels == LABELS).all() and not t.unused


def test_names_that_match_nothing_are_shown_one_of_each_side(tree):
    rename(tree, [f"img{name}" for name in NAMES], NAMES)
    with pytest.raises(
        GlowkitError, match=r"\(the first: 000001.jpg\) .*list_attr_celeba.txt \(the first: img000001.jpg"
    ):
        celeba.read(tree)
    # CelebA-HQ counts from 0, and its numbers are not those of CelebA: no part of them is taken for that.
    rename(tree, NAMES, ["0.jpg", "1.jpg", "2.jpg", "5.jpg"])
    with pytest.raises(GlowkitError, match=r"\(the first: 0.jpg\) .* \(the first: 000001.jpg\)"):
        celeba.read(tree)


def test_names_that_may_mean_two_are_refused(tree):
    rename(tree, NAMES, ["000001.PNG", "000001.webp", *NAMES[2:]])
    with pytest.raises(
        GlowkitError, match=r"list_attr_celeba.txt: 000001.jpg may mean 000001.(PNG or 000001.webp|webp or)"
    ):
        celeba.read(tree)


def test_two_lines_of_one_image_are_refused(tree):
    rename(tree, ["000001.png", "000001.webp", *NAMES[2:]], NAMES)
    with pytest.raises(GlowkitError, match="000001.png and 000001.webp both mean 000001.jpg"):
        celeba.read(tree)


# ---------------------------------------------------------------------------------- what is cropped is read back

LETTERS = st.sampled_from(string.ascii_letters + string.digits + " ,;|'\"#%&()=+-_.!$@^~`{}[]äßéЖ中😀e\u0301")
WORDS = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool)


@st.composite
def image_names(draw) -> str:
    name = draw(WORDS) + draw(st.sampled_from([".png", ".PNG", ".jpg", ".bmp"]))
    try:
        return image_name(name, "")
    except GlowkitError:
        assume(False)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    names=st.lists(image_names(), min_size=1, max_size=3, unique=True),
    attributes=st.lists(WORDS, max_size=3, unique=True),
    packed=st.booleans(),
    size=st.sampled_from([1, 2, 8]),
    data=st.data(),
)
def test_what_is_cropped_is_read_back(names, attributes, packed, size, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trip")
    (folder / "tree" / "img_celeba").mkdir(parents=True)
    for name in names:
        format = Image.registered_extensions()[name[name.rindex(".") :].lower()]
        Image.new("RGB", (16, 16)).save(folder / "tree" / "img_celeba" / name, format)
    integers = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(names), max_size=len(names)))
    lists = {
        "identity_CelebA": (["x"], [[v] for v in integers]),
        "list_eval_partition": (["x"], [[v % 3] for v in integers]),
        "list_landmarks_celeba": (
            celeba.tree.LANDMARK_COLUMNS,
            [[4.2, 6, 9.3, 6, 8, 8, 4, 11 + i, 9, 11] for i in range(len(names))],
        ),
    }
    if attributes:
        lists["list_attr_celeba"] = (
            attributes,
            [[2 * (v >> k & 1) - 1 for k, _ in enumerate(attributes)] for v in integers],
        )
    for name, (header, rows) in lists.items():
        with (folder / "tree" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [["image_id", *header], *([image, *row] for image, row in zip(names, rows, strict=True))]
            )
    source = celeba.read(folder / "tree")
    assert source.names == (names if attributes else sorted(names)) and source.attributes == attributes
    crop_tree(folder / "tree", folder / "out", size, packed=packed)
    t = celeba.read(folder / "out")
    assert t.names == source.names and t.attributes == source.attributes and (t.labels == source.labels).all()
    assert (t.identities == source.identities).all() and (t.splits == source.splits).all()
    assert np.abs(t.landmarks - source.cropped_landmarks(size)).max() <= 0.5
    assert not t.unused and t.image_size == (size, size)
