"""The report of a run: one file that loads nothing, shows what the run has and escapes all of it."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

import slipstream
from slipstream.core.errors import UserError
from slipstream.inference.html_report import report, require_new, write
from slipstream.runs.prediction import saved_config

QUIET = ("trainer.progress=none", "logger=none", "trainer.device=cpu", "trainer.max_epochs=3")
HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Tags that are open, what is loaded, headings, texts and pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loaded, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose columns, categories and classes are HTML."""
    folder, draw = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    x, c = draw.normal(size=200), draw.choice(["&amp;", "<img src=http://a.b/c>"], 200)
    y = np.where(x + draw.normal(0, 0.5, 200) > 0, HOSTILE, '"up"')
    pl.DataFrame({"<b>x": x, "c": c, "y": y}).write_csv(folder / "t.csv")
    words = ["data=table", f"data.path={folder / 't.csv'}", "data.target=y", *QUIET]
    return slipstream.train(slipstream.compose(*words, "optimizer.lr=0.01"), folder / "run").directory


@pytest.mark.slow
def test_a_report_is_one_page_that_loads_nothing(run):
    text = report(run)
    page = Page(text)
    assert page.open == []
    assert not {"script", "iframe", "object", "form"} & set(page.tags)
    assert all(link.startswith("data:") for link in page.loaded)
    assert "default-src 'none'" in text
    said = "\n".join(page.texts)
    for heading in ("Data", "Training", "Evaluation", "Importance", "Configuration", "Repeating the run"):
        assert heading in page.texts
    for told in (HOSTILE, "<b>x", "largest losses", "95 % interval", "worse by", "optimizer.lr=0.01"):
        assert told in said, told
    pictures = [link.partition(",")[2] for link in page.loaded if link.startswith("data:image/png")]
    assert len(pictures) >= 5  # curves, confusion, calibration, importance, two dependences
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).verify()


@pytest.mark.slow
def test_its_metrics_are_those_of_the_summary(run):
    best = json.loads((run / "summary.json").read_text())["best"]
    accuracy = re.search(r"<td>accuracy</td><td>([\d.]+)</td>", report(run))[1]
    assert float(accuracy) == pytest.approx(best["test/accuracy"], abs=1e-4)
    assert "data.path=" in report(run, f"data.path={run.parent / 't.csv'}")


def test_the_command_trains_the_run_again(run):
    """Typed as printed it composes the same configuration, but for what no result depends on."""
    page = Page(report(run))
    (line,) = (text for text in page.texts if text.startswith("python train.py "))
    again, saved = slipstream.compose(*shlex.split(line)[2:]), saved_config(run)
    for key in ("data", "optimizer", "model", "scheduler", "early_stopping", "seed", "regularizer"):
        assert again[key] == saved[key], key
    assert again["trainer"]["max_epochs"] == 3


@pytest.mark.slow
def test_a_report_of_numbers_of_a_sweep(tmp_path):
    space = {"optimizer.lr": [0.01, 1e-6]}
    found = slipstream.sweep(space, "data=diabetes", *QUIET, directory=tmp_path / "s", repeats=2)
    text = report(tmp_path / "s")
    board = next(part for part in text.split("<table>") if "leaderboard" in part).partition("</table>")[0]
    assert re.findall(r"<tr><td>(\d)</td><td>([^<]*)</td>", board) == [("1", "0.01"), ("2", "1e-06")]
    assert f"{found.best.mean:.4g} ± {found.best.std:.2g}" in board
    assert "members: 4 finished." in text
    assert "The best trial on the test rows, which were not used for selection" in text
    assert "predicted against true" in text
    assert text.count("python train.py") == 2
    assert "the mean of 2 members" in text


def test_a_file_that_exists_is_kept(run, tmp_path):
    write("page", tmp_path / "sub" / "r.html")
    assert (tmp_path / "sub" / "r.html").read_text() == "page"
    with pytest.raises(UserError, match=r"r\.html: already exists; choose another file"):
        require_new(tmp_path / "sub" / "r.html")
    with pytest.raises(UserError, match=r"-o r\.pdf: expected a file name that ends in \.html"):
        require_new(tmp_path.relative_to(tmp_path) / "r.pdf")


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browsed(file):
    """Open a file in headless Chromium; return its log, the URLs asked for except its own, and a picture."""
    log, picture = file.with_suffix(".json"), file.with_suffix(".png")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={file.with_suffix('')}", "--enable-logging=stderr", f"--log-net-log={log}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--screenshot={picture}", "--window-size=1000,3000"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    asked = re.findall(r'"url":\s*"([^"]*)"', log.read_text())
    own = re.compile(r"https?://([\w-]+\.)*(google\.com|gvt1\.com|googleapis\.com)/")
    return done.stderr, [url for url in asked if not own.match(url)], Image.open(picture).convert("RGB")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_browser_shows_it_without_requests_or_errors(run, tmp_path):
    """Nothing on the console, nothing asked of the network, curves drawn; a page that does both is caught."""
    write(report(run), tmp_path / "r.html")
    told, asked, picture = browsed(tmp_path / "r.html")
    assert "CONSOLE" not in told, told
    assert asked == []
    assert (np.asarray(picture) == (31, 119, 180)).all(-1).any()
    (tmp_path / "bad.html").write_text("<img src=http://a.b/c><script>console.error(1)</script>")
    told, asked, _ = browsed(tmp_path / "bad.html")
    assert "CONSOLE" in told
    assert "http://a.b/c" in asked
