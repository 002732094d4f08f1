"""Which versions of Java are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.errors import ConfigError, ExitCode
from lakehouse.spark.java import java_version, require_safe_java


@pytest.mark.parametrize("version", ["25", "25-ea", "25.0.1", "25.0.2", "25.0.2+10-LTS", "24.0.1", "22"])
def test_a_java_that_damages_files_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=rf"Java {version.replace('+', '.')} can damage") as refused:
        require_safe_java(version)
    assert refused.value.exit_code == ExitCode.USAGE
    assert "25.0.3" in refused.value.expected


@pytest.mark.parametrize("version", ["17.0.15", "17", "21.0.9", "25.0.3", "25.0.3.1", "25.0.10", "25.1", "26.0.1"])
def test_other_versions_are_accepted(version: str) -> None:
    require_safe_java(version)


def test_the_version_of_a_java_is_read_from_its_release_file(tmp_path: Path) -> None:
    assert java_version(tmp_path) == ()
    (tmp_path / "release").write_text('IMPLEMENTOR="Debian"\nJAVA_VERSION="25.0.3"\nJAVA_VERSION_DATE="2026-04-21"\n')
    assert java_version(tmp_path) == (25, 0, 3)
