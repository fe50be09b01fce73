"""What is bundled is found from any folder, and a config of one's own comes first."""

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
