"""An error response of S3 becomes the error that says what to do."""

from __future__ import annotations

from lakehouse.errors import ConfigError
from lakehouse.storage.s3.request import response_error


def test_a_refused_object_of_a_request_for_several_names_the_missing_right() -> None:
    error = response_error("DeleteObjects", "s3a://bucket/lake/landing/a.csv", "AccessDenied", 0, "Access Denied")

    assert isinstance(error, ConfigError)
    assert error.expected == "s3:DeleteObject on arn:aws:s3:::bucket/lake/landing/a.csv"
