"""A store on loopback for every test of this folder."""

import pytest

from jaxsrl.stores import keep, lease, objects
from tests.stores.gcs import served


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """An empty bucket; what asks it is impatient, and its copies lie in `tmp_path/cache`."""
    with served() as made:
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", made.url)
        monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
        monkeypatch.setenv("JAXSRL_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(objects, "RETRIES", {"max_retries": 1, "initial_delay": "10ms", "max_delay": "20ms"})
        monkeypatch.setattr(lease, "LEASE", 0.6)
        monkeypatch.setattr(lease, "POLL", 0.02)
        monkeypatch.setattr(keep, "LOOK", 0.02)
        yield made
