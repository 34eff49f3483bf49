#!/usr/bin/env python3
"""Measures TorchJD on the work of `cargo xtask bench optim`, one JSON line per figure.

usage: optim.py [--model DIR] [--threads N]

`ratio` is a step's time over that of one backward pass of the plain sum of the losses.
  sum         one backward pass of the sum
  full        the Jacobian of all parameters, then UPGrad
  trunk       the Jacobian of the shared trunk only (mtl_backward), then UPGrad
  shared      the Gramian of the gradients at the shared representation, then one backward pass through the trunk

models
  mlp    10 categorical fields, Embedding(20000, 32), MLP 320-256-128-64 (ReLU), K linear heads, batch 512, binary cross-entropy, SGD
  bert   with --model: the model's encoder on 64 texts of 32 tokens, mean pooling, a linear layer to 64, K linear heads, AdamW

Also the time of each weighting from an 8 x 8 Gramian.

needs: pip install torch torchjd quadprog transformers      (measured with torch 2.15, torchjd 0.18, transformers 5.23)
"""
import argparse
import json
import os
import statistics
import time
import warnings

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--threads", type=int, default=os.cpu_count())
a = parser.parse_args()
warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import nn
from torchjd.aggregation import (AlignedMTLWeighting, CAGradWeighting, IMTLGWeighting, MGDAWeighting, PCGradWeighting, UPGrad,
                                 UPGradWeighting)
from torchjd.autojac import backward, jac_to_grad, mtl_backward

torch.set_num_threads(a.threads)


def median(work, runs=11, warm=4):
    times = []
    for i in range(runs + warm):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm:])


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20000, 32)
        self.mlp = nn.Sequential(nn.Linear(320, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())

    def forward(self, x):
        return self.mlp(self.embedding(x).flatten(1))


class Bert(nn.Module):
    def __init__(self, path):
        super().__init__()
        from transformers import AutoModel

        self.bert = AutoModel.from_pretrained(path, add_pooling_layer=False, attn_implementation="eager")
        self.out = nn.Linear(self.bert.config.hidden_size, 64)

    def forward(self, x):
        return self.out(self.bert(input_ids=x).last_hidden_state.mean(1))


def steps(name, make, x, optimizer, runs):
    for k in (2, 4, 8):
        torch.manual_seed(0)
        trunk, heads = make(), nn.ModuleList([nn.Linear(64, 1) for _ in range(k)])
        shared, tasks = list(trunk.parameters()), list(heads.parameters())
        opt = optimizer(shared + tasks)
        y = [torch.randint(0, 2, (len(x), 1)).float() for _ in range(k)]
        bce, weigh = nn.BCEWithLogitsLoss(), UPGradWeighting()

        def forward():
            z = trunk(x)
            return z, [bce(h(z), t) for h, t in zip(heads, y)]

        def step_sum():
            opt.zero_grad()
            _, losses = forward()
            sum(losses).backward()
            opt.step()

        def step_full():
            opt.zero_grad()
            _, losses = forward()
            backward(losses)
            jac_to_grad(shared + tasks, UPGrad())
            opt.step()

        def step_trunk():
            opt.zero_grad()
            z, losses = forward()
            mtl_backward(losses, features=z)
            jac_to_grad(shared, UPGrad())
            opt.step()

        def step_shared():
            opt.zero_grad()
            z, losses = forward()
            grads = [torch.autograd.grad(l, [z, *h.parameters()], retain_graph=True) for l, h in zip(losses, heads)]
            rows = torch.stack([g[0].flatten() for g in grads])
            z.backward((weigh(rows @ rows.T) @ rows).view_as(z))
            for g, h in zip(grads, heads):
                for param, value in zip(h.parameters(), g[1:]):
                    param.grad = value
            opt.step()

        base = median(step_sum, runs)
        for form, work in [("sum", None), ("full", step_full), ("trunk", step_trunk), ("shared", step_shared)]:
            seconds = base if work is None else median(work, runs)
            print(json.dumps({"figure": "step", "peer": "torchjd", "model": name, "form": form, "k": k, "ms": round(seconds * 1e3, 3),
                              "ratio": round(seconds / base, 3)}), flush=True)


steps("mlp", Mlp, torch.randint(0, 20000, (512, 10)), lambda p: torch.optim.SGD(p, lr=1e-3), 31)
if a.model:
    steps("bert", lambda: Bert(a.model), torch.randint(1000, 20000, (64, 32)), lambda p: torch.optim.AdamW(p, lr=1e-5), 7)

jacobian = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0))
gramian = jacobian @ jacobian.T
for name, weighting in [("upgrad", UPGradWeighting()), ("mgda", MGDAWeighting()), ("pcgrad", PCGradWeighting()),
                        ("cagrad", CAGradWeighting(c=0.5)), ("imtl-g", IMTLGWeighting()), ("aligned-mtl", AlignedMTLWeighting())]:
    us = median(lambda: weighting(gramian), 51) * 1e6
    print(json.dumps({"figure": "weighting", "peer": "torchjd", "method": name, "m": 8, "us": round(us, 1)}), flush=True)
