#!/usr/bin/env python3
"""The losses of a GPT's training steps, by PyTorch in f64 from the weights and windows of `kontor train gpt`:
tests/gpt_in_torch.py MODEL TEXT STEPS BATCH SEED LR WARMUP DECAY BETA2 CLIP. Prints a loss a line."""
import json
import math
import struct
import sys

import torch
import torch.nn.functional as F

MASK = 2**32 - 1
WINDOW = 0x77696E646F77


def threefry(key, counter):
  """Salmon et al., SC 2011."""
  k = [key & MASK, key >> 32, (key & MASK) ^ (key >> 32) ^ 0x1BD11BDA]
  x0, x1 = ((counter & MASK) + k[0]) & MASK, ((counter >> 32) + k[1]) & MASK
  for group in range(5):
    for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
      x0 = (x0 + x1) & MASK
      x1 = ((x1 << turn | x1 >> (32 - turn)) & MASK) ^ x0
    x0, x1 = (x0 + k[(group + 1) % 3]) & MASK, (x1 + k[(group + 2) % 3] + group + 1) & MASK
  return x0 | x1 << 32


def load(path):
  data = open(path, "rb").read()
  size = struct.unpack("<Q", data[:8])[0]
  header = json.loads(data[8:8 + size])
  about = json.loads(header.pop("__metadata__")["gpt"])
  weights = {name: torch.frombuffer(bytearray(data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]]),
                                    dtype=torch.float32).reshape(t["shape"]).double().requires_grad_()
             for name, t in header.items()}
  return about, weights


def forward(about, w, ids):
  batch, n, width, heads = *ids.shape, about["width"], about["heads"]
  x = w["tokens.weight"][ids] + w["positions.weight"][:n]
  for i in range(about["layers"]):
    def of(name):
      return w[f"blocks.{i}.{name}.weight"]
    q, k, v = (F.layer_norm(x, (width,), of("norm1")) @ of("attention.joint").T).split(width, -1)
    q, k, v = (t.view(batch, n, heads, width // heads).transpose(1, 2) for t in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + mixed.transpose(1, 2).reshape(batch, n, width) @ of("attention.project").T
    x = x + F.gelu(F.layer_norm(x, (width,), of("norm2")) @ of("up").T) @ of("down").T
  return F.layer_norm(x, (width,), w["norm.weight"]) @ w["tokens.weight"].T


def main():
  path, text = sys.argv[1:3]
  steps, batch, seed = map(int, sys.argv[3:6])
  lr, warmup, decay, beta2, clip = map(float, sys.argv[6:11])
  about, w = load(path)
  data = open(text, "rb").read()
  tokens = torch.tensor([about["vocabulary"].index(b) for b in data[:len(data) - len(data) // 10]])
  context, key = about["context"], threefry(seed, WINDOW)
  groups = [{"params": [p for p in w.values() if p.dim() >= 2], "weight_decay": decay},
            {"params": [p for p in w.values() if p.dim() < 2], "weight_decay": 0.0}]
  adam = torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2), eps=1e-8)
  for step in range(steps):
    begins = [threefry(key, step * batch + i) * (len(tokens) - context) >> 64 for i in range(batch)]
    windows = torch.stack([tokens[b:b + context + 1] for b in begins])
    loss = F.cross_entropy(forward(about, w, windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
    adam.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(w.values(), clip)
    for group in adam.param_groups:
      group["lr"] = lr * (step + 1) / warmup
    adam.step()
    print(f"{loss.item():.9f}")
    assert math.isfinite(loss.item())


if __name__ == "__main__":
  main()
