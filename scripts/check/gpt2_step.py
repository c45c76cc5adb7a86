#!/usr/bin/env python3
"""Times PyTorch's training step of GPT-2 124M on this CPU, in f32 or bf16: the peer of the compiled program's tokens/s.

Prints the median time of a step (forward, backward, clipping, AdamW), tokens/s, and the share of the machine's peak when
--peak gives it (GFLOP/s of all threads together, measured in the same hour, as by `ink machine`; clocks drift): of f32
multiply-adds, or of bf16 dot products. FLOPs are counted as the compiled program counts them: 3 x (products of the forward +
full attention). --bf16 is autocast around forward and loss: products and attention in bf16; weights, their gradients and
AdamW stay f32, as in our programs of dtype bf16.

usage: gpt2_step.py [--batch 4] [--seq 256] [--steps 7] [--threads 2] [--peak GFLOPS] [--unfused] [--compile] [--bf16]
"""
import argparse
import statistics
import sys
import time

import torch

sys.dont_write_bytecode = True  # no __pycache__ in the source tree
from gpt import GPT, adamw  # noqa: E402

VOCAB, D, LAYERS, HEADS, CTX = 50257, 768, 12, 12, 1024


def step_flops(b, t):
    per_token = LAYERS * 2 * 12 * D * D + 2 * VOCAB * D + LAYERS * 4 * t * D
    return 3 * per_token * b * t


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--batch", type=int, default=4)
    ap.add_argument("--seq", type=int, default=256)
    ap.add_argument("--steps", type=int, default=7, help="timed steps, after one that warms up")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--peak", type=float, default=0)
    ap.add_argument("--unfused", action="store_true", help="AdamW with one operation a kernel")
    ap.add_argument("--compile", action="store_true", help="the model through torch.compile; eager otherwise")
    ap.add_argument("--bf16", action="store_true", help="forward and loss under autocast to bf16")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = GPT(VOCAB, CTX, D, LAYERS, HEADS, bias=True, gelu="tanh")
    opt = adamw(model, 3e-4, (0.9, 0.95), 0.1, not a.unfused)
    forward = torch.compile(model) if a.compile else model
    tokens = torch.randint(VOCAB, (a.batch, a.seq + 1))
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    times = []
    for i in range(a.steps + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
            loss = forward(x, y)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        times.append(time.perf_counter() - start)
        print(f"step {i}: loss {loss.item():.4f}, {times[-1] * 1e3:.0f} ms{' (warm-up)' if i == 0 else ''}", flush=True)
    median = statistics.median(times[1:])
    gflops = step_flops(a.batch, a.seq) / median / 1e9
    share = f", {100 * gflops / a.peak:.1f}% of {a.peak:.0f}" if a.peak else ""
    print(f"torch {torch.__version__}{' compiled' if a.compile else ''}{' bf16' if a.bf16 else ''}, "
          f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M parameters, batch {a.batch}, "
          f"sequence {a.seq}, {a.threads} threads: median {median * 1e3:.0f} ms/step, "
          f"{a.batch * a.seq / median:.1f} tokens/s, {gflops:.1f} GFLOP/s{share}")


main()
