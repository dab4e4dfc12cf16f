"""Every kind of data and task behind a server: its own example is answered as the run predicts it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import polars as pl
import pytest
from PIL import Image

import slipstream
from asking import ask, multipart, trained
from slipstream.inference.ensemble import open_run
from slipstream.inference.serving.application import Application, ServerLimits
from slipstream.inference.serving.http_server import serving

pytestmark = pytest.mark.slow
LIMITS = ServerLimits(rows=50)


def served(folder, *words):
    """The run's application, trained for an epoch."""
    directory = trained(folder / "run", *words, "trainer.max_epochs=1")
    return slipstream.load(directory), Application(open_run(directory), LIMITS)


def picture(mode="RGB", side=40):
    """A PNG of noise."""
    held = io.BytesIO()
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(0).integers(0, 255, (side, side, channels), np.uint8)
    Image.fromarray(noise.squeeze(), mode).save(held, "PNG")
    return held.getvalue()


def bomb(side=30_000):
    """A PNG of some kilobytes that says it has side x side pixels."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


@pytest.fixture
def table(tmp_path):
    """A table with several targets."""
    draw, n = np.random.default_rng(0), 200
    x, c = draw.normal(size=n), draw.choice(["a", "b"], n)
    columns = {"x": x, "c": c, "u": x * 2, "v": -x, "k": (x > 0) * 1, "l": (c == "a") * 1}
    pl.DataFrame(columns).write_csv(tmp_path / "t.csv")
    return f"data.path={tmp_path / 't.csv'}"


def test_regression_of_one_and_of_several_targets(table, tmp_path):
    for targets in ("u", "[u,v]"):
        words = ["data=table", table, f"data.target={targets}", "data.inputs=[x,c]"]
        model, app = served(tmp_path / targets, *words)
        known = np.ravel(model.predict({"x": [0.5], "c": ["a"]}))
        with serving(app) as url:
            answer = ask(url, "/predict?explain=true", body={"x": 0.5, "c": "a"}).body
        found = answer["predictions"][0]["prediction"]
        values = list(found.values()) if isinstance(found, dict) else [found]
        np.testing.assert_allclose(values, known, rtol=1e-6)
        assert [one["name"] for one in answer["predictions"][0]["moved"]] == ["x", "c"]


def test_several_labels(table, tmp_path):
    words = ["data=table", table, "data.target=[k,l]", "data.task=multilabel", "data.inputs=[x,c]"]
    model, app = served(tmp_path, *words)
    with serving(app) as url:
        (found,) = ask(url, body={"x": 2, "c": "a"}).body["predictions"]
    known = model.predict({"x": [2.0], "c": ["a"]})
    assert found["prediction"] == [n for n, has in zip(known.classes, known.labels[0], strict=True) if has]
    assert list(found["probabilities"]) == ["k", "l"]


def test_arrays_are_nested_lists_or_named_columns(tmp_path):
    """A vector by its columns' names, sequences by their shape; scores where there are no probabilities."""
    _, app = served(tmp_path / "a", "data=iris", "loss=hinge")
    with serving(app) as url:
        assert list(ask(url, body=app.inputs.example).body["predictions"][0]) == ["prediction", "scores"]
        assert ask(url, body=[5.1, 3.5, 1.4, 0.2]).status == 200
        assert ask(url, body=[[5.1, 3.5, 1.4, 0.2]] * 3).status == 200
        assert ask(url, body=[5.1, 3.5, 1.4]).told.startswith(
            "row 1: found a list of 3 values, expected a row"
        )
    _, app = served(tmp_path / "b", "data=adding_problem", "data.rows=100", "data.length=5", "model=rnn")
    with serving(app) as url:
        one = [[0.5, 0.0]] * 5
        assert len(ask(url, body=one).body["predictions"]) == 1
        assert len(ask(url, body=[one] * 3).body["predictions"]) == 3
        answer = ask(url, body=[one, one[:4]])
        assert (answer.status, answer.told) == (422, "row 2: found a list of 4 values, expected a list of 5")
        assert ask(url, body=[*one[:4], [0.5, "x"]]).told == "row 1: [4][1]: found 'x', expected a number"
        assert ask(url, body={"a": 1}).told == (
            "found an object, expected nested lists of numbers, 5 x 2, or a list of them"
        )


def test_ids_that_are_none_never_reach_the_network(tmp_path):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", inputs=draw.integers(0, 9, (90, 4)), targets=draw.integers(0, 2, 90))
    words = ["data=arrays", f"data.path={tmp_path / 't.npz'}", "data.task=binary"]
    _, app = served(tmp_path, *words)
    with serving(app) as url:
        assert ask(url, body=[1, 2, 3, 4]).status == 200


def test_texts_come_as_json_lines_or_csv(tmp_path):
    """And their words are what moves them."""
    words = np.random.default_rng(0).choice(["good", "bad", "film"], (100, 4))
    labels = ["up" if "good" in row else "down" for row in words]
    table = pl.DataFrame({"text": [" ".join(row) for row in words], "y": labels})
    table.write_csv(tmp_path / "t.csv")
    data = ["data=text", f"data.path={tmp_path / 't.csv'}", "data.text=text", "data.target=y", "model=rnn"]
    model, app = served(tmp_path, *data)
    known = model.predict(["good film", "bad"]).scores[:, 0]
    bodies = [
        (["good film", "bad"], "application/json"),
        ([{"text": "good film"}, {"text": "bad"}], "application/json"),
        (b"good film\nbad\n", "text/plain"),
        (b"n,text\n1,good film\n2,bad\n", "text/csv"),
    ]
    with serving(app) as url:
        for body, kind in bodies:
            found = ask(url, body=body, kind=kind).body["predictions"]
            scores = [one["probabilities"]["down"] for one in found]
            np.testing.assert_allclose(scores, known, atol=1e-6)
        moved = ask(url, "/predict?explain=true", body="good film").body["predictions"][0]["moved"]
        assert {one["name"] for one in moved} == {"good", "film"}
        assert (
            ask(url, body=[3]).told
            == 'row 1: found 3, expected a text, or {"text": a text}, or a list of them'
        )


def test_steps_become_sequences_in_the_order_of_their_first(tmp_path):
    rows = [
        (f"s{i}", t, i % 2 + t / 9, "up" if i % 2 else "down") for i in range(60) for t in range(3 + i % 3)
    ]
    pl.DataFrame(rows, schema=["id", "t", "v", "y"], orient="row").write_csv(tmp_path / "s.csv")
    data = [f"data.path={tmp_path / 's.csv'}", "data.id=id", "data.time=t", "data.target=y", "model=rnn"]
    model, app = served(tmp_path, "data=sequences", *data)
    steps = [{"id": i, "t": t, "v": v} for i, t, v in (("b", 2, 0.1), ("a", 1, 1.2), ("b", 1, 0.3))]
    known = model.predict({name: [step[name] for step in steps] for name in ("id", "t", "v")})
    with serving(app) as url:
        found = ask(url, "/predict?explain=true", body=steps).body["predictions"]
        assert [one["id"] for one in found] == ["b", "a"]
        np.testing.assert_allclose(
            [one["probabilities"]["down"] for one in found], known.scores[:, 0], atol=1e-6
        )
        assert [one["name"] for one in found[0]["moved"]] == ["v"]
        assert (
            ask(url, body=app.body["content"]["text/csv"]["example"].encode(), kind="text/csv").status == 200
        )
        answer = ask(url, body=[steps[0], steps[1] | {"t": "2020-01-01"}])
        assert answer.told.startswith(
            "row 2, column 't': found '2020-01-01', expected a number as in the rows"
        )
        answer = ask(url, body=[steps[0], steps[0]])
        assert (answer.status, "rows 1 and 2 both have id=b" in answer.told) == (422, True)


def test_images_come_as_files_and_bombs_do_not_go_off(tmp_path):
    """As a body and in a form; what is no image, or too large, is refused with the reason."""
    for label, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "p" / label).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (16, 12), (shade + i, shade, shade)).save(tmp_path / "p" / label / f"{i}.png")
    data = ["data=images", f"data.path={tmp_path / 'p'}", "data.size=8"]
    model, app = served(tmp_path, *data)
    one = picture()
    (tmp_path / "x.png").write_bytes(one)
    known = model.predict([str(tmp_path / "x.png")]).scores[0, 0]
    with serving(app) as url:
        for kind in ("image/png", "application/octet-stream"):
            (found,) = ask(url, body=one, kind=kind).body["predictions"]
            assert found["probabilities"]["dark"] == pytest.approx(known, abs=1e-6)
        body, kind = multipart(("a.png", "image/png", one), ("b.png", "image/png", picture("L")))
        assert len(ask(url, body=body, kind=kind).body["predictions"]) == 2
        moved = ask(url, "/predict?explain=true", body=one, kind="image/png").body["predictions"][0]["moved"]
        assert len(moved) == 16
        answer = ask(url, body=bomb(), kind="image/png")
        assert answer.status == 422
        assert answer.told == "1 image cannot be used: 'the body' has more than 80,000,000 pixels"
        answer = ask(url, body=bomb(7_000), kind="image/png")
        assert (answer.status, "has 7,000 x 7,000 pixels, expected at most 25,000,000" in answer.told) == (
            413,
            True,
        )
        for body, told in (
            (one[:200], "damaged or truncated"),
            (b"GIF89a", "is a GIF file"),
            (b"", "is empty"),
        ):
            answer = ask(url, body=body, kind="image/png")
            assert (answer.status, told in answer.told) == (422, True), answer.told
        body, kind = multipart(("a.png", "image/png", one), ("bad.png", "image/png", b"no"))
        assert ask(url, body=body, kind=kind).told.startswith(
            "1 image cannot be used: 'bad.png' is not a PNG"
        )
        body, kind = multipart(("t.csv", "text/csv", b"a,b\n1,2\n"))
        assert ask(url, body=body, kind=kind).status == 415
        assert ask(url, body=one, kind="image/png").status == 200


def test_an_ensemble_of_seeds_answers_together(tmp_path):
    """A sweep is its best trial, whose members' probabilities are averaged."""
    words = (
        "data=iris",
        "trainer.progress=none",
        "logger=none",
        "trainer.device=cpu",
        "trainer.max_epochs=1",
    )
    slipstream.sweep({"optimizer.lr": [0.01]}, *words, directory=tmp_path / "s", repeats=2)
    ensemble = open_run(tmp_path / "s")
    app = Application(ensemble, LIMITS)
    with serving(app) as url:
        answer = ask(url, "/predict?explain=true", body=[5.1, 3.5, 1.4, 0.2]).body["predictions"][0]
    known = ensemble.scores(np.array([[5.1, 3.5, 1.4, 0.2]]))[0]
    np.testing.assert_allclose(list(answer["probabilities"].values()), known, atol=1e-6)
    assert len(answer["moved"]) == 4
