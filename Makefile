# Everything runs from .venv, which is created when it is needed. For another Python: make PYTHON=python3.12
PYTHON ?= python3
# Test files that run in parallel, each worker with a Spark of its own (3 GB): make test WORKERS=4
WORKERS ?= 2
# Random models that make test-random draws: 1000 take hours
MODELS ?= 100
# Sequences of snapshots, kills and damage that it draws
SEQUENCES ?= 20
# How long fuzz draws pipelines
MINUTES ?= 60

VENV := .venv
BIN  := $(VENV)/bin
# A dead worker ends the run at once: xdist may wait forever for its replacement. Files run in the order of their names,
# the long ones of tests/lake before tests/spark: otherwise files with few tests, which are long, would start last.
TEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
BESIDE = $(MAKE) --no-print-directory
# Marks of what .venv has: DEMO, what the demo runs (the package and its report); ENV, the tools of development too.
DEMO := $(VENV)/.ready
ENV  := $(VENV)/.ready-dev

# Use the Spark in .venv, whatever Spark this machine is configured for.
unexport SPARK_HOME
unexport SPARK_CONF_DIR

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo demo-tesouro test test-fast test-systems test-live test-random fuzz crash lint fmt bench dist docs evidence lock lock-airflow lock-jars lock-connect-jars audit clean distclean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(DEMO) ## Create .venv with the package and what its report needs, from lock files with hashes

demo: $(DEMO) ## Run the loyalty pipeline on its sample data, from snapshots to cubes and a report
	@$(BIN)/python samples/demo.py loyalty

demo-tesouro: $(DEMO) ## Run the second pipeline: bond prices, from messy JSON and CSV
	@$(BIN)/python samples/demo.py tesouro

# Lint and the tests without a JVM run beside the tests with one, and print all at once when they end.
test: $(ENV) ## Lint, and run every test but those of whole systems and servers: before you push
	@log=$$(mktemp) && { $(BESIDE) lint test-fast >"$$log" 2>&1; code=$$?; \
		printf '\n%s\n' "$$(cat "$$log")"; rm -f "$$log"; exit $$code; } & beside=$$!; \
	trap 'kill $$beside' INT TERM; \
	$(TEST) tests/lake tests/spark -m "not no_jvm"; code=$$?; \
	wait $$beside || { code=$$?; echo "make test: lint or test-fast failed, see its output above" >&2; }; exit $$code

test-systems: $(ENV) ## Run the tests of whole systems: both pipelines, other sources, the report, secrets, every kill
	$(TEST) tests/systems

test-live: $(ENV) ## Run the tests against real servers, which they start: S3, PostgreSQL, Kafka, a Spark cluster
	@for tool in mvn "$${JAVA_HOME:+$$JAVA_HOME/bin/}javac"; do command -v "$$tool" >/dev/null || { \
		echo "$$tool is missing, and two of the servers are built with it: install Maven and a JDK 17 or later (Debian: maven, openjdk-17-jdk-headless)" >&2; \
		exit 2; }; done
	$(TEST) tests/live

test-fast: $(ENV) ## Run the tests that start no JVM: while you write
	$(TEST) tests/unit
	$(BIN)/pytest tests/spark -m no_jvm

# For the same draws of snapshots again: make test-random SEED=... Hypothesis prints how to repeat a model.
test-random: SEED := $(shell date +%s)
test-random: $(ENV) ## Draw random models and snapshots, other ones each time
	@echo "SEED=$(SEED) MODELS=$(MODELS) SEQUENCES=$(SEQUENCES)"
	LAKEHOUSE_SEED=$(SEED) LAKEHOUSE_MODELS=$(MODELS) LAKEHOUSE_SEQUENCES=$(SEQUENCES) LAKEHOUSE_DELTA_MODELS=$$(( ($(MODELS) + 15) / 16 )) $(TEST) --timeout 0 \
		tests/lake/ingest/test_law.py tests/systems/test_law.py tests/systems/test_backlog.py tests/systems/test_grace.py tests/systems/test_slices.py \
		tests/systems/test_state_machine.py tests/lake/ingest/local/test_local_compare.py tests/spark/ingest/local/test_sql_casts.py \
		tests/spark/ingest/local/test_grace_in_driver.py tests/spark/ingest/local/test_slices_in_driver.py tests/spark/ingest/local/test_json_file.py \
		tests/spark/lake/test_marked_merge.py tests/spark/lake/test_small_tables.py tests/spark/models/sql/test_spark_functions.py \
		tests/lake/models/test_models.py tests/spark/models/test_incremental.py -k "any_model or any_sequence or random or gives_the_snapshot or gives_the_lake or driver_and or list_of_functions or plain_model or the_model or read_the_same"

# The same cases again: make fuzz SEED=... One that was kept: make fuzz CASE=artifacts/fuzz/...
fuzz: SEED := $(shell date +%s)
fuzz: $(ENV) ## Draw pipelines, with odd files and models, and run them, for MINUTES; and archives, names, headers, documents
	$(if $(CASE),,LAKEHOUSE_DRAWS=$$(( $(MINUTES) * 2 )) $(BIN)/pytest -q --timeout 0 --hypothesis-seed=$(SEED) tests/unit/test_limits.py)
	PYTHONPATH=tests:tests/lake $(BIN)/python -m fuzz --seed $(SEED) --minutes $(MINUTES) $(if $(CASE),--case $(CASE))

# The same choice again: make crash SEED=... One case: make crash POINT=run/after_merge@gold/notes:1
crash: SEED := 1
crash: $(ENV) ## Break commands off at every failpoint, in two processes, and compare the lakes; kills among them
	PYTHONPATH=tests:tests/lake $(BIN)/python -m crash --seed $(SEED) $(if $(POINT),--point '$(POINT)',--out docs/evidence/crash.md)

lint: $(ENV) ## Check style, formatting, types and import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(ENV) ## Format the code and fix what can be fixed automatically
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(ENV) ## Measure both pipelines, a diff and a cube of 1 M rows, and storage (takes long)
	$(BIN)/python bench/loyalty.py --rounds 1
	$(BIN)/python bench/on_s3.py --rounds 1
	$(BIN)/python bench/changes.py --rows 1000000 --shares 0.01 --rounds 1
	$(BIN)/python bench/sizes.py
	$(BIN)/python bench/tables.py
	$(BIN)/python bench/runs.py
	$(BIN)/python bench/backlog.py
	$(BIN)/python bench/models.py --rows 1000000
	$(BIN)/python bench/storage.py --rows 1000000
	$(BIN)/python bench/publish.py
	$(BIN)/python bench/look.py
	$(BIN)/python bench/feeds.py
	$(BIN)/python bench/tesouro.py --batches 1

# spark-submit accepts a zip but no wheel, although a wheel is a zip.
dist: $(ENV) ## Build the wheel, and the same as a zip for spark-submit --py-files
	@rm -rf dist build
	@$(BIN)/pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .
	@for wheel in dist/*.whl; do cp "$$wheel" "$${wheel%-py3-none-any.whl}.zip"; done
	@rm -rf build
	@ls -l dist

docs: $(ENV) ## Write the pages, the JSON Schema and the notebook that come from the code and the tutorial
	$(BIN)/python -m lakehouse.config > conf/pipeline.schema.json
	$(BIN)/python docs/reference/generate.py
	$(BIN)/python docs/tutorial_notebook.py
	$(BIN)/python bench/learned_guard.py --out docs/evidence/learned-guard.md

evidence: $(ENV) ## Run both systems under a real Airflow, and write the results to docs/evidence
	$(BIN)/python deploy/evidence

# Every file has the hashes of its packages, which the installations check. The small ones are parts of the first, each for
# one extra of setup.py, and have the same versions. uv is installed in a temporary folder: .venv is created from the result.
# `make lock UPGRADE=` keeps the versions that still fit.
UPGRADE ?= --upgrade
EXTRAS := bench kafka kaggle postgres report s3
COMPILE = "$$tools/bin/uv" pip compile -q --custom-compile-command 'make $@' --universal --python-version 3.10 --generate-hashes
WITH_UV = tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && $(PYTHON) -m venv "$$tools" && "$$tools/bin/pip" install -q uv

lock: ## Resolve the version ranges of setup.py into requirements.lock and locks/
	@echo "resolving setup.py into requirements.lock and locks/"
	@$(WITH_UV) && \
	$(COMPILE) $(UPGRADE) setup.py --extra dev $(EXTRAS:%=--extra %) --output-file requirements.lock && \
	echo '$(shell sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml)' | $(COMPILE) $(UPGRADE) - --output-file locks/build.lock && \
	for extra in $(EXTRAS); do \
		$(COMPILE) --upgrade setup.py -c requirements.lock --extra $$extra --output-file locks/$$extra.lock || exit; \
	done

lock-airflow: ## Do the same for Airflow, which has an environment of its own
	@$(WITH_UV) && \
	$(COMPILE) $(UPGRADE) deploy/airflow/requirements.in --output-file deploy/airflow/requirements.lock

# Two Sparks download everything to a temporary folder.
lock-jars: $(DEMO) ## Write the SHA-256 of the jars of Spark's packages
	$(BIN)/python -m lakehouse.spark.jars

# From a new download, without the files that Maven has on this machine.
lock-connect-jars: $(DEMO) ## Write the SHA-256 of the jars of Kafka, Debezium and s3proxy
	$(BIN)/python deploy/connect/jar_lists.py

# PyPI's list of vulnerabilities, for the versions that this Python installs. A package that the list does not answer
# for is a failure, too: the check has not been done.
audit: ## Ask PyPI for known vulnerabilities of the locked versions
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && $(PYTHON) -m venv "$$tools" && \
	"$$tools/bin/pip" install -q pip-audit && \
	for lock in requirements.lock locks/build.lock deploy/airflow/requirements.lock; do \
		echo "$$lock"; \
		"$$tools/bin/pip-audit" --strict --disable-pip --require-hashes --progress-spinner off -r $$lock || failed=1; \
	done; exit $${failed:-0}

clean: ## Remove caches, build artefacts and the local lake
	rm -rf lake spark-warehouse metastore_db derby.log artifacts build dist *.egg-info
	rm -rf deploy/connect/target deploy/connect/*/target
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage htmlcov
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Do the same, and remove .venv
	rm -rf $(VENV) $(VENV)-airflow*

# --- the environment -------------------------------------------------------------------------------------

# pip's spark-submit asks the first python3 on the PATH for Spark's folder, and runs the job with that Python. Unless
# .venv is activated, that Python has no Spark. This script replaces the one that asks, and names .venv's Python.
define FIND_SPARK_HOME
#!/bin/sh
# Written by make (see the Makefile), in place of pyspark's: spark-submit works without activating .venv.
here=$$(cd "$$(dirname "$$0")" && pwd)
export PYSPARK_PYTHON="$${PYSPARK_PYTHON:-$$here/python}"
export SPARK_HOME="$${SPARK_HOME:-$$("$$here/python" "$$here/find_spark_home.py")}"
endef
export FIND_SPARK_HOME

# Installs the packages of a lock file, which must have the hashes in it, and then the package itself. The first file has what
# builds those that come as source (pyspark, and the package itself): otherwise pip would download it without a check.
# Nothing is compiled all at once: Python compiles the modules that it imports. With uv if it is there, whose users have
# packages in its cache. It does not read pip's configuration: where it fails, for example because packages come from a
# mirror that only pip knows, pip installs.
define INSTALL_WITH
$(1) --require-hashes -r locks/build.lock && $(1) --no-build-isolation --require-hashes -r $(2) && \
	$(1) --no-build-isolation --no-deps -e .
endef
define INSTALL
{ command -v uv >/dev/null && $(call INSTALL_WITH,uv pip install -q --python $(BIN)/python,$(1)); } || \
	{ $(call INSTALL_WITH,$(BIN)/pip install -q --no-compile --disable-pip-version-check --use-pep517,$(1)); }
endef

$(DEMO): setup.py locks/build.lock locks/report.lock | conf/spark-defaults.conf
	@found=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null) || found='missing'; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "$(PYTHON) is $$found, Python 3.10 or later is needed: install it, or run make PYTHON=python3.12" >&2; \
		exit 2; }
	@java=$${JAVA_HOME:+$$JAVA_HOME/bin/}java; \
	found=$$("$$java" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p') ; \
	[ "$$(echo "$${found:-0}" | sed 's/[^0-9].*//')" -ge 17 ] || { \
		echo "$$java is $${found:-missing}, Java 17 or later is needed: install a JDK 17 (Debian: openjdk-17-jre-headless), or set JAVA_HOME to one" >&2; \
		exit 2; }; \
	case "$$found" in 2[234]*|25|25[-+]*|25.0.[012]|25.0.[012][-+.]*) \
		echo "$$java is $$found, which can damage the Parquet files that Spark writes (JDK-8377811): update to 25.0.3 or later, or set JAVA_HOME to a JDK 17 or 21" >&2; \
		exit 2; esac
	@echo "creating $(VENV), once: Spark and about 40 packages, a large download"
	@$(PYTHON) -m venv $(VENV)
	@$(call INSTALL,locks/report.lock)
	@# Spark reads its defaults from its own conf folder, and pip's Spark has none. With ours linked there, plain
	@# `spark-submit jobs/run.py`, `pyspark` and a notebook find Delta too, without --packages.
	@conf=$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')/conf && \
	mkdir -p "$$conf" && ln -sf "$(CURDIR)/conf/spark-defaults.conf" "$$conf/spark-defaults.conf"
	@printf '%s\n' "$$FIND_SPARK_HOME" > $(BIN)/find-spark-home
	@touch $@

$(ENV): $(DEMO) requirements.lock
	@echo "adding the tools of development to $(VENV), once"
	@$(call INSTALL,requirements.lock)
	@touch $@
