"""What CONTRIBUTING shows for components outside the package works as it is printed."""

import re
import shlex
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
OUTSIDE = TEXT[TEXT.index("## Your own component, outside the package") : TEXT.index("## Rules")]
FAST = ("trainer.max_epochs=2", "trainer.compile=false", "trainer.progress=none")


@pytest.fixture
def typed(warm):
    """Types a command as it is printed, and more words, in a folder."""

    def run(folder, line, *more):
        words = shlex.split(line)
        assert words[:2] == ["python", "train.py"]
        return warm.python(*words[1:], *more, cwd=folder)

    return run


@pytest.fixture
def written(tmp_path):
    """The files of the section in a folder; its train.py imports both modules."""
    for name, content in re.findall(r"`([\w/]+\.(?:py|yaml))`[^\n]*\n\n```\w+\n(.*?)```", OUTSIDE, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    assert {"mine.py", "sign_descent.py"} <= {file.name for file in tmp_path.iterdir()}
    return tmp_path


def commands(word):
    """The printed commands that name the word."""
    found = [line for line in OUTSIDE.splitlines() if line.startswith("python train.py") and word in line]
    assert found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("line", commands("loss=cauchy"))
def test_a_loss_an_activation_and_a_model_train(written, typed, line):
    """Each printed command trains with the loss, activation and model of the section."""
    (written / "train.py").write_text((written / "train.py").read_text().replace("sign_descent", "mine"))
    ended = typed(written, line, *FAST)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_the_listing_shows_the_defaults_of_the_own_yaml(written, typed):
    """`list` takes --config-dir in front and behind; without it, it says where defaults stand."""
    (line,) = commands(" list ")
    told = typed(written, line).stdout
    assert re.search(r"optimizer\.lr +number > 0 +0\.001", told), told
    behind = typed(written, "python train.py list optimizer sign_descent --config-dir options").stdout
    assert behind == told
    without = typed(written, "python train.py list optimizer sign_descent")
    assert "DIR/optimizer/sign_descent.yaml" in without.stdout, without.stderr
    assert "--config-dir nowhere: no such folder" in typed(written, f"{line} --config-dir nowhere").stderr
