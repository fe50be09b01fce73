"""Sphinx extension: buttons for Binder and Colab as soon as `repository: url` in _config.yml says where the book is."""

from sphinx.application import Sphinx
from sphinx.config import Config


def launch(app: Sphinx, config: Config) -> None:
    """config-inited: without a repository there is nowhere to launch from, and the theme does not ask."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", launch, priority=800)
    return {"parallel_read_safe": True}
