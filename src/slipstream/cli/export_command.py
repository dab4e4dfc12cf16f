"""`slipstream export RUN --to onnx`: a folder that predicts without slipstream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slipstream.cli.commands import CommandParser, warnings_shown

WHAT = """Write a folder that predicts without slipstream, and check it against the run's own scores.

It contains the network with its preprocessing (model.onnx, or model.pt2 from torch.export), vocabulary.json,
a loader predict.py that needs only numpy and onnxruntime (or torch), and a model card. RUN is the folder of a
run, of a member of a sweep, or of a sweep. For a sweep, the seeds or folds of its best trial are exported
together. onnx needs the packages onnx, onnxscript and onnxruntime."""
EXAMPLES = (
    "slipstream export outputs/mine",
    "slipstream export outputs/mine --to onnx -o exported/mine",
    "slipstream export outputs/mine --to torch",
)
FORMATS = ("onnx", "torch")


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("export", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run or a sweep")
    made.add_argument(
        "--to", choices=FORMATS, default="onnx", help="onnx (default), or torch for a .pt2 file"
    )
    made.add_output("a new folder; exported/NAME-onnx by default")
    return made


def run(arguments: Sequence[str]) -> int:
    """Export the run, check the export and return the exit code."""
    given = parser().parse_args(list(arguments))
    from slipstream.core.console import console
    from slipstream.inference.ensemble import open_run
    from slipstream.inference.export.exporting import export

    screen = console()
    with warnings_shown(screen):
        folder = Path(given.output or Path("exported") / f"{Path(given.run).resolve().name}-{given.to}")
        made = export(open_run(given.run), given.to, folder)
    screen.print(f"{made.checked}.", soft_wrap=True)
    screen.print(f"written: {', '.join(map(str, made.files))}", soft_wrap=True)
    return 0
