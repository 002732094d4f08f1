"""Which versions of Java are refused."""

from __future__ import annotations

import pytest

from lakehouse.errors import ConfigError, ExitCode
from lakehouse.spark.java import require_safe_java


@pytest.mark.parametrize("version", ["25", "25-ea", "25.0.1", "25.0.2", "25.0.2+10-LTS", "24.0.1", "22"])
def test_a_java_that_damages_files_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=rf"Java {version.replace('+', '.')} can damage") as refused:
        require_safe_java(version)
    assert refused.value.exit_code == ExitCode.USAGE
    assert "25.0.3" in refused.value.expected


@pytest.mark.parametrize("version", ["17.0.15", "17", "21.0.9", "25.0.3", "25.0.3.1", "25.0.10", "25.1", "26.0.1"])
def test_other_versions_are_accepted(version: str) -> None:
    require_safe_java(version)
