"""Requests a second and their latency: `slipstream serve` beside a plain FastAPI handler with the same model.

    python scripts/bench_serve.py [SECONDS]

The handler validates a row by pydantic and calls `slipstream.load(RUN).predict` once for each request, in the
event loop and on one thread of torch's (in FastAPI's threads, or on two, it is slower). Both run under
uvicorn with h11, without an access log, each in a process of its own, and take the same requests of one row
with 20 columns (15 numbers, 5 categories) over connections that stay open. Clients ask again as soon as they
have their answer; all are in one process. Rounds of both servers alternate. Needs the extra `serve`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

import slipstream
from benchmarks.machine import described

ROWS, ROUNDS = 20_000, 3
NETWORKS = ((256, 2), (1024, 4))  # width and depth
CLIENTS = (1, 64)
NUMBERS, WORDS = [f"x{i}" for i in range(15)], [f"c{i}" for i in range(5)]

PLAIN = """
import sys, slipstream, torch, uvicorn
torch.set_num_threads(1)
from fastapi import FastAPI
from pydantic import create_model
numbers, words = [f"x{i}" for i in range(15)], [f"c{i}" for i in range(5)]
Row = create_model("Row", **{n: (float, ...) for n in numbers}, **{w: (str, ...) for w in words})
app, model = FastAPI(), slipstream.load(sys.argv[1])
@app.post("/predict")
async def predict(row: Row):
    found = model.predict(row.model_dump())
    named = dict(zip(map(str, found.classes), found.scores[0].tolist()))
    return {"predictions": [{"prediction": str(found.labels[0]), "probabilities": named}]}
uvicorn.run(app, port=int(sys.argv[2]), http="h11", log_level="error", access_log=False)
"""
OURS = """
import sys
from slipstream.cli import main
main(["serve", sys.argv[1], "--port", sys.argv[2]])
"""


def trained(folder: Path, width: int = 256, depth: int = 2) -> Path:
    """A run on a table of numbers and words, with a network of this size."""
    draw = np.random.default_rng(0)
    made = {name: draw.normal(size=ROWS).round(4) for name in NUMBERS}
    made |= {name: draw.choice(["red", "green", "blue", "grey"], ROWS) for name in WORDS}
    made["y"] = np.where(made["x0"] + made["x1"] + (made["c0"] == "red") > 0, "yes", "no")
    pl.DataFrame(made).write_csv(folder / "t.csv")
    words = [f"data.path={folder / 't.csv'}", "data.target=y", f"model.width={width}", f"model.depth={depth}"]
    words += ["trainer.max_epochs=2", "trainer.progress=none", "logger=none", "trainer.device=cpu"]
    slipstream.train(slipstream.compose("data=table", *words), folder / "run")
    return folder / "run"


def requests() -> list[bytes]:
    """Requests of a row each."""
    draw, made = np.random.default_rng(1), []
    for _ in range(64):
        row = {n: round(float(draw.normal()), 4) for n in NUMBERS} | dict.fromkeys(WORDS, "green")
        body = json.dumps(row).encode()
        head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        made.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return made


async def client(port: int, request: bytes, until: float, found: list[float]) -> None:
    """Ask, wait for the answer, and ask again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (begun := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = await reader.readexactly(size)
        assert b"prediction" in answer, answer
        found.append(time.perf_counter() - begun)
    writer.close()


async def measured(port: int, clients: int, seconds: float) -> tuple[list[float], int]:
    """The seconds of every request, and the number of all, those of a first half second too."""
    found: list[float] = []
    many, warmed = requests(), 0
    for warm in (True, False):
        warmed = len(found)
        found.clear()
        until = time.perf_counter() + (0.5 if warm else seconds)
        await asyncio.gather(*(client(port, many[i % len(many)], until, found) for i in range(clients)))
    return found, warmed + len(found)


def processor_seconds(pid: int) -> float:
    """The processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def up(port: int) -> None:
    """Wait until a server listens."""
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    sys.exit(f"nothing listens on port {port}")


async def compared(run: Path, seconds: float) -> None:
    """Measure both servers in turn and print a table."""
    servers = {"plain FastAPI": (PLAIN, 18471), "slipstream serve": (OURS, 18472)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(run), str(port)], stdout=subprocess.DEVNULL)
        for code, port in servers.values()
    ]
    pids = {name: process.pid for name, process in zip(servers, processes, strict=True)}
    try:
        results: dict[tuple[str, int], list[tuple[float, ...]]] = {}
        for _, port in servers.values():
            await up(port)
        for _ in range(ROUNDS):
            for clients in CLIENTS:
                for name, (_, port) in servers.items():
                    before = processor_seconds(pids[name])
                    found, all_of_them = await measured(port, clients, seconds)
                    spent = (processor_seconds(pids[name]) - before) / all_of_them * 1000
                    p50, p99 = np.percentile(np.array(found) * 1000, (50, 99))
                    results.setdefault((name, clients), []).append((len(found) / seconds, p50, p99, spent))
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    print("| server | clients | requests a second | p50, ms | p99, ms | processor, ms a request |")
    print("| --- | --- | --- | --- | --- | --- |")
    for clients in CLIENTS:
        for name in servers:
            rate, p50, p99, spent = np.median(results[name, clients], axis=0)
            print(f"| {name} | {clients} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {spent:.2f} |")


def main() -> None:
    """Train runs, start both servers for each, measure."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    print(f"{described('cpu')}; {ROUNDS} rounds of {seconds:g} s, medians")
    for width, depth in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            run = trained(Path(folder), width, depth)
            print(f"\na network of {depth} layers of {width:,}\n", flush=True)
            asyncio.run(compared(run, seconds))


if __name__ == "__main__":
    main()
