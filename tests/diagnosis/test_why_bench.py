"""scripts/why_bench.py: the cases it measures, how it counts, and what stands beside it."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import why_bench  # noqa: E402
from why_cases import files, healthy_runs, measuring, panel, templates  # noqa: E402

CASES = ROOT / "scripts" / "why_cases"
WORDS = """
learning rate too high; learning rate too low; schedule ends too early; warm-up too long; too few epochs;
early stopping too impatient; min_delta too high; symmetric initialization; initialization too small;
initialization too large; saturated units; dead ReLU units; linear network; network too small;
overfitting; penalty too strong; dropout too strong; noise too strong; label smoothing too strong;
sparsity too high; gradient clipping too tight; momentum too high; batch too large; batch too small;
batch norm with tiny batches; exploding gradients; forgetting recurrent cell; wrong loss; bounded output;
wrong monitor; augmentation destroys labels; inputs not scaled; target not scaled; outliers; no signal;
features without signal; constant features; label noise; class imbalance; leaking feature; identifier
column; duplicates across parts; distribution shift; split in wrong order; leakage by time; input cut
off; average lags; bfloat16 too coarse; wrong structure for the data; frozen parameters; bottleneck;
vanishing gradients; bad prior of the output bias; no warm-up; L2 inside Adam; dropout before batch norm
"""
VERDICTS = {" ".join(word.split()) for word in WORDS.split(";")}


def tables() -> dict[str, list[why_bench.Case]]:
    return {path.stem: why_bench.cases(path) for path in sorted(CASES.glob("*.tsv"))}


def test_verdicts_are_the_words_for_causes():
    """A verdict that nobody could say would count against all."""
    said = {
        word
        for rows in tables().values()
        for case in rows
        if case.verdict
        for word in (case.verdict, *case.also)
    }
    assert said <= VERDICTS
    assert {kind.verdict for kind in templates.KINDS} <= VERDICTS


def test_parts_share_no_data_set():
    """What the held part is measured on, nobody saw while building."""
    data = {part: {one.data for one in templates.BASES if one.part == part} for part in ("dev", "held")}
    assert not data["dev"] & data["held"]
    for name in ("faults", "healthy"):
        for case in tables().get(name, []):
            assert any(
                f"data={one}" in case.arguments or f"/{one}" in case.arguments for one in data[case.part]
            )


def test_a_case_is_clear():
    """Every fault hurts by the margin in the table, and its remedy changes its command line."""
    for case in tables()["faults"]:
        assert measuring.clear(case.faulty, case.mended, case.metric), case.id
        assert measuring.changed(case.arguments, case.remedy) != case.arguments


def test_overrides_replace_and_take_away():
    """The remedies' language: a key is replaced, ~PREFIX takes overrides away, quotes stay."""
    line = 'data=sine scheduler=step scheduler.factor=0.1 \'data.missing=["?",""]\''
    changed = measuring.changed(line, "scheduler=constant ~scheduler.factor trainer.max_epochs=3")
    assert shlex.split(changed) == [
        "data=sine",
        'data.missing=["?",""]',
        "scheduler=constant",
        "trainer.max_epochs=3",
    ]


@pytest.mark.parametrize("part", ["dev", "held"])
def test_every_kind_has_bases_in_both_parts(part):
    """A fault is planted on data sets of each part."""
    for kind in templates.KINDS:
        assert list(templates.eligible(kind, part)), kind.name
    assert len(list(healthy_runs.candidates(part))) > healthy_runs.ENOUGH


def test_files_repeat(tmp_path):
    """The same numbers each time."""
    tables = [files.whole("blobs", 3, 20) for _ in range(2)]
    assert tables[0].equals(tables[1])
    assert tables[0].columns[-1] == files.target_of(tables[0])


@pytest.mark.parametrize(
    ("before", "after", "share"), [(0.5, 0.7, 0.5), (0.5, 0.9, 1.0), (None, 0.82, 1.0), (None, 0.7, 0.0)]
)
def test_share_of_the_harm(before, after, share):
    """Of the harm in the table; a run that broke is mended where it comes near to a sound one."""
    found = measuring.taken_back(before, after, ([0.5, None, 0.5], [0.9, 0.9, 0.9]), "test/accuracy")
    assert found == pytest.approx(share)


def test_share_has_a_wilson_interval():
    """Hand-computed: 9 of 10 lies between 59.6 % and 98.2 %; 0 of 0 says nothing."""
    assert why_bench.share([True] * 9 + [False]) == "9/10 = 90 % (60 ... 98)"
    assert why_bench.share([]) == "-"


def observed(first: float, last: float, dead: float) -> dict[str, float]:
    return {
        "layers/hidden.0.linear.weight/gradient_norm": first,
        "layers/output.linear.weight/gradient_norm": last,
        "layers/hidden.0/dead": dead,
    }


CURVES = {"low": [0.1, 0.1, 0.1], "swinging": [0.5, 0.9, 0.5, 0.9, 0.5, 0.9], "rising": [0.5, 0.7, 0.8, 0.9]}


@pytest.mark.parametrize(
    ("curve", "seen", "status", "symptoms"),
    [
        ("rising", observed(1, 1, 0.1), "finished", []),
        ("low", observed(1e-6, 1, 0.1), "finished", ["vanishing gradient", "slow convergence"]),
        ("low", observed(100, 1, 0.1), "finished", ["exploding gradient", "slow convergence"]),
        ("rising", observed(1, 1, 0.1), "diverged", ["exploding gradient"]),
        ("low", observed(1, 1, 0.8), "finished", ["dying ReLU", "slow convergence"]),
        ("swinging", observed(1, 1, 0.1), "finished", ["oscillating loss"]),
    ],
)
def test_rules_of_autotrainer(curve, seen, status, symptoms):
    """Each of its symptoms on the observations that raise it, and none on a run that learns."""
    records = [{"train/accuracy": value, "val/accuracy": value} for value in CURVES[curve]]
    assert panel.old_rules(records, [seen], status) == symptoms


@dataclass
class Said:
    cause: str
    remedy: tuple[str, ...]
    confirmed: bool = True


@dataclass
class Answer:
    verdicts: list[Said]
    symptoms: tuple[str, ...] = ()
    trained: int = 2


CASE = why_bench.Case(
    "p000",
    "dev",
    "lr_low",
    "data=two_moons data.rows=200 trainer.max_epochs=4 optimizer.lr=1e-6 model.width=8",
    "test/accuracy",
    verdict="learning rate too low",
    faulty=(0.5, 0.5, 0.5),
    mended=(0.85, 0.85, 0.85),
)


@pytest.fixture(scope="module")
def found():
    """What a right answer, a wrong one and none count as; the random search has two tries."""
    answers = [
        Answer([Said("learning rate too low", ("optimizer.lr=0.05",))]),
        Answer([Said("overfitting", ("seed=5",)), Said("learning rate too low", ())]),
        Answer([]),
    ]
    cases = [CASE, CASE, replace(CASE, verdict="", kind="healthy")]
    asked = zip(cases, answers, strict=True)
    return [why_bench.ask(case, Path(), lambda folder, a=a: a, search=a is answers[0]) for case, a in asked]


@pytest.mark.slow
def test_a_right_answer_counts(found):
    """Named first, and its remedy takes back the harm on fresh seeds; a wrong one is noticed."""
    right, wrong, silent = found
    assert [right.noticed, right.first, right.among] == [True, True, True]
    assert [wrong.noticed, wrong.first, wrong.among] == [True, False, True]
    assert [silent.noticed, silent.faulty] == [False, False]
    assert wrong.regained < 0.5 < right.regained
    assert [right.budget, wrong.budget] == [2, 0]


@pytest.mark.slow
def test_the_report_counts(found):
    """All shares stand in the tables, and each kind has a line."""
    lines = "\n".join(why_bench.report(found, asked=True))
    assert "2 faults, 1 healthy runs" in lines
    assert "named first              1/2 = 50 %" in lines
    assert "first remedy holds       1/2 = 50 %" in lines
    assert "healthy, with a verdict  0/1 = 0 %" in lines
    assert "lr_low" in lines
    assert "overfitting" in lines


def test_a_crash_of_why_is_a_result(monkeypatch):
    """What is measured may fail, and the benchmark says so."""
    found = why_bench.Found("p1", "lr_low", True)

    def broken(folder: Path) -> Answer:
        raise ZeroDivisionError("of what")

    why_bench._diagnose(found, CASE, Path(), broken)
    assert found.error == "ZeroDivisionError: of what"
    assert not found.noticed
