"""A real server on loopback: what it answers, what it refuses, and that it goes on after that."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest

import slipstream
from asking import ask, multipart
from slipstream.inference.serving import connections

TOLERANCE = 1e-6  # of a probability: the networks' sums are added in another order in another batch


def raw(url, *parts, wait=5.0, pause=0.0):
    """Send bytes, and return all that comes back until the server closes."""
    with socket.create_connection(urlsplit(url).netloc.split(":"), timeout=wait) as made:
        for part in parts:
            made.sendall(part)
            time.sleep(pause)
        found = b""
        try:
            while piece := made.recv(65536):
                found += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return found


@pytest.mark.slow
def test_a_row_and_a_list_of_rows_are_predicted_as_the_run_predicts_them(url, run, row):
    """One row alone has the run's own scores to the bit."""
    model = slipstream.load(run)
    known = model.predict({name: [value] for name, value in row.items()})
    (found,) = ask(url, body=row).body["predictions"]
    assert found["prediction"] == known.labels[0]
    assert list(found["probabilities"].values()) == pytest.approx(known.scores[0].tolist(), abs=TOLERANCE)
    other = row | {"age": None, "city": "Rome"}
    both = ask(url, body=[row, other]).body["predictions"]
    known = model.predict({name: [row[name], other[name]] for name in row})
    np.testing.assert_allclose(
        [list(one["probabilities"].values()) for one in both], known.scores, atol=TOLERANCE
    )
    listed = ask(url, body=list(row.values())).body["predictions"]
    assert listed[0]["prediction"] == found["prediction"]


def test_a_csv_file_is_predicted_as_json_is(url, row):
    """As a body, and as a file of a form; other columns are ignored; words are read as training read them."""
    lines = "id;age;city;since;member;at;churned\n1;33;Oslo;28/02/2019;yes;2:30 pm;no\n"
    lines += "2;;Rome;28/02/2019;no;14:30;no\n"
    found = ask(url, body=lines.encode(), kind="text/csv").body["predictions"]
    known = ask(url, body=[row, row | {"age": None, "city": "Rome", "member": False}]).body["predictions"]
    for one, other in zip(found, known, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=TOLERANCE)
    body, kind = multipart(("new.csv", "application/octet-stream", lines.encode()))
    again = ask(url, body=body, kind=kind).body["predictions"]
    assert [one["prediction"] for one in again] == [one["prediction"] for one in found]


@pytest.mark.slow
def test_requests_together_are_one_computation_and_answer_as_alone(url, application, row):
    """64 clients at once: fewer batches than requests, and each has the scores that it has by itself."""
    rows = [row | {"age": 18 + i, "city": ("Oslo", "Rome", "Kyiv")[i % 3]} for i in range(64)]
    alone = [ask(url, body=one).body["predictions"][0]["probabilities"] for one in rows]
    before = application.metrics.text().decode()
    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(lambda one: ask(url, body=one).body["predictions"][0], rows))
    for one, other in zip(together, alone, strict=True):
        assert one["probabilities"] == pytest.approx(other, abs=TOLERANCE)
    count = lambda text: float(text.partition("slipstream_batch_rows_count ")[2].split()[0])  # noqa: E731
    assert count(application.metrics.text().decode()) - count(before) < 64


def test_what_is_unknown_or_missing_is_warned_of_in_the_answer_it_concerns(url, row):
    """Neighbours in a batch do not hear of it."""
    with ThreadPoolExecutor(2) as pool:
        odd, plain = pool.map(lambda one: ask(url, body=one).body, [row | {"city": "Omsk"}, row])
    assert "'city': 1 row with a category that is not in the training split (Omsk" in odd["warnings"][0]
    assert "warnings" not in plain


def test_explain_says_what_moved_a_prediction(url, row):
    """The change is the prediction minus that with the column at its usual value."""
    answer = ask(url, "/predict?explain=true", body=row).body
    (found,) = answer["predictions"]
    by_name = {one["name"]: one for one in found["moved"]}
    assert list(by_name) == ["age", "city", "since", "member", "at"]
    assert "typical training value" in answer["moved_by"]
    usual = float(by_name["age"]["replaced_by"].rpartition(" ")[2])
    other = ask(url, body=row | {"age": usual}).body["predictions"][0]["probabilities"]
    for name, change in by_name["age"]["change"].items():
        assert change == pytest.approx(found["probabilities"][name] - other[name], abs=1e-5)
    cities = [row | {"city": city} for city in ("Oslo", "Rome", "Kyiv")]
    scores = [one["probabilities"]["yes"] for one in ask(url, body=cities).body["predictions"]]
    assert by_name["city"]["replaced_by"] == "the average over its 3 categories"
    assert by_name["city"]["change"]["yes"] == pytest.approx(
        found["probabilities"]["yes"] - np.mean(scores), abs=1e-6
    )
    refused = ask(url, "/predict?explain=true", body=[row] * 4)
    assert (refused.status, refused.told) == (422, "explain=true accepts at most 3 rows, found 4")


REFUSED = [
    (b"", "application/json", 400, "the body is empty; expected JSON"),
    (b'{"age": 1,}', "application/json", 400, "the body is not valid JSON: line 1, column 11"),
    (b"[" * 100_000, "application/json", 400, "the JSON is nested too deeply"),
    (b"[" + b"9" * 5000 + b"]", "application/json", 400, "the body cannot be read: Exceeds the limit"),
    (b'{"age": "\xff"}', "application/json", 400, "the body is not UTF-8 text: byte 0xff at position 10"),
    (b"[]", "application/json", 422, "the list is empty; expected a row, which is an object with age, city"),
    (b"3", "application/json", 422, "row 1: found 3, expected a row, which is an object with age"),
    (b"null", "application/json", 422, "row 1: found null"),
    (b"[[1, 2]]", "application/json", 422, "row 1: found a list of 2 values, expected a row"),
    (b'{"age": 1, "age": 2}', "application/json", 422, "row 1, column 'age': appears twice in the row"),
    (b"age,city\n1\n", "text/csv", 422, "row 1 of the CSV has 1 field, but the header has 2"),
    (b"age,age\n1,2\n", "text/csv", 422, "the header of the CSV has 'age' more than once"),
    (b"age,city\n", "text/csv", 422, "the CSV has no rows"),
    (b"age,city\n1,\0\n", "text/csv", 400, "the CSV contains a zero byte"),
    (b'age,city\n1,"x\n', "text/csv", 400, "the CSV cannot be read: line 2"),
    (b"age,city\n1,Oslo\n", "text/csv", 422, "column 'since': is missing from the header of the"),
    (b"x", "", 415, "no Content-Type: this run accepts application/json, text/csv, multipart/form-data"),
    (b"x", "text/plain", 415, "Content-Type: text/plain: this run accepts"),
    (b"x", "image/png", 415, "Content-Type: image/png: this run accepts"),
    (b"x", "multipart/form-data", 400, "the multipart body cannot be read"),
    (b"--XX--\r\n", "multipart/form-data; boundary=XX", 422, "the multipart body has no file"),
    (
        multipart(("a.png", "image/png", b"x"))[0],
        "multipart/form-data; boundary=XX",
        415,
        "Content-Type: image/png",
    ),
]


@pytest.mark.parametrize(("body", "kind", "status", "told"), REFUSED, ids=lambda x: str(x)[:24])
def test_a_body_that_does_not_fit_is_refused_with_the_reason(url, body, kind, status, told):
    answer = ask(url, body=body, kind=kind)
    assert (answer.status, answer.told[: len(told)]) == (status, told)
    assert "Traceback" not in json.dumps(answer.body)


VALUES = [
    ("age", "old", "found 'old', expected a number (null for a missing value)"),
    ("age", True, "found true, expected a number"),
    ("age", [1], "found a list, expected a number"),
    ("age", float("nan"), "found NaN, expected a number"),
    ("age", float("inf"), "found Infinity, expected a number"),
    ("age", 1e39, "found 1e+39, expected a number"),
    ("age", 10**400, "found 1000"),
    ("city", {}, "found an object, expected a category"),
    ("city", float("-inf"), "found -Infinity, expected a category"),
    ("since", 3, "found 3, expected a date like 2026-01-31 or 31/01/2026"),
    ("since", "31/02/2020", "found '31/02/2020', expected a date"),
    ("member", 2, "found 2, expected true or false"),
    ("at", "25:00", "found '25:00', expected a time of day such as 14:30"),
    ("at", 25, "found 25, expected a time of day"),
]


@pytest.mark.parametrize(("column", "value", "told"), VALUES)
def test_a_wrong_value_is_refused_with_its_row_and_column(url, row, column, value, told):
    answer = ask(url, body=[row, row | {column: value}])
    assert answer.status == 422
    assert answer.told.startswith(f"row 2, column {column!r}: {told}")
    (problem,) = answer.body["problems"]
    assert (problem["row"], problem["column"]) == (2, column)


def test_missing_and_unknown_columns_are_named_with_the_nearest(url, row):
    """All of them at once."""
    renamed = {("agee" if name == "age" else name): value for name, value in row.items() if name != "city"}
    answer = ask(url, body=renamed)
    told = {one["column"]: one["message"] for one in answer.body["problems"]}
    assert answer.status == 422
    assert told["age"] == "is missing; the row has 'agee': write 'age'"
    assert told["city"] == "is missing; use null for a missing value"
    assert told["agee"].startswith("not a column of training, did you mean age?")
    assert answer.told == f"row 1, column 'age': {told['age']} (and 2 more in `problems`)"
    assert ask(url, body=row | {"churned": "no"}).status == 200  # the target may stand there


def test_a_missing_column_of_a_csv_is_said_once(url):
    """The header lacks it, whatever the number of rows, and has another name for it."""
    answer = ask(
        url, body=b"agee,city,since,member,at\n" + b"3,Oslo,2019-02-28,true,14:30\n" * 30, kind="text/csv"
    )
    said = "is missing from the header of the CSV; the header has 'agee': write 'age'"
    assert answer.body["problems"] == [{"row": None, "column": "age", "message": said}]
    assert answer.told == f"column 'age': {said}"


def test_a_number_beyond_the_network_is_no_prediction(url, row):
    """Values that no float holds on their way are refused, not answered with NaN."""
    answer = ask(url, body=row | {"age": 3e38})
    assert answer.status in (200, 422)
    assert "NaN" not in json.dumps(answer.body)


def test_paths_and_methods_are_told(url):
    assert ask(url, "/predict").told == "GET /predict: expected POST /predict"
    assert ask(url, "/predict").headers["allow"] == "POST"
    assert (ask(url, "/health", "DELETE").status, ask(url, "/Predict", body={}).status) == (405, 404)
    assert ask(url, "/Predict", body={}).told == "'/Predict': no such path, did you mean /predict?"
    answer = ask(url, "/predict?explian=1", body={})
    assert (answer.status, answer.told) == (422, "?explian: no such parameter, did you mean explain?")
    assert ask(url, "/predict?explain=x", body={}).told == "?explain: found 'x', expected true or false"


def test_too_much_is_refused_before_it_is_read(url, row, monkeypatch):
    """By the declared length, chunk by chunk, and by rows."""
    monkeypatch.setattr(connections, "DRAIN_SECONDS", 0.1)
    answer = ask(url, body=b" " * 200_001)
    assert (answer.status, answer.told[:40]) == (413, "the body has more than 200,000 bytes; sp")
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    said = raw(url, head + b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n", wait=2)
    assert said.startswith(b"HTTP/1.1 413")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    said = raw(url, head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 8, b"0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413")
    answer = ask(url, body=[row] * 301)
    assert (answer.status, answer.told[:42]) == (413, "more than 300 rows in one request; split i")
    lines = ("age,city,since,member,at\n" + "1,Oslo,2019-01-01,yes,10:00\n" * 301).encode()
    assert ask(url, body=lines, kind="text/csv").status == 413
    assert ask(url, body=row, Content_Encoding="gzip").status == 415
    assert ask(url, body=row).status == 200


@pytest.mark.slow
def test_clients_that_are_slow_or_speak_no_http_block_nobody(url, row, monkeypatch):
    """300 silent connections: others are answered, and of the silent ones the oldest give way."""
    netloc = urlsplit(url).netloc.split(":")
    slow = [socket.create_connection(netloc) for _ in range(300)]
    try:
        for one in slow:
            one.sendall(b"POST /predict HTTP/1.1\r\nHost: ")
        begun = time.monotonic()
        assert ask(url, body=row).status == 200
        assert time.monotonic() - begun < 5
        slow[0].settimeout(5)
        with contextlib.suppress(ConnectionResetError):  # closed before its bytes were read
            assert slow[0].recv(100) == b""  # closed: more than IDLE of them wait
    finally:
        for one in slow:
            one.close()
    assert raw(url, b"\x16\x03\x01 this is no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(url, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000).startswith(b"HTTP/1.1 4")
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    raw(url, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")  # no chunk: the connection ends
    raw(url, head + b"Content-Length: 100\r\n\r\n{", wait=0.2)  # goes away in the middle
    assert ask(url, body=row).status == 200


def test_a_head_that_does_not_come_is_not_waited_for(url, monkeypatch):
    monkeypatch.setattr(connections.TimedConnection, "head_seconds", 0.2)
    begun = time.monotonic()
    assert raw(url, b"GET /health HTTP/1.1\r\nHost:") == b""
    assert time.monotonic() - begun < 4


def test_a_body_that_does_not_come_is_408(url, monkeypatch):
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(connections, "DRAIN_SECONDS", 0.2)
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    said = raw(url, head + b"Content-Length: 100\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 408")
    assert b"the body did not arrive within 0.2 seconds (received 1 byte)" in said


def test_another_host_name_is_refused(url, row):
    """A page of somebody else's cannot reach the server under a name of its own."""
    answer = ask(url, body=row, Host="evil.example")
    assert (answer.status, answer.told) == (421, "the Host header is not an address of this server")
    assert ask(url, "/health", Host="localhost:1").status == 200


def test_health_metrics_and_openapi_are_of_this_run(url, row):
    """The schema has the columns, with examples; requests are counted by path and status."""
    ask(url, body=row)
    ask(url, body=b"{")
    assert ask(url, "/health").body["status"] == "ok"
    text = ask(url, "/metrics").body
    for line in ('slipstream_requests_total{path="/predict",status="200"}', "slipstream_wait_seconds_bucket"):
        assert line in text
    described = ask(url, "/openapi.json").body
    content = described["paths"]["/predict"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]["anyOf"][0]
    assert schema["required"] == ["age", "city", "since", "member", "at"]
    assert schema["properties"]["city"]["examples"] == ["Kyiv", "Oslo", "Rome"]
    assert ask(url, body=content["application/json"]["example"]).status == 200
    assert ask(url, body=content["text/csv"]["example"].encode(), kind="text/csv").status == 200
    answers = described["paths"]["/predict"]["post"]["responses"]
    one = answers["200"]["content"]["application/json"]["schema"]["properties"]["predictions"]["items"]
    assert one["properties"]["prediction"]["enum"] == ["no", "yes"]
    assert set(answers) == {"200", "400", "405", "408", "413", "415", "422", "503"}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing(url, path):
    answer = ask(url, path)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in answer.body.replace(f"{url}/predict", "").replace("${location.origin}", ""), word


def test_a_bug_is_a_500_without_a_traceback_and_the_server_goes_on(
    url, row, application, monkeypatch, caplog
):
    def broken(questions):
        raise RuntimeError("secret")

    monkeypatch.setattr(application.batcher, "compute", broken)
    answer = ask(url, body=row)
    assert (answer.status, answer.told) == (500, "internal error; the server's log has the traceback")
    monkeypatch.undo()
    assert ask(url, body=row).status == 200


def test_more_than_may_wait_is_503(url, row, application, monkeypatch):
    """With a time after which to try again."""
    free, plain = threading.Event(), application.batcher.compute
    monkeypatch.setattr(application.batcher, "limit", 1)
    monkeypatch.setattr(application.batcher, "_pace", (1, 0.0))  # in a thread
    monkeypatch.setattr(application.batcher, "compute", lambda found: (free.wait(20), plain(found))[1])
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, url, body=row)]
        time.sleep(0.3)
        asked += [pool.submit(ask, url, body=row)]
        time.sleep(0.3)
        refused = ask(url, body=row)
        assert ask(url, "/health").status == 200
        free.set()
        assert [one.result().status for one in asked] == [200, 200]
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
