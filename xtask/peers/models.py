#!/usr/bin/env python3
"""Measures PyTorch on the work of `cargo xtask bench models`: a training step of SASRec, GRU4Rec or LightGCN, as a line of JSON.

usage: models.py [--kinds sasrec] [--batch 128] [--length 50] [--ragged] [--items 12101] [--dim 64] [--layers 1] [--heads 2]
                 [--negatives 256] [--threads N] [--runs 9]

The customary PyTorch forms, with softmax over the target and shared negatives, accidental hits masked, dropout 0.1, AdamW:

- sasrec: sequences padded to the longest of the batch, learned positions, `nn.TransformerEncoder` with a causal and a padding mask;
- gru: `nn.GRU` over the same padded sequences;
- graph: LightGCN with two layers, `torch.sparse` products of the normalised adjacency (CSR) with the vectors of all nodes; a sample is an
  edge of the graph, whose users are four times those of a batch.

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
import warnings

parser = argparse.ArgumentParser()
parser.add_argument("--kinds", choices=["sasrec", "gru", "graph"], default="sasrec")
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

# Sparse tensors say that they are in beta and unchecked.
warnings.filterwarnings("ignore", message="Sparse")
torch.set_num_threads(a.threads)
torch.manual_seed(0)
draw = torch.Generator().manual_seed(1)


def sequence_lengths(count):
    if not a.ragged:
        return torch.full((count,), a.length)
    # One event and a geometric number of further ones, six on average, cut at the longest.
    uniform = torch.rand(count, generator=draw)
    return (1 + (uniform.log() / torch.tensor(6 / 7).log()).floor()).clamp(max=a.length).long()


class Sequences(nn.Module):
    """What comes next in a sequence: `states` maps `[batch, longest, dim]` to states of the same shape."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(a.items, a.dim)
        nn.init.normal_(self.items.weight, std=0.05)

    @staticmethod
    def batch():
        lengths = sequence_lengths(a.batch)
        items = torch.randint(a.items, (a.batch, int(lengths.max()) + 1), generator=draw)
        return items, lengths

    def forward(self, data):
        items, lengths = data
        states = self.states(self.items(items[:, :-1]), lengths)
        real = torch.arange(states.shape[1])[None, :] < lengths[:, None]
        return states[real], items[:, 1:][real], self.items.weight


class SASRec(Sequences):
    def __init__(self):
        super().__init__()
        self.places = nn.Embedding(a.length, a.dim)
        self.norm, self.drop = nn.LayerNorm(a.dim), nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(a.dim, a.heads, 4 * a.dim, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, a.layers, enable_nested_tensor=False)

    def states(self, x, lengths):
        longest = x.shape[1]
        x = self.drop(self.norm(x + self.places.weight[:longest]))
        later = torch.ones(longest, longest, dtype=torch.bool).triu(1)
        padding = torch.arange(longest)[None, :] >= lengths[:, None]
        return self.layers(x, mask=later, src_key_padding_mask=padding)


class GRU4Rec(Sequences):
    def __init__(self):
        super().__init__()
        self.drop, self.network = nn.Dropout(0.1), nn.GRU(a.dim, a.dim, a.layers, batch_first=True)

    def states(self, x, lengths):
        return self.network(self.drop(x))[0]


class LightGCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.users = 4 * a.batch
        self.nodes = nn.Embedding(self.users + a.items, a.dim)
        nn.init.normal_(self.nodes.weight, std=0.05)
        user = torch.repeat_interleave(torch.arange(self.users), sequence_lengths(self.users))
        item = torch.randint(a.items, user.shape, generator=draw)
        self.edges = torch.stack([user, item])
        ends = torch.stack([user, item + self.users])
        ends = torch.cat([ends, ends.flip(0)], 1)
        count = self.users + a.items
        degrees = torch.bincount(ends[0], minlength=count).clamp(min=1).float()
        weights = (degrees[ends[0]] * degrees[ends[1]]).rsqrt()
        self.adjacency = torch.sparse_coo_tensor(ends, weights, (count, count)).coalesce().to_sparse_csr()

    def batch(self):
        return self.edges[:, torch.randint(self.edges.shape[1], (self.edges.shape[1] // 4,), generator=draw)]

    def forward(self, data):
        x = total = self.nodes.weight
        for _ in range(2):
            x = self.adjacency @ x
            total = total + x
        nodes = total / 3
        user, item = data
        return nn.functional.embedding(user, nodes), item, nodes[self.users :]


model = {"sasrec": SASRec, "gru": GRU4Rec, "graph": LightGCN}[a.kinds]()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)


def batch():
    return model.batch(), torch.randint(a.items, (a.negatives,), generator=draw)


def step(data):
    data, negatives = data
    optimizer.zero_grad()
    states, targets, items = model(data)
    lookup = nn.functional.embedding
    right = (states * lookup(targets, items)).sum(1, keepdim=True)
    wrong = states @ lookup(negatives, items).T
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
    "figure": "step", "peer": "torch", "model": a.kinds, "ms": round(ms, 3),
    "samples": samples / a.runs, "samples_per_s": round(samples / sum(times)),
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
