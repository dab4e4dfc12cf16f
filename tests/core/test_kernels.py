"""What a process computes with: MKL's mode, kept when a run is resumed, and kernels that processors share."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slipstream
from harness import small, tiny, train
from sampling import exhaustive_after
from slipstream.core import kernels
from slipstream.core.errors import ConfigError
from slipstream.runs import resuming, setup

ROOT = Path(__file__).resolve().parents[2]
ASK = "import slipstream; from slipstream.core import kernels; print(kernels.mode())"


def run(*words, **environment):
    """What a fresh Python prints, without this process's mode."""
    inherited = {key: value for key, value in os.environ.items() if key not in kernels.PORTABLE}
    inherited |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=inherited, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


pytestmark = pytest.mark.skipif(kernels.mode() is None, reason="this torch has no MKL")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "environment", "expected"),
    exhaustive_after(
        2,
        [
            (ASK, {"MKL_CBWR": "COMPATIBLE"}, "COMPATIBLE"),
            (f"import torch; torch.ones(2, 2) @ torch.ones(2, 2); {ASK}", {}, ""),
            (ASK, {}, "AUTO,STRICT"),
            (ASK, {"MKL_CBWR": ""}, ""),
            (f"import torch; {ASK}", {}, "AUTO,STRICT"),
        ],
    ),
    ids=["a user's own", "too late", "usual", "none", "torch first"],
)
def test_the_mode_in_effect(program, environment, expected):
    """Slipstream's own unless the user has one; MKL is asked, so that one set too late is not believed."""
    assert run("-c", program, **environment) == expected


@pytest.mark.slow
def test_a_resumed_run_computes_in_the_mode_it_began_with(tmp_path):
    """Recorded with the run, and set again before torch is loaded, whatever the environment has then."""
    folder = tmp_path / "run"
    words = ["data=iris", "trainer.max_epochs=1", "trainer.progress=none", "logger=none"]
    set_then = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}
    run(ROOT / "train.py", *words, f"hydra.run.dir={folder}", **set_then)
    run(ROOT / "train.py", f"resume={folder}", "trainer.max_epochs=2")
    told = json.loads((folder / "summary.json").read_text())
    assert (told["epochs"], told["mkl_cbwr"], told["cpu_capability"]) == (2, "COMPATIBLE", "DEFAULT")


def test_a_mode_that_cannot_be_had_any_more_is_told(tmp_path):
    """This process has computed: a run of another mode goes on with a warning, one of this mode without."""
    (warning,) = resuming.other_kernels(tmp_path, {"mkl_cbwr": "COMPATIBLE"})
    assert "set MKL_CBWR=COMPATIBLE before starting Python" in warning
    assert resuming.other_kernels(tmp_path, {"mkl_cbwr": kernels.mode()}) == []
    assert len(resuming.other_kernels(tmp_path, {})) == 1  # runs of before had none
    same = {"mkl_cbwr": kernels.mode(), "cpu_capability": kernels.capability()}
    assert resuming.other_kernels(tmp_path, same) == []
    (warning,) = resuming.other_kernels(tmp_path, same | {"cpu_capability": "another"})
    assert "was trained with another, but this process has" in warning


def test_a_folder_chooses_a_mode_and_nothing_else(monkeypatch):
    """A run folder may come from anyone: only MKL's own names reach the environment."""
    monkeypatch.setenv(kernels.VARIABLE, "AVX2")
    for recorded, expected in (("$(id)", "AVX2"), (["AVX512"], "AVX2"), (None, "AVX2"), ("", "")):
        kernels.use(recorded)
        assert kernels.asked() == expected


@pytest.mark.slow
@pytest.mark.parametrize("width", exhaustive_after(2, [7, 25, 5, 10, 23, 30, 50]))
def test_a_members_bytes_do_not_depend_on_where_its_matrices_lie(width):
    """Real sizes whose P is no multiple of a vector register: in every other place of a pack a layer's
    matrix has another alignment, by which MKL chose another kernel."""
    changes = {"data": "iris", "data.batch_size": 7, "model.width": width, "model.depth": 2}
    changes |= {"activation": "relu", "optimizer": "sgd", "optimizer.lr": 0.05}
    configs = [tiny(changes, seed=seed) for seed in range(5)]
    (data,), _ = setup.load_all(configs[:1])
    together = train(configs, data)
    for places in ([1, 0], [4, 3, 2, 1, 0], [3, 4, 1]):
        found = train([configs[k] for k in places], data)
        for place, k in enumerate(places):
            assert found.bytes(place) == together.bytes(k), (places, k)


# Portable bits

# Trains each configuration alone or beside others, and prints what must not differ, as SHA-256.
TRAIN = """
import hashlib, sys
from pathlib import Path
import slipstream

count, folder, *lines = sys.argv[1:]
for number, line in enumerate(lines):
    raw = slipstream.compose("logger=none", "trainer.max_epochs=1", *line.split())
    raws = [{**raw, "seed": seed} for seed in range(int(count))]
    places = [Path(folder) / f"{number}-{seed}" for seed in range(int(count))]
    slipstream.train_pack(raws, places)
    found = hashlib.sha256()
    last = max(places[0].glob("checkpoints/*"))  # how many are kept before it depends on the clock
    for file in (*sorted(last.glob("*.safetensors")), places[0] / "metrics.jsonl"):
        found.update(file.read_bytes())
    print(found.hexdigest())
"""
LINES = [
    "data=digits data.batch_size=64 regularizer=[dropout]",
    "data=diabetes optimizer=muon activation=gelu regularizer=[batch_norm]",
    "data=digits model=convnet model.channels=4 augmentation=[rotation]",
]
# What differs between processors beside MKL's and torch's kernels, without what AVX-512 adds.
NARROW = {
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
ENVIRONMENTS = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "1", **NARROW},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "", "OMP_NUM_THREADS": "2"},
    "usual": {"OMP_NUM_THREADS": "4"},
}


@pytest.fixture(scope="module")
def vendors(tmp_path_factory):
    """Libraries before MKL's own, which tell it that the processor is Intel's, or that it is not."""
    if not sys.platform.startswith("linux") or not shutil.which("gcc"):
        return []
    folder, made = tmp_path_factory.mktemp("vendors"), []
    for answer in (0, 1):
        source, library = folder / f"{answer}.c", folder / f"{answer}.so"
        names = ("mkl_serv_intel_cpu", "mkl_serv_intel_cpu_true")
        source.write_text("".join(f"int {name}(void) {{ return {answer}; }}\n" for name in names))
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        made.append({"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"})
    return made


def hashes(tmp_path, lines, count, environment):
    """The SHA-256 of each configuration in a fresh process."""
    folder = tmp_path / hashlib.sha256(repr((lines, count, environment)).encode()).hexdigest()
    return run("-c", TRAIN, count, folder, *lines, **environment).split()


@pytest.mark.slow
@pytest.mark.parametrize("which", exhaustive_after(1, ["extremes", "others"]))
def test_portable_bits_are_those_of_every_processor_thread_count_and_pack(tmp_path, vendors, which):
    """Weights, optimizer and metrics: one SHA-256 under AVX2, AVX-512 and neither, for 1, 2 and 4 threads,
    for MKL's kernels for Intel and for others, alone, and beside one or two others."""
    lines = [f"{line} trainer.portable=true" for line in LINES]
    environments = [ENVIRONMENTS["usual"], ENVIRONMENTS["avx2"], *vendors]
    if which == "extremes":  # the most different ones: the narrowest registers and the widest
        environments = [ENVIRONMENTS["default"], ENVIRONMENTS["usual"]]
    found = [hashes(tmp_path, lines, 1 + n % 3, each) for n, each in enumerate(environments)]
    assert len(found[0]) == len(LINES)
    assert found == found[:1] * len(found)


@pytest.mark.slow
def test_other_bits_are_not(tmp_path):
    """The same comparison can fail: without trainer.portable a configuration differs."""
    one, other = (hashes(tmp_path, LINES[:1], 1, ENVIRONMENTS[name]) for name in ("default", "usual"))
    assert one != other


@pytest.mark.exhaustive  # that such code is for AVX2, training/test_compilation.py shows
def test_portable_bits_compiled(tmp_path):
    """Compiled code is made for AVX2, whatever vector registers this processor has."""
    if not shutil.which("g++"):
        pytest.skip("nothing to compile with")
    lines = ["data=diabetes model.depth=1 activation=gelu trainer.portable=true trainer.compile=true"]
    environments = [ENVIRONMENTS["avx2"], ENVIRONMENTS["usual"]]
    own = [each | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / str(n))} for n, each in enumerate(environments)]
    found = [hashes(tmp_path, lines, 1 + n % 2, each) for n, each in enumerate(own)]
    assert found == found[:1] * len(found)


@pytest.mark.exhaustive  # that the key has the instructions, training/test_compilation.py shows
@pytest.mark.skipif(not shutil.which("g++"), reason="nothing to compile with")
def test_compiled_code_is_not_kept_for_other_instructions(tmp_path):
    """Inductor's key does not tell for which vector registers code is: what AVX-512 left crashed AVX2."""
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kept"), "OMP_NUM_THREADS": "1"}
    lines = ["data=iris model.depth=1 optimizer=sgd trainer.compile=true"]
    narrow = kept | {"ATEN_CPU_CAPABILITY": "avx2"}
    fresh = narrow | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "fresh")}
    _, found, expected = (hashes(tmp_path, lines, 1, each) for each in (kept, narrow, fresh))
    assert found == expected


@pytest.mark.exhaustive  # of packs and threads the test of portable bits has the bytes
def test_a_member_of_a_portable_sweep_is_the_run_alone(tmp_path):
    """A sweep and a run by the command line, which is interrupted and resumed with other threads."""
    words = ["data=iris", "trainer.portable=true", "trainer.progress=none", "logger=none"]
    words += ["early_stopping=none"]
    sweep, alone = tmp_path / "sweep", tmp_path / "alone"
    run(
        *(ROOT / "train.py", "-m", *words, "trainer.max_epochs=4", "seed=0,1", f"hydra.sweep.dir={sweep}"),
        OMP_NUM_THREADS="2",
    )
    run(ROOT / "train.py", *words, "seed=1", "trainer.max_epochs=2", f"hydra.run.dir={alone}")
    run(ROOT / "train.py", f"resume={alone}", "trainer.max_epochs=4", OMP_NUM_THREADS="4", MKL_CBWR="AVX2")
    told = json.loads((alone / "summary.json").read_text())
    assert (told["mkl_cbwr"], told["threads"], told["packed"]) == ("COMPATIBLE", 1, True)
    assert (alone / "metrics.jsonl").read_bytes() == (sweep / "1" / "metrics.jsonl").read_bytes()
    newest = [max(folder.glob("checkpoints/step-*")) for folder in (alone, sweep / "1")]
    for name in ("weights", "optimizer", "best"):
        one, other = (folder / f"{name}.safetensors" for folder in newest)
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.dtype=bfloat16"], "use trainer.dtype=float32"),
        (["trainer.device=cuda"], "use trainer.device=cpu"),
        (["early_stopping=time_limit"], "early_stopping=time_limit stops a run by the clock"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_portable_is_refused_by_name(words, said):
    """Products that processors round otherwise, another device, and the clock."""
    with pytest.raises(ConfigError, match=said):
        small("trainer.portable=true", *words)


def test_one_sweep_has_one_kind_of_kernels():
    """A process cannot change them."""
    with pytest.raises(ConfigError, match=r"trainer.portable: is the same for all members"):
        slipstream.sweep({"trainer.portable": [False, True]})


def test_portable_kernels_that_come_too_late_are_refused(monkeypatch):
    """This process has computed: the message says what to set, and the environment stays as it was."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "mine")
    with pytest.raises(
        ConfigError, match=r"MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=avx2 before starting Python"
    ):
        slipstream.train(small("trainer.portable=true"))
    assert os.environ["ATEN_CPU_CAPABILITY"] == "mine"


def test_threads_beside_portable_kernels_are_told():
    """They have no effect, which is said."""
    told = setup.warnings(tiny({"trainer.portable": True, "trainer.threads": 4}), train(tiny()).engine)
    assert "trainer.threads is 4, but trainer.portable uses one thread" in told
