"""The page in a real browser: a person types values or chooses a file, and reads what comes of it."""

from __future__ import annotations

import pytest

from asking import ask
from browser import CHROMIUM, opened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium, in which the page is opened"),
]


def test_a_person_types_values_and_reads_the_prediction(url, row, tmp_path):
    """The page says what `/predict` says, what moved it, and what is wrong; nothing else is asked for."""
    known = ask(url, body=row | {"age": 71}).body["predictions"][0]
    with opened(f"{url}/") as page:
        page.type("#fields label:nth-of-type(1) input", "71")
        page.js("document.querySelector('#fields label:nth-of-type(2) select').value = '=Oslo'")
        page.js("document.querySelector('#fields label:nth-of-type(4) select').value = '=true'")
        page.js("document.querySelector('#fields input[type=date]').value = '2019-02-28'")
        page.js("document.querySelector('#fields input[type=time]').value = '14:30'")
        page.click("#predict")
        assert page.wait("document.querySelector('#answer').textContent") == known["prediction"]
        shown = page.js("document.querySelector('#scores').innerText")
        assert f"{100 * known['probabilities'][known['prediction']]:.1f} %" in shown
        assert page.js("document.querySelectorAll('#moved .track').length") == 5
        assert "typical training value" in page.js("document.querySelector('#method').textContent")
        page.type("#fields label:nth-of-type(1) input", "old")
        page.click("#predict")
        told = page.wait("document.querySelector('#error').textContent")
        assert told.startswith("row 1, column 'age': found 'old', expected a number")
        assert page.js("document.querySelector('[aria-invalid]').value") == "old"
        (tmp_path / "new.csv").write_text(
            "age,city,since,member,at\n71,Oslo,28/02/2019,yes,14:30\n20,Rome,01/01/2020,no,8:00\n"
        )
        page.choose("#file", tmp_path / "new.csv")
        page.wait("document.querySelectorAll('#table tr').length === 3")
        assert known["prediction"] in page.js("document.querySelector('#table').innerText")
        assert [error for error in page.errors if "422" not in error] == []
        for width in (1280, 400):
            page.look(width, 900)
            assert not page.overflows()
