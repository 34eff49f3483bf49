#!/usr/bin/env python3
"""Measures PyTorch on the work of `cargo xtask bench models`: a training step of SASRec, as a line of JSON.

usage: sasrec.py [--batch 128] [--length 50] [--ragged] [--items 12101] [--dim 64] [--layers 1] [--heads 2] [--negatives 256]
                 [--threads N] [--runs 9]

The customary PyTorch form: sequences padded to the longest of the batch, learned positions, `nn.TransformerEncoder` with a causal and a
padding mask, item vectors tied with the input's, softmax over the target and shared negatives, accidental hits masked, dropout 0.1, AdamW.
With --ragged the sequences are as long as those of a short log (most of them short, 7 events on average), as real ones are.

needs: pip install torch
(measured with torch 2.15)
"""
import argparse
import json
import os
import resource
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--length", type=int, default=50)
parser.add_argument("--ragged", action="store_true")
parser.add_argument("--items", type=int, default=12101)
parser.add_argument("--dim", type=int, default=64)
parser.add_argument("--layers", type=int, default=1)
parser.add_argument("--heads", type=int, default=2)
parser.add_argument("--negatives", type=int, default=256)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--runs", type=int, default=9)
a = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import torch
from torch import nn

torch.set_num_threads(a.threads)
torch.manual_seed(0)


class SASRec(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(a.items, a.dim)
        self.places = nn.Embedding(a.length, a.dim)
        nn.init.normal_(self.items.weight, std=0.05)
        self.norm, self.drop = nn.LayerNorm(a.dim), nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(a.dim, a.heads, 4 * a.dim, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, a.layers, enable_nested_tensor=False)

    def forward(self, items, lengths):
        longest = items.shape[1]
        x = self.drop(self.norm(self.items(items) + self.places.weight[:longest]))
        later = torch.ones(longest, longest, dtype=torch.bool).triu(1)
        padding = torch.arange(longest)[None, :] >= lengths[:, None]
        return self.layers(x, mask=later, src_key_padding_mask=padding)


model = SASRec()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
draw = torch.Generator().manual_seed(1)


def batch():
    if a.ragged:
        # One event and a geometric number of further ones, six on average, cut at the longest.
        uniform = torch.rand(a.batch, generator=draw)
        lengths = (1 + (uniform.log() / torch.tensor(6 / 7).log()).floor()).clamp(max=a.length).long()
    else:
        lengths = torch.full((a.batch,), a.length)
    items = torch.randint(a.items, (a.batch, int(lengths.max()) + 1), generator=draw)
    return items, lengths, torch.randint(a.items, (a.negatives,), generator=draw)


def step(data):
    items, lengths, negatives = data
    optimizer.zero_grad()
    states = model(items[:, :-1], lengths)
    real = torch.arange(states.shape[1])[None, :] < lengths[:, None]
    states, targets = states[real], items[:, 1:][real]
    right = (states * model.items(targets)).sum(1, keepdim=True)
    wrong = states @ model.items(negatives).T
    wrong = wrong.masked_fill(negatives[None, :] == targets[:, None], float("-inf"))
    loss = nn.functional.cross_entropy(torch.cat([right, wrong], 1), torch.zeros(len(targets), dtype=torch.long))
    loss.backward()
    optimizer.step()
    return len(targets)


batches = [batch() for _ in range(a.runs)]
for data in batches[: -(-a.runs // 3)]:
    step(data)
times, samples = [], 0
for data in batches:
    start = time.perf_counter()
    samples += step(data)
    times.append(time.perf_counter() - start)
ms = statistics.median(times) * 1e3
print(json.dumps({
    "figure": "step", "peer": "torch", "model": "sasrec", "ms": round(ms, 3),
    "samples": samples / a.runs, "samples_per_s": round(samples / sum(times)),
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
