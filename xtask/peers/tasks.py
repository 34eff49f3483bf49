#!/usr/bin/env python3
"""Measures PyTorch on the work of `cargo xtask bench models`: a training step with each task architecture, as lines of JSON.

usage: tasks.py [--tasks shared-bottom,omoe,mmoe,ple,cross-stitch,aitm] [--batch 512] [--history 20] [--items 12101] [--dim 64] [--threads N] [--runs 9]

The customary PyTorch forms, eager, AdamW: `nn.Embedding` of items; a user is attention pooling of the last events (4 learned queries); towers read
`[u; i; u * i; position]` through the architecture, as the papers have it, each `Linear -> SiLU -> dropout -> Linear` of width 64:

- shared-bottom: as it is; omoe, mmoe: 4 experts of width 64 as one linear layer, softmax gates and `einsum`; ple: two levels, 2 shared experts and
  1 of each task; cross-stitch: two layers; aitm: a chain of four tasks.

Losses are those of four objectives, of which two have labels for a third of the samples. `above_ms` is forward and backward of what lies above the
representation alone.

needs: pip install torch
(measured with torch 2.15)
"""
import argparse
import json
import os
import statistics
import time

ALL = ["shared-bottom", "omoe", "mmoe", "ple", "cross-stitch", "aitm"]
parser = argparse.ArgumentParser()
parser.add_argument("--tasks", default=",".join(ALL))
parser.add_argument("--batch", type=int, default=512)
parser.add_argument("--history", type=int, default=20)
parser.add_argument("--items", type=int, default=12101)
parser.add_argument("--dim", type=int, default=64)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--runs", type=int, default=9)
a = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, silu, softplus

torch.set_num_threads(a.threads)
torch.manual_seed(0)
draw = torch.Generator().manual_seed(1)
TASKS, WIDTH, EXPERTS, HEADS = 4, 64, 4, 4


class Bottom(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.out = width

    def forward(self, x):
        return [x] * TASKS


class Mixture(nn.Module):
    """Experts side by side in one layer, and gates side by side in another."""

    def __init__(self, width, gates):
        super().__init__()
        self.gates, self.out = gates, WIDTH
        self.experts, self.weights = nn.Linear(width, EXPERTS * WIDTH), nn.Linear(width, gates * EXPERTS)

    def forward(self, x):
        experts = silu(self.experts(x)).view(-1, EXPERTS, WIDTH)
        weights = self.weights(x).view(-1, self.gates, EXPERTS).softmax(-1)
        mixed = torch.einsum("bge,bew->gbw", weights, experts)
        return [mixed[task if self.gates > 1 else 0] for task in range(TASKS)]


class Level(nn.Module):
    def __init__(self, width, last):
        super().__init__()
        self.last = last
        self.own = nn.ModuleList(nn.Linear(width, WIDTH) for _ in range(TASKS))
        self.shared = nn.Linear(width, 2 * WIDTH)
        self.gates = nn.ModuleList(nn.Linear(width, 3) for _ in range(TASKS))
        self.every = None if last else nn.Linear(width, TASKS + 2)

    def forward(self, inputs, common):
        own = [silu(layer(x)) for layer, x in zip(self.own, inputs)]
        shared = list(silu(self.shared(common)).chunk(2, 1))
        mix = lambda gate, x, experts: torch.einsum("be,bew->bw", gate(x).softmax(-1), torch.stack(experts, 1))
        outs = [mix(gate, x, [mine] + shared) for gate, x, mine in zip(self.gates, inputs, own)]
        return outs, None if self.last else mix(self.every, common, own + shared)


class Ple(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.out, self.levels = WIDTH, nn.ModuleList([Level(width, False), Level(WIDTH, True)])

    def forward(self, x):
        inputs, common = [x] * TASKS, x
        for level in self.levels:
            inputs, common = level(inputs, common)
        return inputs


class CrossStitch(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.out = WIDTH
        self.layers = nn.ModuleList(nn.ModuleList(nn.Linear(size, WIDTH) for _ in range(TASKS)) for size in (width, WIDTH))
        start = torch.full((TASKS, TASKS), 0.1 / (TASKS - 1)).fill_diagonal_(0.9)
        self.stitches = nn.ParameterList([start.clone(), start.clone()])

    def forward(self, x):
        inputs = [x] * TASKS
        for layers, stitch in zip(self.layers, self.stitches):
            own = torch.stack([silu(layer(x)) for layer, x in zip(layers, inputs)])
            inputs = torch.einsum("kj,jbw->kbw", stitch, own).unbind(0)
        return list(inputs)


class Aitm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.out = WIDTH
        self.own = nn.ModuleList(nn.Linear(width, WIDTH) for _ in range(TASKS))
        links = lambda: nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(TASKS - 1))
        self.handed, self.key, self.query, self.value = links(), links(), links(), links()

    def forward(self, x):
        known = [silu(self.own[0](x))]
        for task in range(1, TASKS):
            link = task - 1
            pair = torch.stack([silu(self.own[task](x)), silu(self.handed[link](known[-1]))], 1)
            scores = (self.key[link](pair) * self.query[link](pair)).sum(-1, keepdim=True) / WIDTH**0.5
            known.append((scores.softmax(1) * self.value[link](pair)).sum(1))
        return known


SHARING = {
    "shared-bottom": Bottom,
    "omoe": lambda width: Mixture(width, 1),
    "mmoe": lambda width: Mixture(width, TASKS),
    "ple": Ple,
    "cross-stitch": CrossStitch,
    "aitm": Aitm,
}


class Head(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.sharing = SHARING[name](3 * a.dim + 1)
        tower = lambda: nn.Sequential(nn.Linear(self.sharing.out, 64), nn.SiLU(), nn.Dropout(0.1), nn.Linear(64, 1))
        self.towers = nn.ModuleList(tower() for _ in range(TASKS))

    def forward(self, users, items, positions):
        inputs = self.sharing(torch.cat([users, items, users * items, positions], 1))
        return [tower(x).squeeze(1) for tower, x in zip(self.towers, inputs)]


class Model(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.items = nn.Embedding(a.items, a.dim)
        nn.init.normal_(self.items.weight, std=0.05)
        self.item, self.item_norm = nn.Linear(a.dim, a.dim), nn.LayerNorm(a.dim)
        self.event_norm, self.value, self.out, self.norm = (
            nn.LayerNorm(a.dim), nn.Linear(a.dim, a.dim), nn.Linear(a.dim, a.dim), nn.LayerNorm(a.dim))
        self.queries = nn.Parameter(torch.rand(HEADS, a.dim) * 2 - 1)
        self.head = Head(name)

    def represent(self, data):
        x = self.event_norm(self.items(data["history"]))
        weights = (x @ self.queries.T / a.dim**0.5).softmax(1)
        values = self.value(x).view(len(x), -1, HEADS, a.dim // HEADS)
        users = self.norm(self.out(torch.einsum("bth,bthw->bhw", weights, values).flatten(1)))
        return users, self.item_norm(self.item(self.items(data["item"])))

    def losses(self, users, items, data):
        click, bought, stars, seconds = self.head(users, items, data["position"])
        clicked = data["click"]
        loss = binary_cross_entropy_with_logits(click, clicked)
        # Both of them, over all impressions, in log space.
        both = -softplus(-click) - softplus(-bought)
        none = torch.logsumexp(torch.stack([-click, -bought, -click - bought]), 0) + both
        loss = loss - (data["bought"] * both + (1 - data["bought"]) * none).mean()
        seen = clicked > 0
        return loss + (stars - data["stars"])[seen].square().mean() + (seconds - data["seconds"])[seen].square().mean()


def batch():
    number = lambda *shape: torch.randn(*shape, generator=draw)
    clicked = (torch.rand(a.batch, generator=draw) < 1 / 3).float()
    return {
        "item": torch.randint(a.items, (a.batch,), generator=draw),
        "history": torch.randint(a.items, (a.batch, a.history), generator=draw),
        "position": number(a.batch, 1), "click": clicked, "stars": number(a.batch), "seconds": number(a.batch),
        "bought": clicked * (torch.rand(a.batch, generator=draw) < 0.25),
    }


batches = [batch() for _ in range(a.runs)]
for name in a.tasks.split(","):
    model = Model(name)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step(data):
        start = time.perf_counter()
        optimizer.zero_grad()
        model.losses(*model.represent(data), data).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return time.perf_counter() - start

    def above(data):
        users, items = (part.detach().requires_grad_() for part in model.represent(data))
        start = time.perf_counter()
        model.losses(users, items, data).backward()
        return time.perf_counter() - start

    for number in range(max(a.runs, 20)):
        step(batches[number % a.runs]), above(batches[number % a.runs])
    whole, part = (statistics.median(timed(data) for data in batches) * 1e3 for timed in (step, above))
    print(json.dumps({
        "figure": "step", "peer": "torch", "tasks": name, "ms": round(whole, 3), "above_ms": round(part, 3),
        "samples_per_s": round(a.batch / whole * 1e3), "batch": a.batch,
    }), flush=True)
