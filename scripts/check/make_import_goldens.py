#!/usr/bin/env python3
"""Writes tests/golden/import/CASE: a tiny checkpoint of every family that ink import reads, and transformers' logits of it.

What: for each case config.json, tensors.txt (a line a tensor: file, dtype, name, shape) and logits.safetensors, the logits
[T, vocab] of the first window of tokens.bin. Weights are not kept: tests/golden/import/weights.c computes them by the
formula of `values` below, from a tensor's name and an element's index.
Why: tests/golden/import/run imports, builds and compares without Python.
How: the checkpoint is written as a user would have it and read by from_pretrained, f32 on one thread, eager attention. Config
files are those of save_pretrained, or, to have older spellings, changed by hand below. InternLM2 is not in transformers: its
weights are taken apart by the published rearrangement and given to a Llama.
Must hold: running it twice writes the same bytes; tests/golden/README.md states the versions used.

usage: make_import_goldens.py [OUT]        (default: tests/golden/import beside this script)
"""
import json
import os
import struct
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB, T, NTOKENS = 64, 32, 1024


def values(name, shape):
    """Element i is x = 2 u - 1 with u the upper 24 bits of splitmix64(fnv1a64(name) + i); matrices x / 8, biases x / 16,
    norms 1 + x / 8. Exact but for the last rounding to f32."""
    h = 0xcbf29ce484222325
    for c in name.encode():
        h = (h ^ c) * 0x100000001b3 % 2**64
    n = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(n, dtype=np.uint64) + np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        z = z ^ (z >> np.uint64(31))
    x = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    if len(shape) > 1:
        v = x / 8
    elif name.endswith("bias"):
        v = x / 16
    else:
        v = 1 + x / 8
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def tokens():
    rng = np.random.default_rng(5)
    return rng.integers(VOCAB, size=NTOKENS).astype(np.uint16)


def gpt2(**more):
    return dict(model_type="gpt2", vocab_size=VOCAB, n_positions=T, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
                eos_token_id=0, **more)


def decoder(kind, **more):
    base = dict(model_type=kind, vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, intermediate_size=48, max_position_embeddings=64, bos_token_id=0, eos_token_id=1,
                pad_token_id=None)
    return dict(base, **more)


def rope(kind, **more):
    return dict(rope_type=kind, **more)


# name: (config for transformers, dtype of the file, shards, changes to the config.json that is kept: None removes a key)
CASES = {
    "gpt2": (gpt2(), "F32", 1, {}),
    "gpt2_bare": (gpt2(), "F32", 1, dict(n_ctx=T, architectures=["GPT2LMHeadModel"], task_specific_params=dict(x=1))),
    "gpt2_untied": (gpt2(n_inner=48, tie_word_embeddings=False), "F32", 1, {}),
    "llama_old": (decoder("llama", tie_word_embeddings=False, num_key_value_heads=4), "F32", 1,
                  dict(rope_parameters=None, rope_theta=10000.0, rope_scaling=json.loads("null"), head_dim=None,
                       num_key_value_heads=None, dtype=None, torch_dtype="float32")),
    "llama_bias": (decoder("llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                           rope_parameters=rope("llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
                                                high_freq_factor=4.0, original_max_position_embeddings=16)), "F32", 1, {}),
    "llama_linear": (decoder("llama", tie_word_embeddings=True,
                             rope_parameters=rope("linear", rope_theta=5000.0, factor=2.5)), "F32", 1,
                     dict(rope_parameters=None, rope_theta=5000.0, rope_scaling=dict(type="linear", factor=2.5))),
    "llama_yarn": (decoder("llama", tie_word_embeddings=False, head_dim=16, max_position_embeddings=256,
                           rope_parameters=rope("yarn", rope_theta=100.0, factor=4.0,
                                                original_max_position_embeddings=64)), "F32", 1, {}),
    "qwen2": (decoder("qwen2", tie_word_embeddings=True, rms_norm_eps=1e-5, use_sliding_window=True, sliding_window=6,
                      max_window_layers=1), "BF16", 1, {}),
    "qwen3": (decoder("qwen3", tie_word_embeddings=False, head_dim=16,
                      rope_parameters=rope("default", rope_theta=1000000.0)), "F32", 3, {}),
    "mistral": (decoder("mistral", tie_word_embeddings=False, head_dim=16, sliding_window=9), "F32", 1, {}),
    "mixtral": (decoder("mixtral", tie_word_embeddings=False, num_local_experts=4, num_experts_per_tok=2,
                        sliding_window=None), "F32", 2, {}),
    "internlm2": (decoder("llama", tie_word_embeddings=False, attention_bias=True), "F32", 1,
                  dict(architectures=["InternLM2ForCausalLM"], model_type="internlm2", bias=True, attention_bias=None,
                       mlp_bias=None, attention_dropout=None, head_dim=None, pretraining_tp=None, rope_parameters=None,
                       rope_theta=10000.0, rope_scaling=None,
                       auto_map={"AutoConfig": "configuration_internlm2.InternLM2Config"})),
    "internlm3": (decoder("internlm3", tie_word_embeddings=False, head_dim=16, attention_bias=True, mlp_bias=True), "F32", 1,
                  dict(qkv_bias=True, bias=True, attention_bias=None, mlp_bias=None)),
}
NULL = {"llama_old": ["rope_scaling"], "internlm2": ["rope_scaling"]}  # keys that are there, and null


def internlm2_names(shapes, kv=2, g=2, hd=8):
    """The names and shapes of InternLM2's checkpoint from those of the Llama that computes the same."""
    out = {}
    for name, shape in shapes.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        for a, b in [("model.embed_tokens", "model.tok_embeddings"), ("lm_head", "output"),
                     ("self_attn.q_proj", "attention.wqkv"), ("self_attn.o_proj", "attention.wo"),
                     ("mlp.gate_proj", "feed_forward.w1"), ("mlp.down_proj", "feed_forward.w2"),
                     ("mlp.up_proj", "feed_forward.w3"), ("input_layernorm", "attention_norm"),
                     ("post_attention_layernorm", "ffn_norm")]:
            name = name.replace(a, b)
        if "wqkv" in name:
            shape = [kv * (g + 2) * hd] + list(shape[1:])
        out[name] = shape
    return out


def from_internlm2(theirs, shapes, kv=2, g=2, hd=8):
    """Llama's tensors: wqkv is [kv, g + 2, hd, ...] with g query heads, the key head and the value head of each group."""
    out = {}
    for name, shape in shapes.items():
        other = list(internlm2_names({name.replace("k_proj", "q_proj").replace("v_proj", "q_proj"): shape}))[0]
        t = theirs[other]
        if "wqkv" in other:
            v = t.reshape(kv, g + 2, hd, *t.shape[1:])
            v = v[:, :g] if "q_proj" in name else v[:, g] if "k_proj" in name else v[:, g + 1]
            t = v.reshape(shape).contiguous()
        out[name] = t
    return out


def bare_names(shapes):
    """As the first published GPT-2 has them: no prefix, and the causal masks beside them."""
    out = {k.removeprefix("transformer."): s for k, s in shapes.items()}
    out.update({f"h.{i}.attn.bias": [1, 1, T, T] for i in range(2)})
    return out


def make(out, case):
    config, dtype, shards, changes = CASES[case]
    config = dict(config)
    folder = os.path.join(out, case)
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        cfg = AutoConfig.for_model(**config)
        AutoModelForCausalLM.from_config(cfg).float().save_pretrained(tmp)
        with safe_open(os.path.join(tmp, "model.safetensors"), "pt") as f:
            shapes = {k: list(f.get_slice(k).get_shape()) for k in f.keys()}
        theirs = internlm2_names(shapes) if case == "internlm2" else bare_names(shapes) if case == "gpt2_bare" else shapes
        ours = {k: values(k, s) for k, s in theirs.items()}
        if dtype == "BF16":
            ours = {k: t.to(torch.bfloat16) for k, t in ours.items()}
        given = from_internlm2(ours, shapes) if case == "internlm2" else ours
        save_file(given, os.path.join(tmp, "model.safetensors"), metadata={"format": "pt"})
        plain = dict(attn_implementation="eager")
        if case == "mixtral":
            plain["experts_implementation"] = "eager"
        model = AutoModelForCausalLM.from_pretrained(tmp, dtype=torch.float32, **plain).eval()
        with torch.no_grad():
            x = torch.from_numpy(tokens()[:T].astype(np.int64))[None]
            logits = model(input_ids=x).logits[0].float().contiguous()
            exact = AutoModelForCausalLM.from_pretrained(tmp, dtype=torch.float64, **plain).eval()
            off = (exact(input_ids=x).logits[0] - logits).abs().max() / logits.abs().max()
        kept = json.load(open(os.path.join(tmp, "config.json")))
    for k, v in changes.items():
        kept.pop(k, None)
        if v is not None or k in NULL.get(case, []):
            kept[k] = v
    kept.pop("transformers_version")
    with open(os.path.join(folder, "config.json"), "w") as f:
        f.write(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    save_file({"logits": logits}, os.path.join(folder, "logits.safetensors"), metadata={"format": "pt"})
    os.chmod(os.path.join(folder, "logits.safetensors"), 0o644)
    names = sorted(theirs)
    with open(os.path.join(folder, "tensors.txt"), "w") as f:
        for i, k in enumerate(names):
            file = "model.safetensors" if shards == 1 else f"model-{i * shards // len(names) + 1:05d}-of-{shards:05d}.safetensors"
            f.write(" ".join([file, dtype, k] + [str(n) for n in theirs[k]]) + "\n")
    print(f"{case}: {sum(t.numel() for t in ours.values())} parameters, largest logit {logits.abs().max():.3g}, "
          f"f32 against f64 {off:.2g} of it")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "..", "tests", "golden", "import")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}")
    with open(os.path.join(out, "tokens.bin"), "wb") as f:
        t = tokens()
        f.write(struct.pack("<256i", 20240520, 1, len(t), *([0] * 253)))
        f.write(t.astype("<u2").tobytes())
    for case in CASES:
        make(out, case)


main()
