#!/usr/bin/env python3
"""Measures other libraries on the work of `cargo xtask bench encoder`, one JSON line per figure.

usage: encoder.py MODEL_DIR --figure forward|train_step|embed --peer PEER [--titles FILE] [--batch 32] [--len 64] [--threads N]

peers
  torch-f32, torch-bf16                 transformers: forward; train_step (bf16: autocast); embed (sentence-transformers)
  onnxruntime-f32, onnxruntime-int8     ONNX Runtime on the exported model, dynamically quantized for int8: forward, embed

needs: pip install torch transformers sentence-transformers onnx onnxruntime onnxscript
(measured with torch 2.15, transformers 5.23, sentence-transformers 6.2, onnxruntime 1.31)

One figure of one peer in one process, so that `peak_mib` is its own.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--figure", required=True, choices=["forward", "train_step", "embed"])
parser.add_argument("--peer", required=True, choices=["torch-f32", "torch-bf16", "onnxruntime-f32", "onnxruntime-int8"])
parser.add_argument("--titles")
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--len", type=int, default=64, dest="length")
parser.add_argument("--threads", type=int, default=os.cpu_count())
a = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

torch.set_num_threads(a.threads)
torch.manual_seed(0)
bf16 = a.peer == "torch-bf16"


def median(work, runs, warm=3):
    for _ in range(warm):
        work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def say(seconds, rows):
    name = a.peer
    if a.peer.startswith("torch"):
        name = {"embed": a.peer.replace("torch", "sentence-transformers"), "train_step": a.peer + ("-autocast" if bf16 else "")}.get(
            a.figure, a.peer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"figure": a.figure, "peer": name, "ms": round(seconds * 1e3, 2), "rows_per_s": round(rows / seconds, 1),
                      "threads": a.threads, "peak_mib": round(peak)}), flush=True)


ids = torch.tensor([1000 + (i * 7919) % 20000 for i in range(a.batch * a.length)]).view(a.batch, a.length)
mask = torch.ones_like(ids)
texts = [line.rstrip("\n") for line in open(a.titles, encoding="utf8") if line.strip()] if a.titles else []

if a.peer.startswith("torch"):
    if a.figure == "forward":
        model = AutoModel.from_pretrained(a.model).to(torch.bfloat16 if bf16 else torch.float32).eval()
        with torch.inference_mode():
            say(median(lambda: model(input_ids=ids, attention_mask=mask), 15), a.batch)
    elif a.figure == "train_step":
        model = AutoModel.from_pretrained(a.model).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

        def step():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            loss = hidden.float().mean(1).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        say(median(step, 9), a.batch)
    else:
        from sentence_transformers import SentenceTransformer

        options = {"model_kwargs": {"dtype": "bfloat16"}} if bf16 else {}
        model = SentenceTransformer(a.model, device="cpu", **options)
        model.encode(texts[:256], batch_size=64)
        start = time.perf_counter()
        model.encode(texts, batch_size=64, show_progress_bar=False)
        say(time.perf_counter() - start, len(texts))
else:
    if a.figure == "train_step":
        sys.exit("ONNX Runtime does not train")
    import onnxruntime as ort
    from onnxruntime.quantization import QuantType, quantize_dynamic

    base = AutoModel.from_pretrained(a.model, attn_implementation="eager").eval()

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = base

        def forward(self, input_ids, attention_mask):
            return self.base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        dynamic = {"input_ids": {0: "b", 1: "t"}, "attention_mask": {0: "b", 1: "t"}}
        torch.onnx.export(Last(), (ids, mask), path, input_names=list(dynamic), output_names=["h"], dynamic_axes=dynamic,
                          opset_version=17, dynamo=False)
        if a.peer == "onnxruntime-int8":
            quantized = os.path.join(folder, "int8.onnx")
            quantize_dynamic(path, quantized, weight_type=QuantType.QInt8)
            path = quantized
        options = ort.SessionOptions()
        options.intra_op_num_threads = a.threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if a.figure == "forward":
        feed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        say(median(lambda: session.run(None, feed), 15), a.batch)
    else:
        tokenizer = AutoTokenizer.from_pretrained(a.model)

        def embed(rows):
            order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
            out = [None] * len(rows)
            for i in range(0, len(order), 64):
                part = order[i:i + 64]
                e = tokenizer([rows[j] for j in part], padding=True, truncation=True, max_length=256, return_tensors="np")
                h = session.run(None, {"input_ids": e["input_ids"], "attention_mask": e["attention_mask"]})[0]
                w = e["attention_mask"][..., None].astype(np.float32)
                for j, v in zip(part, (h * w).sum(1) / w.sum(1)):
                    out[j] = v
            return out

        embed(texts[:256])
        start = time.perf_counter()
        embed(texts)
        say(time.perf_counter() - start, len(texts))
