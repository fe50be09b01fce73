import pytest
from browser import checks


@pytest.fixture(scope="session")
def browser():
    if checks.CHROMIUM is None:
        pytest.skip(checks.MISSING)
    with checks.chromium() as browser:
        yield browser
