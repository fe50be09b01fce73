"""The page of the API: what has to be in place before the library is imported for it."""

import os
import subprocess
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parents[2] / "book"


def test_the_library_is_imported_whatever_backend_the_reader_has_chosen():
    code = "from unittest.mock import Mock; import docstrings; docstrings.setup(Mock()); import matplotlib.pyplot"
    environment = os.environ | {"MPLBACKEND": "none such", "PYTHONPATH": str(BOOK)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
