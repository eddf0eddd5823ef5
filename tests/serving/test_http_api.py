"""The HTTP API over the wire: recommended, logged, answered, recommended again."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.decisions import read_decision
from serving.decision_log import asked_requests
from serving.errors import StoreUnavailableError
from serving.event_store import EventStore
from serving.http_api import openapi
from serving.model_config import Sampling
from serving.recommend_service import RecommendService, ServiceSettings
from serving.release_layout import ITEMS
from serving.request_log import RequestLog
from serving.server import HttpFront, ModelServer
from serving.sqlite_profiles import SqliteProfiles
from tests.serving.test_profiles import write_release
from tests.serving.toy_release import ITEM_IDS, expected_answer, place

NOW = 1_700_000_000_000
ANA = {
    "user_id": "ana",
    "age": 31.0,
    "history_item_ids": ["i01"],
    "seen_item_ids": ["i00", "i01"],
}
SETTINGS = ServiceSettings(
    event_types={"impression": False, "click": True, "mute": False},
    history_length=3,
    policy="greedy",
)


class Swappable:
    """Stands for a store in a running server: each test puts its own behind it."""

    store = None

    def __getattr__(self, name):
        return getattr(self.store, name)


EVENTS, PROFILES, REQUESTS = Swappable(), Swappable(), Swappable()


@pytest.fixture(scope="module")
def server(good_bundle, tmp_path_factory):
    """A server of a toy release at `NOW`; the tests share it, their stores they do not."""
    folder = tmp_path_factory.mktemp("http")
    profiles = SqliteProfiles(folder / "profiles.db")
    tables = write_release(folder / "release", 3, [ANA], as_of=NOW - 1000)
    titles = {"item_id": ITEM_IDS, "title": [f"<b>{item}</b>" for item in ITEM_IDS]}
    pq.write_table(pa.table(titles), tables.directory / ITEMS)
    profiles.load(tables)
    root = place(good_bundle, folder, 3, "recommender")

    def make(calls):
        return RecommendService(
            calls, PROFILES, EVENTS, SETTINGS, lambda: NOW, REQUESTS
        )

    front = HttpFront(0, make, lambda: tables)
    with ModelServer(root, port=0, max_message_mib=1, http=front) as server:
        server.profiles = profiles
        server.request_log = RequestLog(lambda model: None)
        yield server
    server.request_log.close()
    profiles.close()


@pytest.fixture
def events(tmp_path):
    store = EventStore(tmp_path / "events.db")
    yield store
    store.close()


@pytest.fixture
def call(server, events, monkeypatch):
    """Returns (status, body) of a call."""
    monkeypatch.setattr(EVENTS, "store", events)
    monkeypatch.setattr(PROFILES, "store", server.profiles)
    monkeypatch.setattr(REQUESTS, "store", server.request_log)

    def call(path: str, data: object = None, raw: bytes | None = None):
        body = raw if data is None else json.dumps(data).encode()
        url = f"http://127.0.0.1:{server.http_port}{path}"
        try:
            with urllib.request.urlopen(url, body, timeout=60) as answer:
                return answer.status, read(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, read(refused)

    call.port = server.http_port
    return call


def read(answer):
    """Returns what a body holds: text of a page, else JSON."""
    is_page = answer.headers["content-type"].startswith("text/html")
    return answer.read().decode() if is_page else json.load(answer)


def click(event_id: str, item: str, **more) -> dict:
    return {
        "event_id": event_id,
        "user_id": "ana",
        "item_id": item,
        "event_type": "click",
        "timestamp": NOW - 10,
        **more,
    }


def shown_items(answer: dict) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_a_slate_is_logged_before_it_is_answered(call, events, tmp_path):
    asked = {"user_id": "ana", "k": 3, "context": {"tags": ["web"]}, "seed": 9}
    status, answer = call("/v1/recommend", asked)
    assert status == 200
    expected = expected_answer(["i00", "i01"], [], 3)
    assert shown_items(answer) == expected["item_ids"][0].tolist()
    assert (answer["release"], answer["seed"], answer["is_known"]) == (3, 9, True)
    (file,) = events.write_segments(tmp_path / "log")
    logged = read_decision(json.loads(line) for line in file.read_text().splitlines())
    assert logged.request_id == answer["request_id"]
    assert logged.user_id == "ana"
    assert logged.timestamp == NOW
    assert [item.model_dump() for item in logged.slate] == answer["items"]
    assert (logged.policy, logged.release, logged.seed) == ("greedy", 3, 9)
    assert logged.context == {"tags": ["web"]}


def test_it_is_logged_what_the_model_was_told(call, monkeypatch, tmp_path):
    log = RequestLog(lambda model: Sampling(1.0, str(tmp_path / model)))
    monkeypatch.setattr(REQUESTS, "store", log)
    call("/v1/recommend", {"user_id": "ana", "k": 3, "seed": 9})
    log.close()
    (asked,) = asked_requests(tmp_path.glob("recommender-*.tfrecord")).values()
    assert (asked.user_id, asked.seed) == ("ana", 9)
    assert asked.inputs["history_item_ids"].tolist() == [[b"i01"]]
    assert asked.inputs["exclude_item_ids"].tolist() == [[b"i00", b"i01"]]
    assert asked.inputs["user_age"].tolist() == [31.0]


def test_what_users_do_is_in_the_next_request(call):
    before = shown_items(call("/v1/recommend", {"user_id": "ana", "k": 2})[1])
    assert before == ["i02", "i03"]
    sent = {"events": [click("a", "i02"), click("b", "i04", event_type="mute")]}
    assert call("/v1/events", sent) == (200, {"accepted": 2, "duplicates": 0})
    assert call("/v1/events", sent) == (200, {"accepted": 0, "duplicates": 2})
    after = shown_items(call("/v1/recommend", {"user_id": "ana", "k": 3})[1])
    assert after == ["i03", "i04", "i05"]  # a mute enters no history


def test_unknown_users_are_answered_and_remembered(call):
    asked = {"user_id": "new", "k": 2, "exclude_item_ids": ["i00"]}
    _, answer = call("/v1/recommend", asked)
    assert not answer["is_known"]
    assert shown_items(answer) == ["i01", "i02"]
    call("/v1/events", {"events": [click("c", "i01", user_id="new")]})
    _, answer = call("/v1/recommend", asked)
    assert answer["is_known"]
    assert shown_items(answer) == ["i02", "i03"]


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("/v1/recommend", {}, 422, "user_id: Field required"),
        ("/v1/recommend", {"user_id": ""}, 422, "user_id"),
        ("/v1/recommend", {"user_id": "a", "k": 0}, 422, "k: Input should be"),
        ("/v1/recommend", {"user_id": "a", "k": 10**6}, 422, "k: Input should be"),
        ("/v1/recommend", {"user_id": "a", "colour": 1}, 422, "colour"),
        ("/v1/recommend", {"user_id": "a", "context": {"x": 1}}, 400, "['tags']"),
        ("/v1/events", {"events": []}, 422, "events"),
        ("/v1/events", {"events": [{"event_id": "a"}]}, 422, "events.0.user_id"),
        ("/v1/events", {"events": [click("x", "i", event_type="buy")]}, 400, "'click'"),
        ("/v1/events", {"events": [click("x", "i", timestamp=-1)]}, 422, "timestamp"),
        (
            "/v1/recommend",
            {"user_id": "a", "context": dict.fromkeys(map(str, range(101)), 1)},
            422,
            "context: Dictionary should have at most 100 items",
        ),
        (
            "/v1/events",
            {"events": [click("x", "i02", **dict.fromkeys(map(str, range(101)), 1))]},
            422,
            "at most 100 further fields are kept. Received: 101",
        ),
        ("/v1/events", {"events": [click("x", "i02")] * 1001}, 422, "at most 1000"),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/v1/recommend", None, 405, "Method Not Allowed"),
    ],
)
def test_requests_that_cannot_be_answered_say_why(
    call, events, path, body, status, part
):
    seen, answer = call(path, body)
    assert seen == status
    assert part in answer["error"]
    assert len(events) == 0


def test_bodies_that_are_too_large_or_no_json_are_refused(call):
    assert call("/v1/events", raw=b"x" * (1 << 21))[0] == 413
    assert call("/v1/events", raw=b"{")[0] == 422
    assert call("/healthz") == (200, {"status": "ok"})


def test_one_event_that_is_wrong_keeps_the_others_out(call, events):
    sent = {"events": [click("a", "i02"), click("b", "i03", event_type="buy")]}
    assert call("/v1/events", sent)[0] == 400
    assert len(events) == 0


def test_the_description_names_every_call_and_schema(call):
    status, seen = call("/openapi.json")
    assert (status, seen) == (200, openapi())
    assert set(seen["paths"]) == {"/v1/recommend", "/v1/events"}
    text = json.dumps(seen)
    for name in seen["components"]["schemas"]:
        assert text.count(f"#/components/schemas/{name}") >= 1
    references = {
        part.split('"')[0] for part in text.split("#/components/schemas/")[1:]
    }
    assert references <= set(seen["components"]["schemas"])


def test_nothing_is_answered_that_could_not_be_logged(call, events, monkeypatch):
    def full(rows):
        raise OSError("No space left on device")

    monkeypatch.setattr(events, "append", full)
    status, answer = call("/v1/recommend", {"user_id": "ana"})
    assert status == 500
    assert "No space left" in answer["error"]


@pytest.mark.parametrize("broken", [PROFILES, EVENTS], ids=["profiles", "events"])
def test_a_store_that_does_not_answer_is_503_and_no_longer_than_that(
    call, monkeypatch, broken
):
    class Down:
        def read(self, *asked):
            raise StoreUnavailableError("no Redis answers at redis://a. Start it")

        past = read

    with monkeypatch.context() as outage:
        outage.setattr(broken, "store", Down())
        status, answer = call("/v1/recommend", {"user_id": "ana"})
        assert (status, answer["error"]) == (
            503,
            "no Redis answers at redis://a. Start it",
        )
        assert call("/?user_id=ana")[0] == 503
    assert call("/v1/recommend", {"user_id": "ana"})[0] == 200


def test_before_any_release_has_profiles_it_is_503(call, monkeypatch, tmp_path):
    empty = SqliteProfiles(tmp_path / "empty.db")
    monkeypatch.setattr(PROFILES, "store", empty)
    status, answer = call("/v1/recommend", {"user_id": "ana"})
    assert (status, "no release" in answer["error"]) == (503, True)
    empty.close()


def test_the_page_shows_whom_one_can_ask_for(call):
    status, page = call("/")
    assert status == 200
    assert '<a href="/?user_id=ana">ana</a>' in page
    assert "Release 3" in page


def test_the_page_shows_what_would_be_shown_and_logs_nothing(call, events):
    status, page = call("/?user_id=ana&k=2&seed=4")
    assert status == 200
    slate = page[page.index("Would be shown") :]
    assert slate.index("i02") < slate.index("i03")
    assert "i04" not in slate
    assert "0.9000" in slate  # the score of i02
    assert "profile" in slate
    assert "model" in slate
    assert "&lt;b&gt;i01&lt;/b&gt;" in page  # what a log holds is text, no markup
    assert "<b>" not in page
    assert len(events) == 0


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ("user_id=ana&k=0", 422, "k: Input should be"),
        ("user_id=ana&k=many", 422, "k: Input should be"),
        ("user_id=ana&colour=red", 422, "colour"),
    ],
)
def test_the_page_says_what_was_wrong(call, query, status, part):
    seen, page = call(f"/?{query}")
    assert seen == status
    assert part in page


def test_the_page_of_somebody_new_says_so(call):
    _, page = call("/?user_id=%3Cscript%3E")
    assert "who is new" in page
    assert "<script>" not in page


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.component
@pytest.mark.skipif(not BROWSER, reason="needs Chromium, Debian's package `chromium`")
def test_a_browser_shows_the_page(call, tmp_path):
    url = f"http://127.0.0.1:{call.port}/?user_id=ana&k=3"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,900"]
    profile = f"--user-data-dir={tmp_path / 'browser'}"
    shot = tmp_path / "page.png"
    for more in (["--dump-dom"], [f"--screenshot={shot}"]):
        done = subprocess.run(
            [BROWSER, *options, profile, *more, url],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        if more == ["--dump-dom"]:
            assert done.stdout.count("<tr>") >= 4
            assert 'value="ana"' in done.stdout
    with PIL.Image.open(shot) as image:
        assert image.size == (1100, 900)
        assert len(image.convert("L").getcolors()) > 10  # not one blank sheet
