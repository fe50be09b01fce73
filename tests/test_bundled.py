"""What is bundled is found from any folder, and a config of one's own comes first."""

import re
import shutil

import pytest

from glowkit import bundled, checkpoint, training
from glowkit.errors import GlowkitError


def test_models_and_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checkpoint.folder_of("faces64") == bundled.root() / "data" / "faces64"
    assert training.read_config("configs/faces64.toml").model == checkpoint.config_of("faces64")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "faces64.toml").write_text("[model]\nwidth = 8\n")
    assert training.read_config("configs/faces64.toml").model.width == 8


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "__file__", str(tmp_path / "glowkit" / "bundled.py"))
    assert bundled.root() == tmp_path
    (tmp_path / "glowkit" / "data").mkdir(parents=True)
    assert bundled.root() == tmp_path / "glowkit"


def test_a_model_here_with_the_name_of_a_bundled_one_is_asked_for_as_such(tmp_path, monkeypatch):
    monkeypatch.chdir(bundled.root() / "data")
    assert checkpoint.folder_of("faces64") == bundled.root() / "data" / "faces64"  # the same, from within
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundled.root() / "data" / "linear64", "faces64", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(GlowkitError, match="give ./faces64 for that"):
        checkpoint.load("faces64")
    assert checkpoint.config_of("./faces64") == checkpoint.config_of("linear64") != checkpoint.config_of("celeba64")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checkpoint.folder_of("~/faces64") == tmp_path / "faces64"
    (tmp_path / "mine.toml").write_text("\ufeff[model]\nwidth = 8\n", encoding="utf-8")  # as Notepad saves it
    assert training.read_config("~/mine.toml").model.width == 8


@pytest.mark.parametrize("encoding, ends", [("utf-8-sig", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")])
def test_a_config_is_read_as_windows_writes_it(tmp_path, encoding, ends):
    text = f'# é{ends}data = "nowhere"{ends}[training]{ends}seed = 7{ends}'
    (tmp_path / "a.toml").write_bytes(text.encode(encoding))
    assert training.read_config(tmp_path / "a.toml").training.seed == 7


@pytest.mark.parametrize(
    "text, says",
    [
        ("a = " + "[" * 5000 + "]" * 5000, "not a TOML file: nested too deep"),
        ("a = " + "{a = " * 3000 + "1" + "}" * 3000, "not a TOML file: nested too deep"),
        (".".join(["a"] * 30_000) + " = 1", "not a TOML file: nested too deep"),
        ("[" + ".".join(["a"] * 30_000) + "]", "not a TOML file: nested too deep"),
        ("# " + "a" * 100_000, "not a TOML file: it has more than 65,536 characters"),
        ("[training]\nseed = " + "9" * 5000, "not a TOML file: Exceeds the limit"),
        ("[training]\nseed = 0x" + "f" * 5000, "training.seed = a number of thousands of digits: it must be a whole"),
        (
            "[training]\nseed = 99999999999",
            "training.seed = 99999999999: it must be a whole number from 0 to 4294967295",
        ),
        ("[training]\nlearning_rate = nan", "training.learning_rate = nan: it must be a number from 1e-12 to 10"),
        ("[training]\nlearning_rate = 1" + "0" * 5000 + ".0", "training.learning_rate = inf: it must be a number"),
        ("model = 3", "model = 3: it must be a table"),
        ("[[model]]", "model = .*: it must be a table"),
        ("model.width = true", "model.width = True: it must be a whole number"),
        ('kind = ["glow"]', "kind = .*: it must be one of glow, ablation"),
        ("é = 1", "not a TOML file: save it as UTF-8"),
    ],
)
def test_what_a_config_cannot_be_is_told_in_a_line(tmp_path, text, says):
    (tmp_path / "a.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(GlowkitError, match=f"^{re.escape(str(tmp_path))}/a.toml: {says}") as error:
        training.read_config(tmp_path / "a.toml")
    assert len(str(error.value)) < 400


def test_a_config_that_is_not_there_says_where_one_is(tmp_path):
    with pytest.raises(GlowkitError) as error:
        training.read_config(tmp_path / "a.toml")
    said = re.search(r"no such file; (.*) is an example of a config$", str(error.value))
    assert training.read_config(said[1]).data == "faces64"
