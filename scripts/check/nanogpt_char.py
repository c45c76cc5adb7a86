#!/usr/bin/env python3
"""nanoGPT's character model (CPU setup) in plain PyTorch: the loss and the wall time to hold models/char.yaml against.

4 layers, 4 heads, d 128, context 64, batch 12, 2000 iterations, lr 1e-3 to 1e-4 (cosine, 100 warm-up), AdamW .9/.99,
decay .1 on matrices, clip 1, no biases, tied embeddings, exact GELU, no dropout. Batches are random positions, as in
nanoGPT. Validation is the whole last tenth of the text in windows of 64, not nanoGPT's estimate on 20 batches.

usage: nanogpt_char.py INPUT.txt [--iters N] [--stop N] [--seed S] [--threads N] [--unfused] [--compile] [--step-times]
"""
import argparse
import math
import sys
import time

import numpy as np
import torch

sys.dont_write_bytecode = True  # no __pycache__ in the source tree
from gpt import GPT, adamw  # noqa: E402

CTX, BATCH, WARMUP, LR, FLOOR = 64, 12, 100, 1e-3, 1e-4


def lr_at(it, iters):
    if it < WARMUP:
        return LR * (it + 1) / (WARMUP + 1)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * (it - WARMUP) / max(1, iters - WARMUP))) * (LR - FLOOR)


def whole_loss(model, data):
    n = (len(data) - 1) // CTX
    x, y = data[:n * CTX].view(n, CTX), data[1:n * CTX + 1].view(n, CTX)
    model.eval()
    with torch.no_grad():
        total = sum(model(x[i:i + 64], y[i:i + 64], "sum").item() for i in range(0, n, 64))
    model.train()
    return total / (n * CTX)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("input")
    ap.add_argument("--iters", type=int, default=2000, help="length of the schedule")
    ap.add_argument("--stop", type=int, default=0, help="leave after this many iterations of the schedule")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--unfused", action="store_true", help="AdamW with one operation a kernel")
    ap.add_argument("--compile", action="store_true", help="the model through torch.compile; eager otherwise")
    ap.add_argument("--step-times", action="store_true", help="print every step's time, and no validation")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    raw = np.frombuffer(open(a.input, "rb").read(), dtype=np.uint8)
    chars = np.unique(raw)
    data = torch.from_numpy(np.searchsorted(chars, raw).astype(np.int64))
    cut = int(len(data) * 0.9)
    train, val = data[:cut], data[cut:]
    model = GPT(len(chars), CTX, 128, 4, 4, bias=False, gelu="none")
    opt = adamw(model, LR, (0.9, 0.99), 0.1, not a.unfused)
    span = torch.arange(CTX)
    print(f"torch {torch.__version__}, {a.threads} threads, {sum(p.numel() for p in model.parameters())} parameters, "
          f"{len(chars)} characters, train {len(train)}, val {len(val)}")
    forward = torch.compile(model) if a.compile else model
    first = 0.0 if a.step_times else whole_loss(model, val)
    stop = a.stop or a.iters
    start = time.perf_counter()
    for it in range(stop):
        began = time.perf_counter()
        for g in opt.param_groups:
            g["lr"] = lr_at(it, a.iters)
        at = torch.randint(len(train) - CTX, (BATCH, 1)) + span
        loss = forward(train[at], train[at + 1])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if a.step_times:
            print(f"step {it}: loss {loss.item():.4f}, {(time.perf_counter() - began) * 1e3:.3f} ms", flush=True)
        elif (it + 1) % 250 == 0:
            print(f"iteration {it + 1}: loss {loss.item():.4f}, {time.perf_counter() - start:.1f} s", flush=True)
    wall = time.perf_counter() - start
    if a.step_times:
        return
    print(f"seed {a.seed}: val {first:.4f} -> {whole_loss(model, val):.4f} after {stop} iterations, training {wall:.1f} s, "
          f"{stop * BATCH * CTX / wall:.0f} tokens/s")


main()
