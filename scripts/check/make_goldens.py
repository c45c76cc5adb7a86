#!/usr/bin/env python3
"""Writes tests/golden/{gpt2,llama}: what PyTorch and transformers compute for two tiny models.

What: for each model its initial weights (as save_pretrained writes them), a token shard, the gradients of step 1, the
logits of the first window, and the loss and gradient norm of ten AdamW steps.
Why: tests/golden/run compares compiled programs with them, so PyTorch is needed only to make them.
How: f32 on one CPU thread, plain (eager) attention; every step is done again in f64 to know how far f32 itself is from
the truth. Random numbers come from numpy's Generator (PCG64), whose streams do not change between versions.
Must hold: running it twice writes the same bytes; tests/golden/README.md states the versions used.

usage: make_goldens.py [OUT]        (default: tests/golden beside this script)
"""
import json
import os
import struct
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

VOCAB, T, B, STEPS = 64, 16, 2, 10
LR, BETAS, EPS, DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0
NTOKENS = 4096


def tiny_gpt2():
    cfg = GPT2Config(vocab_size=VOCAB, n_positions=T, n_embd=32, n_layer=2, n_head=2, activation_function="gelu_new",
                     resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, layer_norm_epsilon=1e-5,
                     bos_token_id=0, eos_token_id=0, attn_implementation="eager")
    return GPT2LMHeadModel(cfg)


def tiny_llama():
    cfg = LlamaConfig(vocab_size=VOCAB, max_position_embeddings=T, hidden_size=32, num_hidden_layers=2,
                      num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=48,
                      rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, attention_bias=False,
                      mlp_bias=False, hidden_act="silu", bos_token_id=0, eos_token_id=0, attn_implementation="eager")
    return LlamaForCausalLM(cfg)


def randomize(model, seed):
    """Weights large enough that no gradient is tiny; biases and norm weights away from 0 and 1."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            x = rng.standard_normal(tuple(p.shape))
            if p.dim() >= 2:
                x = x * 0.1
            elif name.endswith("bias"):
                x = x * 0.05
            else:
                x = 1.0 + 0.1 * x
            p.copy_(torch.from_numpy(x.astype(np.float32)))


def token_stream(seed):
    """Mostly predictable: the next token is 5 t + 3 mod 64, one time in four any token."""
    rng = np.random.default_rng(seed)
    out = np.zeros(NTOKENS, dtype=np.uint16)
    t = 1
    for i in range(NTOKENS):
        t = int(rng.integers(VOCAB)) if rng.random() < 0.25 else (5 * t + 3) % VOCAB
        out[i] = t
    return out


def write_shard(path, tokens):
    """llm.c's shard: 256 int32 (magic, version, count, zeros), then uint16 tokens, little endian."""
    with open(path, "wb") as f:
        f.write(struct.pack("<256i", 20240520, 1, len(tokens), *([0] * 253)))
        f.write(tokens.astype("<u2").tobytes())


def windows(tokens, first, n):
    t = torch.from_numpy(tokens.astype(np.int64))
    x = torch.stack([t[w * T:w * T + T] for w in range(first, first + n)])
    y = torch.stack([t[w * T + 1:w * T + T + 1] for w in range(first, first + n)])
    return x, y


def loss_of(model, x, y, reduction="mean"):
    logits = model(input_ids=x).logits
    return torch.nn.functional.cross_entropy(logits.view(-1, VOCAB), y.reshape(-1), reduction=reduction)


def whole_loss(model, tokens):
    """Mean loss over every full window of the stream, the validation loss of a program given the same file."""
    n = (len(tokens) - 1) // T
    with torch.no_grad():
        x, y = windows(tokens, 0, n)
        return loss_of(model, x, y, "sum").double().item() / (n * T)


def train(model, tokens):
    params = dict(model.named_parameters())  # tied ones once, under the name that save_pretrained keeps
    opt = torch.optim.AdamW([{"params": [p for p in params.values() if p.dim() >= 2], "weight_decay": DECAY},
                             {"params": [p for p in params.values() if p.dim() < 2], "weight_decay": 0.0}],
                            lr=LR, betas=BETAS, eps=EPS)
    rows, grads1 = [], None
    for step in range(STEPS):
        opt.zero_grad(set_to_none=True)
        x, y = windows(tokens, step * B, B)
        loss = loss_of(model, x, y)
        loss.backward()
        if grads1 is None:
            grads1 = {n: p.grad.detach().clone().contiguous() for n, p in params.items()}
        norm = torch.nn.utils.clip_grad_norm_(params.values(), CLIP)
        opt.step()
        rows.append((step + 1, loss.item(), norm.item()))
    return rows, grads1


def make(out, name, build, seed):
    torch.manual_seed(seed)
    d = os.path.join(out, name)
    os.makedirs(d, exist_ok=True)
    model = build().float()
    randomize(model, seed)
    model.eval()  # nothing drops out; eval keeps it that way
    model.save_pretrained(os.path.join(d, "init"))
    # Only what a reader needs: weights and the shape of the model.
    for f in os.listdir(os.path.join(d, "init")):
        if f not in ("model.safetensors", "config.json"):
            os.remove(os.path.join(d, "init", f))
    tokens = token_stream(seed + 1000)
    write_shard(os.path.join(d, "tokens.bin"), tokens)
    with torch.no_grad():
        x, _ = windows(tokens, 0, 1)
        logits = model(input_ids=x).logits[0].contiguous()
    save_file({"logits": logits}, os.path.join(d, "logits.safetensors"), metadata={"format": "pt"})

    truth = build()
    truth.load_state_dict(model.state_dict())
    truth = truth.double().eval()
    val0 = whole_loss(truth, tokens)
    rows64, grads64 = train(truth, tokens)
    val10 = whole_loss(truth, tokens)
    rows, grads = train(model, tokens)
    save_file(grads, os.path.join(d, "grads1.safetensors"), metadata={"format": "pt"})
    total = torch.sqrt(sum((g ** 2).sum() for g in grads64.values())).item()
    worst = max(((grads[n].double() - g).norm().item() / max(g.norm().item(), 1e-6 * total), n)
                for n, g in grads64.items())
    with open(os.path.join(d, "steps.txt"), "w") as f:
        f.write("# step loss grad_norm (before clipping); f32\n")
        for s, l, n in rows:
            f.write(f"{s} {l:.9g} {n:.9g}\n")
        f.write(f"# mean loss over all {(NTOKENS - 1) // T} windows: before the first step, after the last\n")
        f.write(f"val {val0:.9g} {val10:.9g}\n")
    for folder, _, files in os.walk(d):
        for f in files:
            os.chmod(os.path.join(folder, f), 0o644)  # the safetensors writer leaves 0600
    drift = max(abs(a[1] - b[1]) / b[1] for a, b in zip(rows, rows64))
    drift_n = max(abs(a[2] - b[2]) / b[2] for a, b in zip(rows, rows64))
    print(json.dumps({"model": name, "parameters": sum(p.numel() for p in model.parameters()),
                      "loss": [rows[0][1], rows[-1][1]], "grad_norm": [rows[0][2], rows[-1][2]],
                      "f32 against f64": {"loss": drift, "grad_norm": drift_n, "gradient": worst},
                      "smallest gradient": min((g.norm().item() / total, n) for n, g in grads64.items())}))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "..", "tests", "golden")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}")
    make(out, "gpt2", tiny_gpt2, 11)
    make(out, "llama", tiny_llama, 12)


main()
