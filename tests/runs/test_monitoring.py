"""A monitored metric that cannot have a value is refused; where it has none, the last epoch is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

import slipstream
from harness import tiny
from sampling import slow_after
from slipstream.core.errors import ConfigError

ROWS = 60
PART = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)


@pytest.fixture
def table(tmp_path):
    """A run on 60 rows of which validation and test have one class, one label value or one number."""
    draw = np.random.default_rng(0)
    a = draw.standard_normal(ROWS).round(3)
    first = np.arange(ROWS) < 40
    columns = {
        "a": a,
        "kind": np.where(first & (np.arange(ROWS) % 20 == 0), "rare", "usual"),
        "r": np.where(first, a > 0, True).astype(int),
        "g": np.where(first, a > 0.3, False).astype(int),
        "size": np.where(first, a + 3, 2.5).round(2),
        "part": PART,
    }
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")

    def made(target, changes):
        unused = {"kind", "r", "g", "size"} - set(target)
        data = {"data": "table", "data.path": str(tmp_path / "t.csv"), "data.split_column": "part"}
        data |= {"data.target": target, "data.kinds": dict.fromkeys(unused, "ignore")}
        return tiny(data | {"model.width": 4} | changes)

    return made


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    slow_after(
        2,
        [
            (
                ["kind"],
                {"trainer.monitor": "val/roc_auc"},
                "only 'usual' occurs in the 10 rows of the val",
            ),
            (["kind"], {"trainer.monitor": "val/mcc"}, "use trainer.monitor=val/loss, or change the split"),
            (["r", "g"], {"trainer.monitor": "val/roc_auc"}, "no label is both 0 and 1 in the 10 rows"),
            (["size"], {"trainer.monitor": "val/r2"}, "a target is constant in the 10 rows"),
            (["size"], {"trainer.monitor": "val/spearman"}, "undefined for all predictions"),
            (["kind"], {"early_stopping.metric": "val/mcc"}, "early_stopping.metric: val/mcc is undef"),
            (
                ["kind"],
                {"trainer.monitor": "val/log_loss", "loss": "hinge"},
                "needs probabilities, which loss=h",
            ),
            (["kind"], {"trainer.metrics": ["brier"], "loss": "hinge"}, "trainer.metrics: brier needs prob"),
        ],
    ),
)
def test_what_is_never_defined_is_refused_before_training(table, tmp_path, target, changes, words):
    """The sentence says which rows are to blame, and nothing is left of the run."""
    with pytest.raises(ConfigError, match=words):
        slipstream.train(table(target, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("target", "metric"), [(["kind"], "f1_macro"), (["r", "g"], "f1_macro"), (["size"], "rmse")]
)
def test_what_is_defined_is_not(table, target, metric):
    """A mean over classes is over those that are there, and is monitored."""
    result = slipstream.train(table(target, {"trainer.monitor": f"val/{metric}"}))
    assert result.best[f"val/{metric}"] is not None
    assert result.best_epoch > 0


@pytest.mark.slow
def test_without_a_value_in_any_epoch_the_last_one_is_kept(table, tmp_path, capsys):
    """Kappa has none where the only class is always predicted, which no one knows before."""
    changes = {"trainer.monitor": "val/kappa", "trainer.max_epochs": 3, "trainer.checkpoint_seconds": 0}
    result = slipstream.train(
        table(["kind"], changes | {"initializer": "zeros", "initializer.bias": 1}), tmp_path / "run"
    )
    assert [record["val/kappa"] for record in result.records] == [None] * 3
    assert (result.status, result.best_epoch, result.best) == ("finished", 3, result.last)
    assert "val/kappa was never defined" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["value"] is None
    assert slipstream.load(tmp_path / "run").predict({"a": 1.0}).labels.tolist() == ["usual"]
