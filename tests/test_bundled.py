"""What is bundled is found from any folder, and a config of one's own comes first."""

from glowkit import bundled, checkpoint, training


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
