"""A dataset on Kaggle as a source: each version lands once, completely or not at all. No JVM."""

from __future__ import annotations

import io
import json
import random
import stat
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
import stamina
from servers import kaggle as servers
from servers.kaggle import DATASET, KEY, SIGNATURE, TOKEN, USER, Answer, Kaggle, kaggle, zip_files

from lakehouse import retry
from lakehouse.config import Pipeline, load
from lakehouse.errors import ConfigError, DataRefused, ExitCode, InfrastructureError, LakehouseError
from lakehouse.extract import extract_table, open_source, peek
from lakehouse.extract.kaggle import api, client
from lakehouse.runner import context, stages, up_to_date
from lakehouse.storage import file_io, landing
from lakehouse.storage.paths import Lake, snapshot_name

if sys.version_info < (3, 11):  # not if the client is missing: then these tests fail
    pytest.skip("Kaggle's client is there for Python 3.11 and later", allow_module_level=True)

REPOSITORY = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FIRST, SECOND = "20251003_170552", "20251004_095645"
TIMES = {FIRST: "2025-10-03T17:05:52.513Z", SECOND: "2025-10-04T09:56:45.120Z"}
TABLE = {"format": "csv", "schema": "id STRING", "keys": ["id"]}
FILES = {"clientes.csv": b"id\n1\n", "2025/produtos_a.csv": b"id\n2\n", "2025/produtos_b.csv": b"id\n3\n"}
SECRETS = (KEY, TOKEN, SIGNATURE)


class Shop:
    """A pipeline over the dataset, the lake it lands in, and a server in place of Kaggle."""

    def __init__(self, folder: Path, server: Kaggle) -> None:
        self.folder, self.server, self.lake = folder, server, Lake(str(folder / "lake"))
        self.tables = {
            "clientes": TABLE | {"file": "clientes.csv"},
            "produtos": TABLE | {"file": "2025/produtos_*.csv"},
        }
        self.dataset = DATASET

    @property
    def pipeline(self) -> Pipeline:
        file = self.folder / "pipeline.json"
        source = {"type": "kaggle", "dataset": self.dataset}
        document = {"name": "shop", "lake": self.lake.root, "source": source, "tables": self.tables}
        file.write_text(json.dumps(document))
        return load(file)

    def extract(self) -> dict[str, list[str]]:
        """The snapshots landed now, by table."""
        with open_source(self.pipeline, self.lake, self.tables) as source:
            done = [extract_table(source, table, NOW, None) for table in self.tables]
        return {one.table: [snapshot_name(time) for time in one.landed_times] for one in done}

    @property
    def landed(self) -> dict[str, dict[str, bytes]]:
        """Table/snapshot -> file -> bytes."""
        found = [s for table in self.tables for s in landing.list_snapshots(self.lake, table)]
        return {
            f"{s.table}/{s.folder.name}": {f.name: p.read_bytes() for f, p in zip(s.files, s.paths, strict=True)}
            for s in found
        }

    @property
    def left_behind(self) -> list[str]:
        """Files in the lake that have not landed."""
        lake = Path(self.lake.root)
        paths = (p for p in lake.rglob("*") if p.is_file()) if lake.exists() else ()
        return [p.relative_to(lake).as_posix() for p in paths if p.relative_to(lake).parts[0] != "landing"]


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    """Retries without waits."""
    with stamina.set_testing(True, attempts=retry.ATTEMPTS):
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without credentials, also the working directory; no proxy except the test's."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def shop(tmp_path: Path, clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with kaggle() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.publish(FILES, TIMES[FIRST])
        yield Shop(tmp_path, server)


def big(seed: int = 1) -> bytes:
    """A file that zip cannot compress: half a megabyte, eight chunks of a download."""
    return random.Random(seed).randbytes(1 << 19)


def failing(shop: Shop, kind: type[LakehouseError]) -> LakehouseError:
    """The error of an extraction that landed nothing; the error contains no secret."""
    with pytest.raises(kind) as error:
        shop.extract()
    assert shop.landed == {}
    text = repr(error.value) + error.value.to_text() + repr(error.value.__dict__)
    assert not [secret for secret in SECRETS if secret in text]
    return error.value


# Versions


def test_a_version_lands_for_every_table_with_the_time_of_its_publication(shop: Shop) -> None:
    assert shop.extract() == {"clientes": [FIRST], "produtos": [FIRST]}

    assert shop.landed == {
        f"clientes/{FIRST}": {"clientes.csv": FILES["clientes.csv"]},
        f"produtos/{FIRST}": {name: FILES[name] for name in ("2025/produtos_a.csv", "2025/produtos_b.csv")},
    }
    assert shop.server.routes == ["GetDataset", "DownloadDataset", "archive"]  # once, for both tables
    assert shop.left_behind == []


def test_a_version_that_has_landed_is_not_downloaded_again(shop: Shop) -> None:
    shop.extract()
    shop.server.requests.clear()

    assert shop.extract() == {"clientes": [], "produtos": []}
    assert shop.server.routes == ["GetDataset"]


def test_a_version_lands_once_in_a_lake_on_s3_too(
    shop: Shop,
    moto: str,
    new_bucket: Callable[[str], str],
    aws: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aws(moto)
    monkeypatch.setenv("no_proxy", moto.removeprefix("http://"))  # Kaggle is reached through one
    shop.lake = Lake(f"s3a://{new_bucket(moto)}/shop")
    assert shop.extract() == {"clientes": [FIRST], "produtos": [FIRST]}
    assert shop.landed[f"produtos/{FIRST}"] == {n: c for n, c in FILES.items() if n != "clientes.csv"}
    shop.server.requests.clear()
    assert shop.extract() == {"clientes": [], "produtos": []}
    assert shop.server.routes == ["GetDataset"]
    assert {name.partition("/")[0] for name in file_io.file_sizes(shop.lake.path())} == {"landing"}
    here = [path for kind in ("extract", "kaggle") for path in shop.lake.local_path(kind).iterdir()]
    assert here == [], "no file stays on this machine"


def test_a_new_version_lands_beside_the_old_one(shop: Shop) -> None:
    shop.extract()
    shop.server.publish(FILES | {"clientes.csv": b"id\n1\n2\n"}, TIMES[SECOND])

    assert shop.extract() == {"clientes": [SECOND], "produtos": [SECOND]}
    assert [files["clientes.csv"] for key, files in shop.landed.items() if "clientes" in key] == [
        b"id\n1\n",
        b"id\n1\n2\n",
    ]
    assert shop.server.requests[-2][2]["datasetVersionNumber"] == 2  # even if another is published meanwhile


def test_a_table_that_was_added_gets_the_version_that_the_others_have(shop: Shop) -> None:
    shop.extract()
    shop.tables["todos"] = TABLE | {"file": "**/*.csv"}

    assert shop.extract() == {"clientes": [], "produtos": [], "todos": [FIRST]}


def test_a_version_without_the_tables_file_lands_as_a_snapshot_without_files(shop: Shop) -> None:
    shop.server.publish({"clientes.csv": b"id\n1\n"}, TIMES[SECOND])

    shop.extract()

    assert shop.landed[f"produtos/{SECOND}"] == {}


def test_packed_files_in_the_archive_stay_packed(shop: Shop) -> None:
    shop.tables = {"clientes": TABLE | {"file": "clientes.csv.gz"}}
    shop.server.publish({"clientes.csv.gz": b"\x1f\x8b packed"}, TIMES[SECOND])

    shop.extract()

    assert shop.landed == {f"clientes/{SECOND}": {"clientes.csv.gz": b"\x1f\x8b packed"}}


def test_the_lake_is_up_to_date_until_a_version_is_published(shop: Shop) -> None:
    up_to_date.write_mark(shop.lake, up_to_date.read_inputs(shop.pipeline, shop.lake), shop.pipeline)
    assert up_to_date.is_up_to_date(shop.pipeline, shop.lake)

    shop.server.publish(FILES, TIMES[SECOND])  # the same bytes, as another version

    assert not up_to_date.is_up_to_date(shop.pipeline, shop.lake)
    assert set(shop.server.routes) == {"GetDataset"}


def test_a_failure_of_kaggle_at_the_end_of_a_run_prevents_the_mark_but_not_the_run(shop: Shop) -> None:
    before = up_to_date.read_inputs(shop.pipeline, shop.lake)
    shop.server.faults["GetDataset"] = [Answer(503)] * retry.ATTEMPTS

    up_to_date.write_mark(shop.lake, before, shop.pipeline)

    assert not up_to_date.is_up_to_date(shop.pipeline, shop.lake)


def test_peek_downloads_the_newest_version_and_lands_nothing(shop: Shop) -> None:
    with open_source(shop.pipeline, shop.lake, shop.tables) as source:
        found, warning = peek(source, "clientes", NOW)
        assert [path.read_bytes() for path in found.paths] == [FILES["clientes.csv"]]
    assert (snapshot_name(found.time), warning, shop.landed, shop.left_behind) == (FIRST, "", {}, [])

    shop.extract()
    shop.server.requests.clear()
    with open_source(shop.pipeline, shop.lake, shop.tables) as source:
        assert peek(source, "clientes", NOW)[0].folder == shop.lake.landing_path("clientes") / FIRST
    assert shop.server.routes == ["GetDataset"]


def test_the_loyalty_pipeline_on_kaggle_differs_from_the_one_on_files_in_source_and_lake_alone() -> None:
    on_files, on_kaggle = load(REPOSITORY / "conf" / "loyalty", {}), load(REPOSITORY / "conf/loyalty/kaggle.yml", {})

    differing = {"source", "lake"}
    assert on_kaggle.model_dump(exclude=differing) == on_files.model_dump(exclude=differing)
    assert on_kaggle.source.type == "kaggle"
    assert on_kaggle.lake != on_files.lake


# Errors that are not retried


@pytest.mark.parametrize(
    ("route", "status", "words"),
    [
        ("GetDataset", 401, "new token"),
        ("GetDataset", 403, "source.dataset"),
        ("GetDataset", 404, "source.dataset"),
        ("DownloadDataset", 403, "terms"),
        ("archive", 403, "terms"),
    ],
)
def test_a_rejected_request_is_reported_at_once_and_not_retried(
    shop: Shop, route: str, status: int, words: str
) -> None:
    shop.server.faults[route] = [Answer(status)]

    error = failing(shop, ConfigError)

    assert error.exit_code == ExitCode.USAGE
    assert str(status) in error.found
    assert DATASET in error.where
    assert words in error.next_step
    assert shop.server.routes.count(route) == 1


def test_an_error_in_an_answer_with_status_200_is_reported(shop: Shop) -> None:
    shop.server.faults["GetDataset"] = [Answer(200, body=b'{"code": 404, "message": "no such dataset"}')]

    assert failing(shop, ConfigError).found == "Kaggle answers 404: no such dataset"


def test_wrong_credentials_are_reported_without_their_values(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", KEY + "-of-yesterday")
    monkeypatch.setenv("VERBOSE", "1")  # makes Kaggle's command line print its requests

    assert "401" in failing(shop, ConfigError).found
    assert KEY not in "".join(capfd.readouterr())


def test_a_missing_dataset_is_reported(shop: Shop) -> None:
    shop.dataset = "teocalvo/misspelled"

    error = failing(shop, ConfigError)

    assert "403: Permission 'datasets.get' was denied" in error.found
    assert "teocalvo/misspelled" in error.where


def test_a_key_that_cannot_be_sent_is_reported_without_its_value(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", f"{TOKEN}\nX-Injected: yes")

    assert "characters that cannot be sent" in failing(shop, ConfigError).found


# Credentials


def test_without_credentials_nothing_is_requested_and_all_places_are_listed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")

    error = failing(shop, ConfigError)

    assert all(way in error.expected for way in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", ".env", "kaggle.json"))
    assert shop.server.requests == []


def test_without_kaggles_client_the_package_to_install_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kagglesdk"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kagglesdk", None)

    assert "pip install 'lakehouse[kaggle]'" in failing(shop, ConfigError).next_step


BY_FILE = {
    ".env": f"KAGGLE_USERNAME={USER}\nKAGGLE_KEY={KEY}\n",
    ".env with a token": f"KAGGLE_API_TOKEN={TOKEN}\n",
    ".kaggle/kaggle.json": json.dumps({"username": USER, "key": KEY}),
    ".config/kaggle/kaggle.json": json.dumps({"username": USER, "key": KEY}),
    ".kaggle/access_token": f"{TOKEN}\n",
    ".kaggle/credentials.json": json.dumps(
        {"refresh_token": "r", "access_token": TOKEN, "access_token_expiration": "2999-01-01T00:00:00+00:00"}
    ),
}


@pytest.mark.parametrize("file", BY_FILE)
def test_credentials_come_from_a_file(
    shop: Shop, clean_environment: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    path = clean_environment / file.partition(" ")[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BY_FILE[file])

    assert shop.extract()["clientes"] == [FIRST]


def test_a_token_in_the_environment_takes_precedence_over_a_key(
    shop: Shop, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "another")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert shop.extract()["clientes"] == [FIRST]

    (clean_environment / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(clean_environment / "token"))
    assert shop.extract()["clientes"] == []


def test_no_credentials_are_sent_to_the_object_store(shop: Shop) -> None:
    shop.server.publish(FILES | {"more.bin": big()}, TIMES[SECOND])
    shop.server.cuts = [200_000]
    shop.extract()

    to_the_store = [headers for route, headers, _ in shop.server.requests if route == "archive"]
    assert len(to_the_store) == 3
    assert not [headers for headers in to_the_store if "Authorization" in headers]


# Errors that are retried


def test_the_wait_after_too_many_requests_is_the_one_that_kaggle_requests(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.server.faults["GetDataset"] = [Answer(429, {"Retry-After": "2"})]
    began = time.monotonic()

    with stamina.set_testing(False):
        assert shop.extract()["clientes"] == [FIRST]

    assert 2 <= time.monotonic() - began < 6
    captured = capsys.readouterr()
    assert "429" in captured.err
    assert "in 2.0 s" in captured.err
    assert captured.out == ""


def test_a_requested_wait_of_hours_is_an_error(shop: Shop) -> None:
    shop.server.faults["GetDataset"] = [Answer(429, {"Retry-After": "86400"})]

    error = failing(shop, InfrastructureError)

    assert error.exit_code == ExitCode.INFRASTRUCTURE
    assert shop.server.routes == ["GetDataset"]


@pytest.mark.parametrize("route", ["GetDataset", "DownloadDataset", "archive"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_is_retried(shop: Shop, route: str, status: int) -> None:
    shop.server.faults[route] = [Answer(status)] * 3

    assert shop.extract()["clientes"] == [FIRST]
    assert shop.server.routes.count(route) == 4


def test_retries_end_after_a_few_attempts(shop: Shop) -> None:
    shop.server.faults["archive"] = [Answer(502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>")] * 100

    error = failing(shop, InfrastructureError)

    assert error.exit_code == ExitCode.INFRASTRUCTURE
    assert "502" in error.found
    assert shop.server.routes.count("archive") == retry.ATTEMPTS


def test_a_failed_download_is_not_repeated_for_every_table(shop: Shop) -> None:
    shop.server.faults["archive"] = [Answer(500)] * 100
    with open_source(shop.pipeline, shop.lake, shop.tables) as source:
        for table in shop.tables:
            with pytest.raises(InfrastructureError):
                extract_table(source, table, NOW, None)

    assert shop.server.routes.count("archive") == retry.ATTEMPTS


def test_unreadable_answers_are_retried(shop: Shop) -> None:
    shop.server.faults["GetDataset"] = [
        Answer(200, {"Content-Type": "text/html"}, b"<html>sign in to the hotel's network</html>"),
        Answer(502, {"Content-Type": "application/json"}, b"<html>bad gateway</html>"),
        Answer(200, body=b"{}"),
    ]

    assert shop.extract()["clientes"] == [FIRST]


@pytest.mark.parametrize("store", ["http://storage.test:port", "https://127.0.0.1:1"])
def test_a_signed_url_that_cannot_be_reached_is_not_shown(shop: Shop, store: str) -> None:
    nowhere = {"Location": f"{store}/archives/1?X-Goog-Signature={SIGNATURE}"}
    shop.server.faults["DownloadDataset"] = [Answer(302, nowhere, b"")] * 100

    failing(shop, InfrastructureError)


def test_a_failed_connection_to_kaggle_is_retried(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert "connection to Kaggle failed" in failing(shop, InfrastructureError).found


def test_a_server_that_stops_answering_times_out(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUTS", (0.2, 0.2))
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    shop.server.stalls = threading.Event()
    try:
        with stamina.set_testing(True, attempts=2):
            assert "Timeout" in failing(shop, InfrastructureError).found
    finally:
        shop.server.stalls.set()


# Interrupted downloads


def test_an_interrupted_download_continues_where_it_stopped(shop: Shop) -> None:
    shop.server.publish(FILES | {"more.bin": big()}, TIMES[SECOND])
    shop.server.cuts = [200_000, 10**9, 100_000]  # only the headers of the second answer are read

    assert shop.extract()["clientes"] == [SECOND]
    ranges = [headers.get("Range") for route, headers, _ in shop.server.requests if route == "archive"]
    assert ranges == [None, None, "bytes=196608-", None, "bytes=262144-"]


def test_a_download_without_an_object_store_continues_too(shop: Shop) -> None:
    shop.server.publish(FILES | {"more.bin": big()}, TIMES[SECOND])
    shop.server.cuts, shop.server.has_redirects = [200_000], False

    assert shop.extract()["clientes"] == [SECOND]
    assert shop.server.routes == ["GetDataset"] + ["DownloadDataset"] * 3
    assert shop.server.requests[-1][1]["Range"] == "bytes=196608-"


def test_a_download_starts_over_if_the_server_sends_no_parts(shop: Shop) -> None:
    shop.server.publish(FILES | {"more.bin": big()}, TIMES[SECOND])
    shop.server.cuts, shop.server.has_ranges = [200_000], False

    assert shop.extract()["clientes"] == [SECOND]
    assert shop.landed[f"clientes/{SECOND}"] == {"clientes.csv": FILES["clientes.csv"]}
    assert shop.server.routes.count("archive") == 3  # interrupted, headers only, complete


def test_the_next_run_continues_an_interrupted_download(shop: Shop) -> None:
    shop.server.publish(FILES | {"more.bin": big()}, TIMES[SECOND])
    shop.server.cuts = [200_000] + [0] * 20
    failing(shop, InfrastructureError)
    assert len(shop.left_behind) == 1
    shop.server.cuts.clear()
    shop.server.requests.clear()

    assert shop.extract()["clientes"] == [SECOND]
    assert shop.server.requests[-1][1]["Range"] == "bytes=196608-"
    assert shop.left_behind == []


def test_a_part_of_an_older_version_is_not_continued(shop: Shop) -> None:
    shop.server.publish(FILES | {"more.bin": big(1)}, TIMES[SECOND])
    shop.server.cuts = [200_000] + [0] * 20
    failing(shop, InfrastructureError)
    shop.server.cuts.clear()
    shop.server.publish(FILES | {"more.bin": big(2)}, "2025-10-05T00:00:00Z")
    shop.server.requests.clear()

    assert shop.extract()["clientes"] == ["20251005_000000"]
    assert shop.server.routes == ["GetDataset", "DownloadDataset", "archive"]
    assert shop.left_behind == []


def test_an_incomplete_download_of_unknown_length_is_detected_and_retried(shop: Shop) -> None:
    shop.server.cuts, shop.server.has_sizes = [100], False

    assert shop.extract()["clientes"] == [FIRST]
    assert shop.server.routes.count("archive") == 2


def test_corrupted_bytes_are_detected_and_downloaded_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = servers._Handler._stream

    def corrupted(self: servers._Handler, status: int, headers: dict[str, str], content: bytes) -> None:
        monkeypatch.setattr(servers._Handler, "_stream", sent)
        sent(self, status, headers, content.replace(b"clientes.csv", b"clientes.CSV"))

    monkeypatch.setattr(servers._Handler, "_stream", corrupted)

    assert shop.extract()["clientes"] == [FIRST]
    assert shop.server.routes.count("archive") == 2


def test_a_progress_bar_is_shown_only_on_a_terminal(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shop.server.publish(FILES | {"more.bin": big()}, TIMES[SECOND])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    for screen in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", screen)
        api.download(DATASET, api.newest_version(DATASET), shop.folder / "home")
        shown = screen.getvalue()
        assert ("524.9/524.9 kB" in shown) == screen.isatty(), shown
        assert (f"{DATASET}, version 2" in shown) == screen.isatty()


# Malicious archives


def hostile(kind: str) -> bytes:
    link = zipfile.ZipInfo("clientes.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "a name that leads out":
            archive.writestr("../../../evil.csv", b"id\n1\n")
        elif kind == "an absolute name":
            archive.writestr("/tmp/evil.csv", b"id\n1\n")
        elif kind == "a link":
            archive.writestr(link, "/etc/passwd")
        else:
            with archive.open("clientes.csv", "w") as bomb:
                for _ in range(210):
                    bomb.write(bytes(1 << 20))
        archive.writestr("produtos.csv", b"id\n1\n")
    return data.getvalue()


@pytest.mark.parametrize("kind", ["a name that leads out", "an absolute name", "a link", "a bomb"])
def test_a_malicious_archive_is_rejected_and_not_downloaded_twice(shop: Shop, kind: str) -> None:
    shop.server.publish(hostile(kind), TIMES[SECOND])
    before = sorted(p for p in shop.folder.rglob("*") if shop.folder / "lake" not in p.parents)

    error = failing(shop, DataRefused)

    assert error.exit_code == ExitCode.REFUSED
    assert "version 2" in error.found
    assert DATASET in error.where
    assert shop.left_behind == []
    after = sorted(p for p in shop.folder.rglob("*") if shop.folder / "lake" not in p.parents)
    assert [p for p in after if p.name not in ("lake", "pipeline.json")] == [p for p in before if p.name != "lake"]
    assert shop.server.routes.count("archive") == 1


@pytest.mark.parametrize("length_is_known", [True, False])
@pytest.mark.parametrize("limit", ["archive", "disk"])
def test_an_archive_beyond_the_limit_is_refused_and_nothing_of_it_stays(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, length_is_known: bool, limit: str
) -> None:
    shop.server.publish(zip_files({"clientes.csv": big()}), TIMES[SECOND])
    if not length_is_known:
        monkeypatch.setattr(api._ArchiveInfo, "from_response", lambda answer: api._ArchiveInfo("", None, ""))
    if limit == "archive":
        monkeypatch.setattr(api, "MAX_ARCHIVE_BYTES", 1 << 17)
    else:
        monkeypatch.setattr(api.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 17))

    error = failing(shop, DataRefused)

    assert "the archive has" in error.found
    assert shop.left_behind == []
    assert shop.server.routes.count("archive") == 1


def test_a_rejected_archive_fails_every_table(shop: Shop) -> None:
    shop.server.publish(hostile("a link"), TIMES[SECOND])
    opened_run = context.open_run(_written(shop))

    report = stages.run_stages(opened_run, ("extract",))

    assert report.code == ExitCode.REFUSED
    assert {(o.name, o.status) for o in report.outcomes} == {("clientes", "failed"), ("produtos", "failed")}


def test_a_zip_damaged_at_its_source_is_rejected(shop: Shop) -> None:
    archive = bytearray(zip_files({"clientes.csv": big()}))
    archive[1000:1010] = b"damaged!!!"
    shop.server.publish(bytes(archive), TIMES[SECOND])

    assert "damaged" in failing(shop, DataRefused).found


def _written(shop: Shop) -> Path:
    return shop.pipeline.path
