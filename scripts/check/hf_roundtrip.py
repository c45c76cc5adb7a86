#!/usr/bin/env python3
"""Does transformers read what a training program writes, and the other way round?

logits: loads RUN/checkpoints/latest with AutoModelForCausalLM and compares its logits with those the program wrote
        (--logits FILE of the program, a safetensors tensor `logits` [T, vocab] on the first T tokens of --tokens).
        Passes when they differ by at most 1e-4 of the largest.
loss:   the same model's mean loss over every full window of a token shard against the last val_loss in RUN/metrics.jsonl
        (the program trained with --val SHARD and eval.batches=0), within 1e-4 relative.
bytes:  saves a randomly initialised model of FOLDER's config.json with save_pretrained, lets the program import and save
        it (--init, --steps 0) and compares model.safetensors byte for byte. What differs is named.

usage: hf_roundtrip.py logits RUN --tokens SHARD --ours LOGITS.safetensors
       hf_roundtrip.py loss   RUN --tokens SHARD [--seq T]
       hf_roundtrip.py bytes  PROGRAM FOLDER --tokens SHARD
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM


def tokens_of(path):
    head = np.fromfile(path, dtype="<i4", count=256)
    if head[0] == 20240520:
        t = np.fromfile(path, dtype="<u2", offset=1024)
    elif head[0] == 20240801:
        t = np.fromfile(path, dtype="<u4", offset=1024)
    else:
        sys.exit(f"{path}: no token shard")
    return torch.from_numpy(t[:head[2]].astype(np.int64))


def load_run(run):
    folder = os.path.join(run, "checkpoints", "latest")
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            sys.exit(f"{folder}: {kind}: {sorted(info[kind])}")
    print(f"{folder}: {type(model).__name__}, {sum(p.numel() for p in model.parameters())} parameters, "
          f"{'tied' if model.config.tie_word_embeddings else 'untied'}")
    return model.eval()


def check_logits(a):
    model, tokens = load_run(a.run), tokens_of(a.tokens)
    ours = load_file(a.ours)["logits"].astype(np.float64)
    ours = ours.reshape(-1, ours.shape[-1])
    with torch.no_grad():
        theirs = model(tokens[None, :len(ours)]).logits[0].double().numpy()
    if ours.shape != theirs.shape:
        sys.exit(f"logits are {list(ours.shape)} here and {list(theirs.shape)} in transformers")
    off = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"logits: largest difference {off:.3g} of the largest logit")
    return off <= 1e-4


def check_loss(a):
    model, tokens = load_run(a.run), tokens_of(a.tokens)
    t = a.seq or getattr(model.config, "n_positions", None) or model.config.max_position_embeddings
    n = (len(tokens) - 1) // t
    total = 0.0
    with torch.no_grad():
        for w in range(n):
            logits = model(tokens[None, w * t:w * t + t]).logits[0]
            total += torch.nn.functional.cross_entropy(logits, tokens[w * t + 1:w * t + t + 1], reduction="sum").item()
    theirs, ours = total / (n * t), None
    for line in open(os.path.join(a.run, "metrics.jsonl")):
        ours = json.loads(line).get("val_loss", ours)
    if ours is None:
        sys.exit(f"{a.run}/metrics.jsonl holds no val_loss")
    print(f"loss over {n} windows of {t}: transformers {theirs:.8g}, val_loss {ours:.8g}, {abs(ours / theirs - 1):.3g} apart")
    return abs(ours / theirs - 1) <= 1e-4


def split(path):
    b = open(path, "rb").read()
    n = int.from_bytes(b[:8], "little")
    return b, b[8:8 + n], b[8 + n:]


def check_bytes(a):
    with tempfile.TemporaryDirectory() as work:
        torch.manual_seed(5)
        saved, run = os.path.join(work, "saved"), os.path.join(work, "run")
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(a.folder)).float().save_pretrained(saved)
        subprocess.run([os.path.abspath(a.program), "--data", a.tokens, "--init", saved, "--steps", "0", "--run", run],
                       check=True)
        want, want_head, want_data = split(os.path.join(saved, "model.safetensors"))
        got, got_head, got_data = split(os.path.join(run, "checkpoints", "latest", "model.safetensors"))
        if got == want:
            print(f"bytes: the same {len(want)}")
            return True
        if got_head != want_head:
            at = next((i for i, (x, y) in enumerate(zip(got_head, want_head)) if x != y), min(len(got_head), len(want_head)))
            print(f"headers differ at byte {at}: {len(got_head)} and {len(want_head)} long")
            print(f"  here         ...{got_head[max(0, at - 60):at + 60]}")
            print(f"  transformers ...{want_head[max(0, at - 60):at + 60]}")
        theirs, ours = json.loads(want_head), json.loads(got_head)
        for name in sorted(set(theirs) | set(ours)):
            x, y = ours.get(name), theirs.get(name)
            if x is None or y is None:
                print(f"  {name}: only {'in transformers' if x is None else 'here'}")
            elif name != "__metadata__":
                xs, ys = got_data[slice(*x["data_offsets"])], want_data[slice(*y["data_offsets"])]
                if x["shape"] != y["shape"] or xs != ys:
                    print(f"  {name}: {x['shape']} and {y['shape']}, data {'equal' if xs == ys else 'different'}")
        return False


def main():
    ap = argparse.ArgumentParser()
    sub = ap.add_subparsers(dest="what", required=True)
    p = sub.add_parser("logits")
    p.add_argument("run")
    p.add_argument("--ours", required=True)
    p.add_argument("--tokens", required=True)
    p.set_defaults(check=check_logits)
    p = sub.add_parser("loss")
    p.add_argument("run")
    p.add_argument("--tokens", required=True)
    p.add_argument("--seq", type=int, default=0, help="window; 0: the model's context")
    p.set_defaults(check=check_loss)
    p = sub.add_parser("bytes")
    p.add_argument("program")
    p.add_argument("folder")
    p.add_argument("--tokens", required=True)
    p.set_defaults(check=check_bytes)
    a = ap.parse_args()
    torch.set_num_threads(1)
    sys.exit(0 if a.check(a) else 1)


main()
