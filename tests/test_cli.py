"""The command line: what each command leaves on disk, and one line on stderr for whatever is wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from PIL import Image

import glowkit
from glowkit import celeba, checkpoint, controlled, faces, files
from glowkit.book import claims
from glowkit.cli import app
from glowkit.flow import Glow, GlowConfig

ROOT = Path(glowkit.__file__).parents[1]
MODEL = GlowConfig(image_size=32, levels=2, steps=1, width=8)
CONFIG = """
[model]
image_size = 32
levels = 2
steps = 1
width = 8
[training]
steps = 2
batch = 4
log_every = 1
checkpoint_every = 1
held_out = 2
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return faces.write_tree(tmp_path_factory.mktemp("faces") / "tree", 24, size=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory, tree) -> Path:
    """A small untrained model with its study."""
    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(0)
    glow = Glow(MODEL)
    glow.initialise(glowkit.open_dataset(tree, size=32).images(range(24)), torch.Generator().manual_seed(0))
    checkpoint.save(glow, folder, str(tree))
    glowkit.study.write_study(folder)
    return folder


@pytest.fixture
def run(capsys):
    """run(*arguments) -> (status, stdout, stderr) of a command, in this process."""

    def run(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            app([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


def shell(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "glowkit", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # the working folder may be any
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_a_linear_flow_is_fitted_studied_and_sampled(run, tree, tmp_path):
    tree = shutil.copytree(tree, tmp_path / "tree")
    partition = tree / "list_eval_partition.txt"  # so few have no validation split
    partition.write_text(partition.read_text().replace("3.jpg  0", "3.jpg  1"))
    status, out, _ = run("linear", tmp_path / "flow", "--data", tree, "--n", 12)
    assert status == 0 and "rank 10" in out and "bits/dim of the validation split" in out
    assert sorted(path.name for path in (tmp_path / "flow").iterdir()) == ["config.json", "model.safetensors"]
    for command in (("study",), ("sample", "-o", tmp_path / "grid.png", "--n", 4)):
        assert run(command[0], tmp_path / "flow", *command[1:])[0] == 0
    assert glowkit.open_study(tmp_path / "flow").mean.shape == (3 * 64**2,)


# ------------------------------------------------------------------------------------------------ in a shell


def test_help_lists_the_commands_without_loading_torch():
    result = shell("--help")
    assert result.returncode == 0 and result.stderr == ""
    for command in ("faces", "celeba", "crop", "train", "study", "sample", "edit", "check"):
        assert f"\n  {command} " in result.stdout
    lists = result.stdout + shell("celeba", "--help").stdout  # each line whole: only the usage ends in dots
    assert all(line.startswith("Usage:") for line in lists.splitlines() if line.endswith("..."))
    code = "import sys, glowkit.cli; assert not {'torch', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert glowkit.__version__ in shell("--version").stdout


def test_paths_are_expanded_and_names_that_cannot_be_shown_are_spelt_out(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    shutil.copytree(tree, tmp_path / "d\u00e9j\u00e0")
    for file in (tmp_path / "d\u00e9j\u00e0").glob("img*/000001.jpg"):
        file.rename(file.with_name("\u0416.jpg"))
    result = shell("celeba", "check", "~/d\u00e9j\u00e0")
    assert result.returncode == 0 and "not used, the first: \\u0416.jpg" in result.stdout, result.stderr
    monkeypatch.delenv("PYTHONIOENCODING")
    assert shell("crop", "--size=8", "~/d\u00e9j\u00e0", "~/out").returncode == 0
    assert len(list((tmp_path / "out" / "img_align_celeba").iterdir())) == 23


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["crop"], 2, "Missing argument 'SRC'"),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["--frobnicate"], 2, "No such option '--frobnicate'"),
        (["celeba", "frobnicate"], 2, "No such command 'frobnicate'"),
        (["faces", "out", "--n", "many"], 2, "'many' is not a valid integer"),
        (["edit", "x.png", "-a", "Smiling", "--eyes", "1", "2", "3", "-o", "y.png"], 2, "--eyes"),
        (["sample", "faces64", "-o", "grid.gif"], 1, "grid.gif: name a picture ending in .png"),
        (["sample", "faces64", "-o", "no/such/folder/grid.png"], 1, "no/such/folder: no such folder"),
        (["sample", "faces64", "-o", "grid.png", "--n", "0"], 1, "--n 0"),
        (["sample", "faces64", "-o", "grid.png", "--temperature", "-1"], 1, "--temperature -1"),
        (["edit", "x.png", "-a", "Smiling", "--alpha", "nan", "-o", "y.png"], 1, "--alpha nan"),
        (["edit", "-a", "Smiling", "-o", "y.png"], 1, "either an IMAGE or --demo"),
        (["edit", "x.png", "--demo", "-a", "Smiling", "-o", "y.png"], 1, "either an IMAGE or --demo"),
        (["edit", "--demo", "-a", "Smiling", "-o", "y.png", "--eyes", "1", "2", "3", "4"], 1, "--demo needs none"),
        (["edit", "--demo", "-a", "Smiling", "-o", "y.png", "--animate"], 1, "y.png: name a picture ending in .gif"),
        (["check", "nowhere"], 1, "nowhere: no model there"),
        (["celeba", "check", "nowhere"], 1, "nowhere: no such file or folder"),
    ],
)
def test_wrong_input_gets_one_line(arguments, status, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = shell(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith("glowkit: ") and result.stderr.count("\n") == 1 and words in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_package_installs_this_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["glowkit"] == "glowkit.cli:app"
    assert project["version"] == glowkit.__version__


# ------------------------------------------------------------------------------------------------ what works


def test_faces_crop_and_check(run, tmp_path):
    assert run("faces", tmp_path / "tree", "--n", 3, "--size", 32, "--seed", 5)[0] == 0
    status, out, _ = run("celeba", "check", tmp_path / "tree")
    assert status == 0 and out.startswith("3 images in img_celeba of 1 people, all readable\n")
    assert "identity_CelebA.txt is not the whole official file, which is no fault: it has 3 lines\n" in out
    status, out, _ = run("crop", tmp_path / "tree", tmp_path / "crops", "--size", 48)
    assert status == 0 and out.startswith(f"3 crops of 48 x 48 pixels in {tmp_path / 'crops'}\n")
    crops = celeba.read(tmp_path / "crops")
    assert [file.image().size for file in crops.files] == [(48, 48)] * 3
    assert run("celeba", "check", tmp_path / "tree", "--images", "img_align_celeba")[1].startswith(
        "3 images in img_align_celeba"
    )


def test_train_and_resume(run, tmp_path, tree):
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    status, _, err = run("train", config, "--data", tree, "--out", tmp_path / "run")
    assert status == 0, err
    assert glowkit.load(tmp_path / "run").config == MODEL
    status, _, err = run("train", config, "--data", tree, "--out", tmp_path / "run")
    assert status == 1 and err.splitlines()[-1].startswith("glowkit: ") and "--resume" in err
    assert run("train", config, "--data", tree, "--out", tmp_path / "run", "--resume")[0] == 0


def test_study(run, tmp_path, tree, model):
    for file in model.iterdir():
        if file.name != "study.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert run("study", tmp_path, "--data", tree)[0] == 0
    data = glowkit.open_dataset(tree, size=32)
    halves = [data.labels[data.subset("train")[half::2]] for half in (0, 1)]
    some = np.all([half.any(0) & ~half.all(0) for half in halves], 0)
    assert 0 < some.sum() < len(faces.ATTRIBUTES)
    assert glowkit.open_study(tmp_path).attributes == [
        a for a, varies in zip(faces.ATTRIBUTES, some, strict=True) if varies
    ]
    assert run("study", tmp_path, "--data", tree, "--n", 15)[0] == 0
    assert glowkit.open_study(tmp_path).n == 15
    assert run("study", tmp_path, "--n", 0)[0] == 1


def test_check_certifies_or_fails(run, tmp_path, tree, model):
    status, out, _ = run("check", model, "--n", 2)
    assert status == 0 and "over 2 images" in out and "certificate holds" in out
    broken = glowkit.load(model)
    with torch.no_grad():
        next(broken.parameters()).mul_(1e6)  # far outside what float32 can undo
    checkpoint.save(broken, tmp_path / "broken", str(tree))
    status, out, err = run("check", tmp_path / "broken", "--data", tree, "--n", 2)
    assert "does NOT hold" in out
    refused((status, out, err), str(tmp_path / "broken"), "not exact")


def test_publish_keeps_the_model_at_half_the_size(run, tmp_path, model):
    status, _, _ = run("publish", model, tmp_path / "out")
    assert status == 0
    weights = [(folder / checkpoint.WEIGHTS).stat().st_size for folder in (model, tmp_path / "out")]
    assert weights[1] < 0.75 * weights[0] and checkpoint.data_of(tmp_path / "out") == checkpoint.data_of(model)
    x = torch.rand(2, 3, 32, 32)
    assert (glowkit.load(tmp_path / "out").encode(x) - glowkit.load(model).encode(x)).abs().max() < 0.1


def test_sample_draws_what_the_model_does(run, tmp_path, model):
    out = tmp_path / "grid.png"
    assert run("sample", model, "-o", out, "--n", 5, "--temperature", 0.6, "--seed", 3, "--device", "cpu")[0] == 0
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (3 * 32, 2 * 32, 3)
    x = glowkit.load(model).sample(5, temperature=0.6, generator=torch.Generator().manual_seed(3))
    expected = (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert (sheet[32:64, 32:64] == expected[3]).all()  # row by row
    assert (sheet[64:, 32:] == 255).all()
    assert list(tmp_path.iterdir()) == [out]


def tiles(strip: Path) -> list[np.ndarray]:
    """The pictures of a strip, the original first, int (192, 192, 3)."""
    sheet = np.asarray(Image.open(strip)).astype(int)
    return [sheet[48:240, left : left + 192] for left in (14, *range(230, 1231, 200))][: (sheet.shape[1] - 28) // 198]


def enlarged(x: torch.Tensor) -> np.ndarray:
    """(3, S, S) uint8 or float -> (192, 192, 3), as Pillow enlarges."""
    x = x if x.dtype == torch.uint8 else (x.clamp(0, 1) * 255).round().byte()
    return np.asarray(Image.fromarray(x.permute(1, 2, 0).numpy()).resize((192, 192), Image.Resampling.BICUBIC), int)


def test_edit_is_a_strip_from_the_original_and_its_reconstruction_to_alpha(run, tmp_path, model):
    image, out = tmp_path / "face.png", tmp_path / "strip.png"
    pixels = faces.render(faces.factors([7]), 32)[0]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(image)
    status, said, err = run("edit", image, "-a", "Smiling", "--alpha", "-0.5", "-o", out, "--model", model)
    assert status == 0, err
    assert said.startswith(f"Smiling by -0.5, mean direction of {model}: {out}\n")
    strip = tiles(out)
    assert len(strip) == 6 and np.array_equal(strip[0], enlarged(pixels))
    glow = glowkit.load(model)
    z = glow.encode(pixels[None], torch.Generator().manual_seed(0))
    line = torch.from_numpy(glowkit.open_study(model).direction("Smiling"))
    for tile, alpha in zip(strip[1:], (0, -0.125, -0.25, -0.375, -0.5), strict=True):
        assert np.abs(tile - enlarged(glow.decode(z + alpha * line)[0])).max() <= 3
    # The same face somewhere in a larger picture, with its eyes pointed out, the right way round or not.
    wide = Image.new("RGB", (100, 80))
    wide.paste(Image.open(image), (40, 30))
    wide.save(tmp_path / "wide.png")
    eyes = (32 * np.array(celeba.EYES) - 0.5 + [40, 30]).ravel()
    for order in (eyes, np.roll(eyes, 2)):
        again = tmp_path / "again.png"
        arguments = ["-a", "Smiling", "--alpha", "-0.5", "-o", again, "--model", model, "--eyes", *order]
        status, _, err = run("edit", tmp_path / "wide.png", *arguments)
        assert status == 0 and ("the other way round" in err) == (order is not eyes)
        assert all(np.array_equal(a, b) for a, b in zip(tiles(again), strip, strict=True))


def test_edit_moves_there_and_back(run, tmp_path, model):
    for name, options in (("smile.gif", []), ("smile.webp", ["--animate"])):
        status, _, err = run("edit", "--demo", "-a", "Smiling", "-o", tmp_path / name, "--model", model, *options)
        assert status == 0, err
        with Image.open(tmp_path / name) as moving:
            assert (moving.n_frames, moving.info["loop"], moving.size) == (24, 0, (256, 300))
    run("edit", "--demo", "-a", "Smiling", "-o", tmp_path / "still.webp", "--model", model)
    assert Image.open(tmp_path / "still.webp").n_frames == 1


def test_the_readmes_first_edit_shows_a_smile(run, tmp_path):
    status, out, err = run("edit", "--demo", "-a", "Smiling", "-o", tmp_path / "strip.png")
    assert (status, err) == (0, "") and "a drawn face of nobody, chosen for the demo" in out
    before, after = map(float, out.split("judge: Smiling ")[1].split()[::2])
    assert before < 0.1 and after > 0.9
    err = run("edit", "--demo", "-a", "Smiling", "--alpha", -1, "-o", tmp_path / "strip.png")[2]
    assert err.count("\n") == 1 and "not there to be taken away" in err


def test_edit_takes_every_direction_of_the_library(run, tmp_path, model):
    image, strips = tmp_path / "face.png", []
    Image.fromarray(faces.render(faces.factors([7]), 32)[0].permute(1, 2, 0).numpy()).save(image)
    for direction in controlled.DIRECTIONS:
        out = tmp_path / f"{direction}.png"
        status, _, err = run("edit", image, "-a", "Smiling", "-o", out, "--model", model, "--direction", direction)
        assert status == 0, err
        strips.append(tiles(out))
    for strip in strips[1:]:
        assert np.array_equal(strip[1], strips[0][1])  # the reconstruction
    assert np.abs(strips[1][5] - strips[0][5]).max() > 1
    status, _, err = run("edit", image, "-a", "Smiling", "-o", tmp_path / "x.png", "--direction", "best")
    assert status == 2 and "is not one of 'mean', 'partial', 'conditional', 'shrunk'" in err


def test_claims_prints_the_ledger_as_a_table_and_for_machines(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWKIT_CLAIMS", str(tmp_path))
    claims.record("C31", estimate=0.798, ci=(0.797, 0.799), n=1000, control="0.5422 as printed", model="none")
    monkeypatch.setenv("COLUMNS", "80")
    status, table, err = run("claims")
    assert (status, err) == (0, "") and max(map(len, table.splitlines())) <= 80
    of_c31 = table[table.index("C31 ") : table.index("C32 ")]
    assert "has norm e / (2√(2π)), about 0.6" in of_c31
    assert "no model needed  wrong in the source           0.7980 [0.7970, 0.7990]" in of_c31
    assert [line.split()[0] for line in table.splitlines() if line[:1].strip()] == list(claims.rows())
    rows = json.loads(run("claims", "--json")[1])
    assert [row["id"] for row in rows] == list(claims.rows())
    assert [row["ci"] for row in rows if row["verdict"] != "open"] == [[0.797, 0.799]]
    (tmp_path / "broken.json").write_text("[")
    status, out, err = run("claims")
    assert status == 1 and out == "" and "broken.json is no ledger file" in err


# --------------------------------------------------------------------------------------------- what does not


def refused(result, *words) -> None:
    status, _, err = result
    lines = err.splitlines()
    assert status == 1 and lines and lines[-1].startswith("glowkit: "), err
    assert "Traceback" not in err and all(word in lines[-1] for word in words), err


def test_edit_refuses_what_it_cannot_do(run, tmp_path, model, tree):
    out = tmp_path / "strip.png"
    image = tree / "img_align_celeba" / "000001.jpg"
    refused(run("edit", image, "-a", "Smirking", "-o", out, "--model", model), "Smirking", "Smiling", "Young")
    refused(run("edit", tmp_path / "no.jpg", "-a", "Smiling", "-o", out, "--model", model), "no.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    refused(run("edit", tmp_path / "text.jpg", "-a", "Smiling", "-o", out, "--model", model), "not an image")
    eyes = ["--eyes", 1, 2, 1, 2]
    refused(run("edit", image, "-a", "Smiling", "-o", out, "--model", model, *eyes), "two different points")
    refused(run("edit", image, "-a", "Smiling", "-o", out, "--model", tmp_path), str(tmp_path), "no model")
    assert not out.exists()


def test_what_cannot_be_measured_is_told_in_a_line(run, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    refused(run("measure", folder, "--row", "C99"), "row 'C99'", "C07", "B12")
    refused(run("measure", folder), "no judge there yet", "glowkit judge")
    (folder / "study.safetensors").unlink()
    refused(run("measure", folder), "no study there yet", "glowkit study")
    assert not (folder / "measures.json").exists()


@pytest.mark.parametrize("command", ["check", "sample", "edit", "judge", "study", "train", "bench", "cost"])
def test_a_device_that_is_not_there_is_refused_before_any_work(run, tmp_path, monkeypatch, model, tree, command):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = {file: file.stat().st_mtime_ns for file in model.iterdir()}
    config, out, picture = tmp_path / "tiny.toml", tmp_path / "out", tmp_path / "out.png"
    config.write_text(CONFIG)
    arguments = {
        "sample": [model, "-o", picture],
        "edit": [tree / "img_align_celeba" / "000001.jpg", "-a", "Young", "-o", picture, "--model", model],
        "train": [config, "--data", tree, "--out", out],
        "bench": [config, "--data", tree, "--out", out],
        "cost": [config],
    }.get(command, [model])
    refused(run(command, *arguments, "--device", "cuda"), "--device cuda: this machine has no card", "for the CPU")
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.toml"]
    assert {file: file.stat().st_mtime_ns for file in model.iterdir()} == before


def test_faulty_data_and_models_are_told_in_a_line(run, tmp_path, model):
    assert run("faces", tmp_path / "tree", "--n", 6, "--size", 32)[0] == 0
    refused(run("faces", tmp_path / "tree", "--n", 6), str(tmp_path / "tree"))
    refused(run("faces", tmp_path / "other", "--n", 0), "n = 0")
    image = tmp_path / "tree" / "img_celeba" / "000003.jpg"
    image.write_bytes(image.read_bytes()[:2000])
    refused(run("celeba", "check", tmp_path / "tree"), "1 of 6 images", str(image), "truncated")
    refused(run("crop", tmp_path / "tree", tmp_path / "crops"), str(image))
    (tmp_path / "tiny.toml").write_text(CONFIG)
    refused(
        run("train", tmp_path / "tiny.toml", "--data", tmp_path / "tree", "--out", tmp_path / "run"),
        str(image),
    )
    refused(run("sample", tmp_path / "tree", "-o", tmp_path / "grid.png"), str(tmp_path / "tree"))
    broken = tmp_path / "model"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:300])
    refused(run("sample", broken, "-o", tmp_path / "grid.png"), "model.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["crops.part", "model", "tiny.toml", "tree"]


def test_numbers_out_of_all_bounds_are_told_in_a_line(run, tmp_path, model, tree):
    many, out, image = 10**20 - 1, tmp_path / "grid.png", tree / "img_align_celeba" / "000001.jpg"
    refused(run("faces", tmp_path / "tree", "--n", many), f"n = {many}", "1,000,000")
    refused(run("faces", tmp_path / "tree", "--n", 1, "--size", many), f"size = {many}")
    refused(run("faces", tmp_path / "tree", "--n", 1, "--seed", many), f"seed {many}", "64 bits")
    refused(run("crop", tree, tmp_path / "crops", "--size", many), f"size {many}")
    for seed in (many, -many):
        refused(run("sample", model, "-o", out, "--n", 1, "--seed", seed), f"--seed {seed}", "64 bits")
    refused(run("sample", model, "-o", out, "--n", many), f"--n {many}", "room for 32,768 samples")
    refused(run("sample", model, "-o", out, "--n", 1, "--temperature", 1e300), str(out), "1 of 1 images are not finite")
    edit = ["edit", image, "-a", "Smiling", "-o", out, "--model", model]
    refused(run(*edit, "--alpha", 1e300), "of 5 images are not finite", "--alpha nearer to 0")
    for eyes in ((1e30, 1, 1e31, 1), (1e300, 1, -1e300, 1), (70, 110, 70.0000001, 110)):
        refused(run(*edit, "--eyes", *eyes), "two different points within 1,000,000 pixels")
    refused(run(*edit, "--eyes", 0, 100, 1e5, 100), "too far apart for a face in a 178 x 218 image")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_file(run, tmp_path, model, tree):
    """The system itself refuses to write on."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for suffix in ("png", "jpg", "webp"):
            out = tmp_path / f"grid.{suffix}"
            refused(run("sample", model, "-o", out, "--n", 9), f"{out}: File too large")
        image = tree / "img_align_celeba" / "000001.jpg"
        refused(run("edit", image, "-a", "Smiling", "-o", out, "--model", model), f"{out}: File too large")
        refused(run("faces", tmp_path / "tree", "--n", 1, "--size", 32), f"{tmp_path / 'tree'}: File too large")
        refused(run("crop", tree, tmp_path / "crops", "--size", 64), f"{tmp_path / 'crops.part'}: File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["crops.part"]


def test_errors_of_the_system_are_told_in_a_line(run, tmp_path, model):
    (tmp_path / "grid.png").mkdir()  # a folder where the picture should go
    refused(run("sample", model, "-o", tmp_path / "grid.png", "--n", 1), "grid.png")
    (tmp_path / "file").write_text("")
    refused(run("faces", tmp_path / "file" / "tree", "--n", 1, "--size", 32), "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "grid.png"]


def test_an_error_of_a_library_that_is_but_a_text_names_the_file_too(tmp_path):
    """As Pillow's are: encoder error -2 when writing image file."""
    path = tmp_path / "grid.png"
    with pytest.raises(OSError, match="encoder error") as caught, files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError("encoder error -2")
    assert (caught.value.filename, caught.value.strerror) == (str(path), "encoder error -2")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_is_one_line_whatever_a_library_makes_of_it(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("could not determine the shape of object type") from None

    monkeypatch.setattr(click.Group, "main", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; in the background it is none
    try:
        with pytest.raises(SystemExit) as ended:
            app(["claims"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130 and capsys.readouterr().err == "glowkit: stopped\n"


def test_ctrl_c_before_a_command_runs_is_one_line_too(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        app(["claims"])
    assert ended.value.code == 130 and capsys.readouterr().err == "glowkit: stopped\n"
