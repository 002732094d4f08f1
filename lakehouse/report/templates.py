"""Loads the templates and files of the folder `page`, which escape all values."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@lru_cache
def jinja_environment() -> Environment:
    """Return the environment of the templates; an unknown name in a template is an error."""
    return Environment(
        loader=PackageLoader("lakehouse.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_file(name: str) -> str:
    """Return the text of a file of the folder `page`.

    Args:
        name: The file's name.
    """
    loader = jinja_environment().loader
    assert loader is not None
    return loader.get_source(jinja_environment(), name)[0].strip()
