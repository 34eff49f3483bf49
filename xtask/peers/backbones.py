#!/usr/bin/env python3
"""Measures transformers on the work of `cargo xtask bench backbones`: one figure of one backbone, as a line of JSON.

usage: backbones.py MODEL_DIR --figure forward|train_step|train_last --peer torch-f32|torch-bf16 [--batch 32] [--len 64] [--threads N] [--runs 9]

MODEL_DIR is what `--example backbone -- --random` has written. torch-bf16: forward on weights in bfloat16, train steps under autocast.
A train step is forward with dropout, backward and AdamW; of train_last on the last two layers and the norm after them alone.

needs: pip install torch transformers
(measured with torch 2.15, transformers 5.23)

One figure of one peer in one process, so that `peak_mib` is its own.
"""
import argparse
import json
import os
import resource
import statistics
import time
import warnings

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--figure", required=True, choices=["forward", "train_step", "train_last"])
parser.add_argument("--peer", required=True, choices=["torch-f32", "torch-bf16"])
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--len", type=int, default=64, dest="length")
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--runs", type=int, default=9)
a = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import torch
from transformers import AutoModel
from transformers.utils import logging

logging.disable_progress_bar()
torch.set_num_threads(a.threads)
torch.manual_seed(0)
bf16 = a.peer == "torch-bf16"
CAUSAL = {"gpt2", "qwen3", "qwen2", "llama", "mistral", "gemma"}


def median(work):
    warm = -(-a.runs // 3)
    times = []
    for _ in range(a.runs + warm):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm:])


def last_layers(model, count):
    """The weights of the last layers, and of the norm after them where there is one."""
    depth = model.config.num_hidden_layers
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth)
    norm = next((getattr(model, name) for name in ("norm", "ln_f", "final_norm") if hasattr(model, name)), None)
    return [p for m in [*layers[-count:], *([norm] if norm is not None else [])] for p in m.parameters()]


dtype = torch.bfloat16 if bf16 and a.figure == "forward" else torch.float32
model = AutoModel.from_pretrained(a.model, dtype=dtype)
is_causal = model.config.model_type in CAUSAL
parameters = sum(p.numel() for name, p in model.named_parameters() if "pooler" not in name)
span = min(max(model.config.vocab_size - 1000, 1), 20000)
first = min(model.config.vocab_size - span, 1000)
ids = torch.tensor([first + i * 7919 % span for i in range(a.batch * a.length)]).view(a.batch, a.length)


def vectors():
    # Only vectors are wanted, so nothing is kept of the keys and values.
    options = {"use_cache": False} if is_causal else {}
    hidden = model(input_ids=ids, **options).last_hidden_state
    return hidden[:, -1] if is_causal else hidden.mean(1)


shown = None
if a.figure == "forward":
    model.eval()
    with torch.inference_mode():
        shown = vectors()[0, :8].float().tolist()
        seconds = median(vectors)
else:
    model.train()
    if a.figure == "train_last":
        model.requires_grad_(False)
        for weight in last_layers(model, min(2, model.config.num_hidden_layers)):
            weight.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            made = vectors()
        loss = made.float().pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    seconds = median(step)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"figure": a.figure, "peer": a.peer, "ms": round(seconds * 1e3, 2), "texts_per_s": round(a.batch / seconds, 1),
                  "threads": a.threads, "parameters": parameters, "peak_mib": round(peak), "vector": shown}), flush=True)
