"""SHA-256 of names, without what `hashlib` brings along."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.model.digests import sha256_hex


@given(st.binary(max_size=300))
def test_it_is_what_everybody_else_calls_sha256(data: bytes) -> None:
    """The owner in a framework's id has to be the same after an upgrade."""
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("role", ["master", "agent", "framework"])
def test_no_daemon_loads_openssl_or_every_kind_of_compression(role: str) -> None:
    """Together they are a tenth of what one occupies at rest."""
    heavy = ("_hashlib", "_ssl", "_lzma", "_bz2")
    code = f"import sys, mesosctl.runtime.{role}_process; print(sys.modules.keys() & {set(heavy)})"
    # Whoever measures coverage in that process loads them for itself.
    plain = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    assert done.stdout.strip() == "set()"
