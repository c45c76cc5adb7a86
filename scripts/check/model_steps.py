#!/usr/bin/env python3
"""Training steps of GPT-2 124M (f32, a short sequence, bf16) and of the character model: the compiled program and PyTorch
(eager, torch.compile) in turns.

All programs of a model are started once, brought past their first steps, and stopped (SIGSTOP). Then each goes on for some
seconds while the others stand still, again and again. A step that a stop fell into is not counted. What is printed is the
median of all steps, and the median over the turns of how many times as fast ours was. The programs of PyTorch are
gpt2_step.py and nanogpt_char.py beside this file, run by the Python that runs it; without torch, ours run alone.

Data is made up: ids at random. The programs, data and runs lie in build/bench/.

usage: model_steps.py [--quick] [--models gpt2,gpt2-64,gpt2-bf16,char] [--threads N] [--no-compile] [--ink build/bin/ink]
"""
import argparse
import array
import importlib.util
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# the model's file, batch and sequence of a step, what it is computed in; vocabulary, width and layers, of which FLOPs are counted
GPT2 = dict(model="gpt2", batch=4, seq=256, dtype="f32", vocab=50257, d=768, layers=12)
MODELS = {
    "gpt2": GPT2,
    "gpt2-64": GPT2 | dict(seq=64),
    "gpt2-bf16": GPT2 | dict(dtype="bf16"),
    "char": dict(model="char", batch=12, seq=64, dtype="f32", vocab=65, d=128, layers=4),
}
FIRST = 3  # steps before turns begin: pages, clocks, compilation
PATIENCE = 900  # seconds for them, and for the steps of a turn


def step_flops(m):
    """As the compiled program counts them: three times the products and the full attention of the forward pass."""
    token = m["layers"] * 24 * m["d"] ** 2 + 2 * m["vocab"] * m["d"] + m["layers"] * 4 * m["seq"] * m["d"]
    return 3 * token * m["batch"] * m["seq"]


class Side:
    """A program that writes a line for each step: times() are those of whole lines so far, in milliseconds."""

    def __init__(self, name, command, log, times_of, work):
        self.name, self.log, self.times_of = name, log, times_of
        self.errors = work / f"{name.replace(' ', '-')}.log"
        with open(self.errors, "w") as out:
            self.process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=out, cwd=ROOT)
        self.all, self.turns = [], []

    def times(self):
        try:
            text = self.log.read_text()
        except FileNotFoundError:
            return []
        lines = text.split("\n")[:-1]  # the last one may not be whole
        return [t for t in map(self.times_of, lines) if t is not None]

    def wait(self, steps):
        """Until it has done so many steps; all their times."""
        end = time.monotonic() + PATIENCE
        while len(t := self.times()) < steps:
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self.name} did not come to step {steps}; {self.errors} says:\n"
                                 + self.errors.read_text()[-2000:])
            time.sleep(0.005)
        return t

    def turn(self, seconds, least):
        before = len(self.times())
        self.process.send_signal(signal.SIGCONT)
        time.sleep(seconds)
        done = self.wait(before + 1 + least)[before + 1:]
        self.process.send_signal(signal.SIGSTOP)
        self.all += done
        self.turns.append(statistics.median(done))

    def end(self):
        self.process.kill()
        self.process.wait()


def ours_time(line):
    return json.loads(line)["step_ms"]


def torch_time(line):
    return float(line.split(", ")[1].split()[0]) if line.startswith("step ") else None


def write_ids(path, vocab, n):
    """A shard in llm.c's format."""
    ids = array.array("H", random.Random(1).choices(range(vocab), k=n))
    with open(path, "wb") as f:
        array.array("i", [20240520, 1, n] + [0] * 253).tofile(f)
        ids.tofile(f)


def commands(name, m, a, work):
    """(side's name, command, file with its lines, parser) of each program."""
    data, run, program = work / "train_000000.bin", work / "run", work / name
    write_ids(data, m["vocab"], 400000)
    shutil.rmtree(run, ignore_errors=True)
    subprocess.run([a.ink, "build", ROOT / f"models/{m['model']}.yaml", "--for", "train", "--quiet", "--batch", str(m["batch"]),
                    "--seq", str(m["seq"]), "--set", f"dtype={m['dtype']}", "-o", program], check=True, cwd=ROOT)
    yield ("ours", [program, "--data", data, "--run", run, "--steps", 1000000, "--threads", a.threads, "--set", "eval.every=0"],
           run / "metrics.jsonl", ours_time)
    if not importlib.util.find_spec("torch"):
        print(f"{sys.executable} has no torch: ours alone")
        return
    if m["model"] == "gpt2":
        peer = [sys.executable, HERE / "gpt2_step.py", "--batch", m["batch"], "--seq", m["seq"], "--steps", 1000000]
        peer += ["--bf16"] if m["dtype"] == "bf16" else []
    else:
        text = work / "input.txt"
        text.write_text("".join(random.Random(1).choices([chr(48 + i) for i in range(m["vocab"])], k=400000)))
        peer = [sys.executable, HERE / "nanogpt_char.py", text, "--iters", 1000000, "--step-times"]
    peer += ["--threads", a.threads]
    yield "torch", peer, work / "torch.log", torch_time
    if not a.no_compile:
        yield "torch compiled", peer + ["--compile"], work / "torch-compiled.log", torch_time


def measure(name, m, a):
    work = ROOT / "build/bench" / name
    work.mkdir(parents=True, exist_ok=True)
    sides = []
    try:
        for side, command, log, times_of in commands(name, m, a, work):
            s = Side(side, command, log, times_of, work)
            sides.append(s)
            s.wait(FIRST)
            s.process.send_signal(signal.SIGSTOP)
        turns, seconds, least = (2, 0.5, 1) if a.quick else (7, 3, 3)
        for _ in range(turns):
            for s in sides:
                s.turn(seconds, least)
    finally:
        for s in sides:
            s.end()
    for s in sides:
        ms = statistics.median(s.all)
        ratio = statistics.median(b / o for b, o in zip(s.turns, sides[0].turns))
        faster = "" if s is sides[0] else f"  ours {ratio:.2f}x"
        print(f"{name:9} {m['batch']:3} x {m['seq']:<5} {a.threads:3}  {s.name:15} {ms:9.2f} ms  "
              f"{m['batch'] * m['seq'] * 1e3 / ms:9.1f} tokens/s  {step_flops(m) / ms / 1e6:8.1f} GFLOP/s{faster}", flush=True)
    shutil.rmtree(work / "run", ignore_errors=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--quick", action="store_true", help="two turns of half a second")
    ap.add_argument("--models", default=",".join(MODELS))
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes to begin")
    ap.add_argument("--ink", default=ROOT / "build/bin/ink")
    a = ap.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no program is left standing
    for name in a.models.split(","):
        if name not in MODELS:
            raise SystemExit(f"no model '{name}'; there are {', '.join(MODELS)}")
        measure(name, MODELS[name], a)


main()
