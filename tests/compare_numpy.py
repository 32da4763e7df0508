#!/usr/bin/env python3
"""The graph evaluator against NumPy and PyTorch: tests/compare_numpy.py [--count 3000] [--seed N]

Takes the calls that random graphs are made of (tests/random_graphs export), with the values that the graph evaluator has
for their arguments and results, and lets NumPy (PyTorch where NumPy has no such function) compute each result in f64 or in
the result's integers. `TABLE` says for each row of the function table what its counterpart is; what has none is listed,
and a row that is in neither table is an error. Needs numpy and torch: `python3 -m venv .venv-bench` and
`.venv-bench/bin/pip install numpy torch`; run without them, it takes that environment.
"""
import argparse
import collections
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
try:
  import numpy as np
  import torch
  import torch.nn.functional as F
except ImportError:
  if not PYTHON.exists() or pathlib.Path(sys.prefix) == PYTHON.parent.parent:
    sys.exit(f"numpy and torch are missing: python3 -m venv .venv-bench && {PYTHON} -m pip install numpy torch")
  os.execv(PYTHON, [str(PYTHON), *sys.argv])

np.seterr(all="ignore")
warnings.simplefilter("ignore")
NUMPY = {"bool": "?", "u8": "u1", "i8": "i1", "u16": "u2", "i16": "i2", "u32": "u4", "i32": "i4", "u64": "u8", "i64": "i8",
         "f16": "f2", "f32": "f4", "f64": "f8"}
TORCH_ONLY = {"bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2",
              "f8e4m3fnuz": "float8_e4m3fnuz"}
EPS = {"f64": 2**-52, "f32": 2**-23, "f16": 2**-10, "bf16": 2**-7, "f8e4m3": 2**-3, "f8e5m2": 2**-2,
       "f8e4m3fnuz": 2**-3}
LARGEST = {"f64": 1.7976931348623157e308, "f32": 3.4028235e38, "f16": 65504.0, "bf16": 3.3895314e38, "f8e4m3": 448.0,
           "f8e5m2": 57344.0, "f8e4m3fnuz": 240.0}
TINY = {"f64": 5e-324, "f32": 1.5e-45, "f16": 6e-8, "bf16": 9.2e-41, "f8e4m3": 2**-9, "f8e5m2": 2**-16,
        "f8e4m3fnuz": 2**-10}


class Call:
  """One call: its arguments as attributes (arrays: floats as f64, integers as they are), `out` the result's dtype."""

  def __init__(self, line, parameters):
    self.dtypes, self.raw, self.seed, self.function = {}, {}, line["seed"], line["function"]
    for name, fallback in parameters:
      given = line["arguments"].get(name, fallback)
      setattr(self, name, self._read(name, given))
    self.out, self.result = line["result"]["dtype"], self._array(line["result"])

  def _read(self, name, given):
    if isinstance(given, dict):
      self.dtypes[name], self.raw[name] = given["dtype"], bytes.fromhex(given["bytes"])
      return self._array(given)
    if isinstance(given, list) and given and isinstance(given[0], dict):
      self.dtypes[name] = given[0]["dtype"]
      return [self._array(g) for g in given]
    return given

  @staticmethod
  def _array(given):
    data, dtype = bytearray.fromhex(given["bytes"]), given["dtype"]
    if dtype in TORCH_ONLY:
      if not data:
        return np.zeros(given["shape"])
      flat = torch.frombuffer(data, dtype=getattr(torch, TORCH_ONLY[dtype])).double().numpy()
    else:
      flat = np.frombuffer(bytes(data), dtype=NUMPY[dtype])
      flat = flat.astype("f8") if dtype.startswith("f") else flat
    return flat.reshape(given["shape"])

  def common(self, *names):
    """Arguments in what the result is computed in: f64 for floats, else the result's integers."""
    return [to_dtype(getattr(self, n), self.out) for n in names]

  def operands(self, *names):
    """The same for results of another kind (comparisons)."""
    values = [np.asarray(getattr(self, n)) for n in names]
    kinds = {v.dtype.kind for v in values}
    return [v.astype("f8") for v in values] if "f" in kinds else [v.astype(object) for v in values]

  def floats(self, *names):
    return [np.asarray(getattr(self, n)).astype("f8") for n in names]

  def axis_tuple(self):
    return None if self.axes is None else tuple(self.axes)


def to_dtype(value, dtype):
  """As Kontor casts: floats to integers saturate and NaN is 0, integers wrap."""
  value = np.asarray(value)
  if dtype == "bool":
    return value != 0
  if not dtype[0] in "ui":
    return value.astype("f8")
  if value.dtype.kind != "f":
    return value.astype(NUMPY[dtype])
  info = np.iinfo(NUMPY[dtype])
  clean = [0 if math.isnan(v) else info.max if v >= info.max else info.min if v <= info.min else int(v) for v in value.ravel()]
  return np.array(clean, dtype=NUMPY[dtype]).reshape(value.shape)


def elementwise(function, *names):
  return lambda c: function(*c.common(*names))


def of_floats(function, *names):
  return lambda c: function(*c.floats(*names))


def compared(function):
  return lambda c: function(*c.operands("a", "b")).astype(bool)


def vectorised(function):
  return lambda x: np.vectorize(function, otypes=["f8"])(x) if x.size else x


def shifted(c, left):
  a, b = c.common("a", "b")
  a, b = np.broadcast_arrays(a, b)
  bits = a.dtype.itemsize * 8
  far = (b >= bits) | (b < 0)
  near = np.where(far, 0, b)
  out = np.left_shift(a, near) if left else np.right_shift(a, near)
  return np.where(far, 0 if left else np.where(a < 0, -1, 0).astype(a.dtype), out).astype(a.dtype)


def power(c):
  if c.out in EPS:
    return np.power(*c.floats("a", "b"))
  a, b = c.common("a", "b")
  return None if np.any(b < 0) else np.power(a, b)


def fold(function):
  return lambda c: function(to_dtype(c.x, c.out), axis=c.axis_tuple(), keepdims=bool(c.keepdims))


def position(function):
  def run(c):
    x = c.x.astype("f8") if c.x.dtype.kind == "f" else c.x
    return function(x, axis=c.axis, keepdims=bool(c.keepdims)) if c.axis is not None else function(x)
  return run


def scan(function):
  return lambda c: function(to_dtype(c.x, c.out), axis=c.axis)


def linear_scan(c, size=lambda v: v):
  a, b = (np.moveaxis(size(v), c.axis, 0) for v in np.broadcast_arrays(*c.floats("a", "b")))
  out = np.zeros(b.shape)
  for j in range(len(b)):
    out[j] = (out[j - 1] if j else 0) * a[j] + b[j]
  return np.moveaxis(out, 0, c.axis)


def sliced(c):
  index = [slice(None)] * c.x.ndim
  end = None if c.end == 2**63 - 1 else c.end
  index[c.axis] = slice(None if c.step < 0 and c.begin == 2**63 - 1 else c.begin, end, c.step)
  return c.x[tuple(index)]


def windowed(c):
  axis = c.axis % c.x.ndim
  seen = np.lib.stride_tricks.sliding_window_view(c.x, (c.size - 1) * c.dilation + 1, axis)
  seen = np.moveaxis(seen, -1, axis + 1)
  index = [slice(None)] * seen.ndim
  index[axis], index[axis + 1] = slice(None, None, c.stride), slice(None, None, c.dilation)
  return seen[tuple(index)]


def put(c):
  out, axis = to_dtype(c.x, c.out).copy(), c.axis % c.x.ndim
  value = to_dtype(c.value, c.out)
  value = np.expand_dims(value, axis) if value.ndim + 1 == out.ndim else value
  index = [slice(None)] * out.ndim
  begin = int(c.index) + (out.shape[axis] if int(c.index) < 0 else 0)
  index[axis] = slice(begin, begin + value.shape[axis])
  out[tuple(index)] = value
  return out


def pair(x):
  return (x, x) if not isinstance(x, list) else tuple(x) if len(x) == 2 else (x[0], x[0])


def t(x):
  return None if x is None else torch.from_numpy(np.array(x, dtype="f8", order="C"))


def per_axis(c, *names):
  """Arguments of windows: a number for each axis behind the first two."""
  count = c.x.ndim - 2
  lists = [v if isinstance(v, list) else [v] for v in (getattr(c, n) for n in names)]
  return [tuple(v) if len(v) == count else tuple(v) * count for v in lists]


def convolution(c):
  if min(c.x.shape) == 0 or c.dtypes["x"] not in EPS:  # PyTorch has no convolution of integers
    return None
  function = (F.conv1d, F.conv2d, F.conv3d)[c.x.ndim - 3]
  return function(t(c.x), t(c.weight), t(c.bias), *per_axis(c, "stride", "padding", "dilation"), c.groups).numpy()


def conv_transpose(c):
  if min(c.x.shape) == 0 or c.dtypes["x"] not in EPS or not c.result.size:
    return None
  function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[c.x.ndim - 3]
  stride, padding, beyond, dilation = per_axis(c, "stride", "padding", "output_padding", "dilation")
  return function(t(c.x), t(c.weight), t(c.bias), stride, padding, beyond, c.groups, dilation).numpy()


def any_pool(c):
  if min(c.x.shape) == 0 or c.dtypes["x"] in ("u64", "i64"):  # f64 does not hold them
    return None
  is_max, at = c.function == "max_pool", c.x.ndim - 3
  size, stride, padding = per_axis(c, "size", "stride", "padding")
  if at == 2 and any(n < k for n, k in zip(c.x.shape[2:], size)):
    return None  # PyTorch does not take such an image in three dimensions, whatever is around it
  stride = tuple(s or k for s, k in zip(stride, size))
  if is_max:
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[at]
    return function(t(c.x), size, stride, padding, *per_axis(c, "dilation"), ceil_mode=bool(c.ceil)).numpy()
  function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[at]
  return function(t(c.x), size, stride, padding, ceil_mode=bool(c.ceil), count_include_pad=bool(c.count_padding)).numpy()


def by_channel(v, like):
  return v.reshape((-1,) + (1,) * (like.ndim - 2))


def scaled(c, out):
  for p, function in ((c.weight, np.multiply), (c.bias, np.add)):
    out = out if p is None else function(out, by_channel(p, out))
  return out


def batch_norm(c):
  if c.eps <= 0:
    return None
  x, over = c.x.astype("f8"), (0, *range(2, c.x.ndim))
  if c.mean is not None:
    return scaled(c, (x - by_channel(c.mean, x)) / np.sqrt(by_channel(c.variance, x) + c.eps))
  return scaled(c, (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + c.eps))


def group_norm(c):
  if c.eps <= 0:
    return None
  x = c.x.astype("f8").reshape(c.x.shape[0], c.groups, -1)
  out = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + c.eps)
  return scaled(c, out.reshape(c.x.shape))


def cross_entropy(c):
  labels = c.labels.astype("i8")
  skipped = np.zeros(labels.shape, bool) if c.ignored is None else labels == c.ignored
  logs = torch.log_softmax(t(c.logits), -1).numpy()
  right = np.take_along_axis(logs, np.where(skipped, 0, labels)[..., None], -1)[..., 0]
  smooth = c.smoothing * logs.mean(-1) if c.smoothing else 0
  return np.where(skipped, 0, -(1 - c.smoothing) * right - smooth)


def nll(c):
  labels = c.labels.astype("i8")
  skipped = np.zeros(labels.shape, bool) if c.ignored is None else labels == c.ignored
  return np.where(skipped, 0, -np.take_along_axis(c.x.astype("f8"), np.where(skipped, 0, labels)[..., None], -1)[..., 0])


def binary_cross_entropy(c):
  x, targets = c.floats("x", "targets")
  log = lambda p: np.where(np.isnan(np.log(p)), np.nan, np.maximum(np.log(p), -100))
  return -(targets * log(x) + (1 - targets) * log(1 - x))


def chosen(c):
  """Positions in row-major order, and which of the `size` there are."""
  mask = np.broadcast_to(c.mask, np.broadcast_shapes(c.mask.shape, c.x.shape)) if c.function == "masked_select" else c.mask
  found = np.flatnonzero(mask)[:c.size]
  return found, c.size - len(found)


def masked_select(c):
  x = to_dtype(np.broadcast_to(c.x, np.broadcast_shapes(c.mask.shape, c.x.shape)), c.out).ravel()
  found, rest = chosen(c)
  return np.concatenate([x[found], np.full(rest, to_dtype(c.fill, c.out))])


def pool(function):
  def run(c):
    if min(c.x.shape) == 0 or c.dtypes["x"] in ("u64", "i64"):  # f64 does not hold them
      return None
    size, stride = pair(c.size), pair(c.stride)
    return function(t(c.x), size, tuple(s or k for s, k in zip(stride, size))).numpy()
  return run


def attention(c):
  if c.dropout or c.result.size == 0 or c.k.shape[-2] == 0:
    return None
  q, k, v = c.floats("q", "k", "v")
  share = q.shape[-3] // k.shape[-3] if min(q.ndim, k.ndim) > 2 and k.shape[-3] > 1 and q.shape[-3] > 1 else 1
  k, v = (np.repeat(x, share, -3) if share > 1 and x.shape[-3] > 1 else x for x in (k, v))
  scores = q @ np.swapaxes(k, -1, -2) * (c.scale or 1 / np.sqrt(max(q.shape[-1], 1)))
  n, m = scores.shape[-2:]
  query, key = np.arange(n)[:, None] + m - n, np.arange(m)
  seen = key <= query if c.causal else np.ones((n, m), bool)
  if c.window:
    seen = seen & (query - key < c.window) & (key - query < c.window)
  if c.mask is not None and c.dtypes["mask"] == "bool":
    seen = seen & (c.mask != 0)
  elif c.mask is not None:
    scores = scores + c.mask.astype("f8")
  scores = np.where(seen, scores, -np.inf)
  most = scores.max(-1, keepdims=True)
  weights = np.exp(scores - np.where(np.isneginf(most), 0, most))
  total = weights.sum(-1, keepdims=True)
  return weights / np.where(total == 0, 1, total) @ v


def instance_norm(c):
  if c.eps <= 0:
    return None
  over = tuple(range(2, c.x.ndim))
  x = c.x.astype("f8")
  out = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + c.eps)
  shape = (-1,) + (1,) * (x.ndim - 2)
  for p, function in ((c.weight, np.multiply), (c.bias, np.add)):
    out = out if p is None else function(out, p.reshape(shape))
  return out


def bitcast(c):
  return np.frombuffer(c.raw["x"], dtype=NUMPY[c.dtype]).reshape(c.x.shape) if c.dtype in NUMPY else None



def order(x, axis, descending):
  """Stable either way; NaN is the greatest."""
  if not descending:
    return np.argsort(x, axis=axis, kind="stable")
  n = x.shape[axis]
  return n - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


def first(c, function):
  return np.take(function(c.x, c.axis, bool(c.largest)), range(c.k), axis=c.axis)


def in_order(x, axis, descending):
  return np.take_along_axis(x, order(x, axis, descending), axis)


def searched(c):
  out = to_dtype(c.sorted, "f8") if c.sorted.dtype.kind == "f" or c.values.dtype.kind == "f" else c.sorted
  if np.any(in_order(out, -1, False) != out) or out.dtype.kind != c.values.dtype.kind or out.dtype.kind == "u":
    return None  # of rows that are in no order anything may come out
  side = "right" if c.right else "left"
  if out.ndim == 1:
    return np.searchsorted(out, c.values, side)
  values = c.values.reshape(-1, c.values.shape[-1])
  rows = out.reshape(-1, out.shape[-1])
  return np.array([np.searchsorted(r, v, side) for r, v in zip(rows, values)]).reshape(c.values.shape)


def own_places(c):
  axis, i = c.axis % c.x.ndim, c.indices.astype("i8")
  at = list(np.indices(i.shape))
  at[axis] = np.where(i < 0, i + c.x.shape[axis], i)
  return tuple(at)


def scattered(c, put):
  out = to_dtype(c.x, c.out).copy()
  values = to_dtype(c.values, c.out)
  for at in zip(*(a.ravel() for a in own_places(c)), values.ravel()):
    put(out, at[:-1], at[-1])
  return out


def norm(c):
  x, over = np.abs(c.x.astype("f8")), {"axis": c.axis_tuple(), "keepdims": bool(c.keepdims)}
  if c.order == 0:
    return np.sum(x != 0, **over)
  return np.sum(x**c.order, **over) ** (1 / c.order)


def put_at(out, at, value):
  out[at] = value


def add_at(out, at, value):
  out[at] += value


# Row of the function table -> what computes it of a Call; None from it: not comparable here (an empty axis, ...).
TABLE = {
  "full": lambda c: np.full(c.shape, to_dtype(c.value, c.out)),
  "iota": lambda c: np.arange(c.n),
  "arange": lambda c: to_dtype(np.arange(math.ceil(max(0, (c.end - c.begin) / c.step))) * c.step + c.begin, c.out),
  "eye": lambda c: np.eye(c.n),
  "add": elementwise(np.add, "a", "b"), "sub": elementwise(np.subtract, "a", "b"), "mul": elementwise(np.multiply, "a", "b"),
  "div": of_floats(np.divide, "a", "b"), "floor_div": elementwise(np.floor_divide, "a", "b"), "mod": elementwise(np.mod, "a", "b"),
  "pow": power, "maximum": elementwise(np.maximum, "a", "b"), "minimum": elementwise(np.minimum, "a", "b"),
  "fma": lambda c: (lambda a, b, d: a * b + d)(*c.floats("a", "b", "c")),
  "eq": compared(np.equal), "ne": compared(np.not_equal), "lt": compared(np.less), "le": compared(np.less_equal),
  "gt": compared(np.greater), "ge": compared(np.greater_equal),
  "logical_and": compared(lambda a, b: (a != 0) & (b != 0)), "logical_or": compared(lambda a, b: (a != 0) | (b != 0)),
  "logical_not": lambda c: np.logical_not(c.x), "bit_and": elementwise(np.bitwise_and, "a", "b"),
  "bit_or": elementwise(np.bitwise_or, "a", "b"), "bit_xor": elementwise(np.bitwise_xor, "a", "b"),
  "bit_not": elementwise(np.bitwise_not, "x"), "shift_left": lambda c: shifted(c, True), "shift_right": lambda c: shifted(c, False),
  "where": lambda c: np.where(np.asarray(c.condition) != 0, *c.common("a", "b")),
  "clamp": lambda c: np.minimum(np.maximum(*c.common("x", "low")), to_dtype(c.high, c.out)),
  "neg": elementwise(np.negative, "x"), "abs": elementwise(np.abs, "x"), "sign": elementwise(np.sign, "x"),
  "floor": elementwise(np.floor, "x"), "ceil": elementwise(np.ceil, "x"), "square": elementwise(np.square, "x"),
  "isnan": lambda c: np.isnan(c.x), "cast": lambda c: to_dtype(c.x, c.out), "bitcast": bitcast,
  "sqrt": of_floats(np.sqrt, "x"), "exp": of_floats(np.exp, "x"), "log": of_floats(np.log, "x"), "sin": of_floats(np.sin, "x"),
  "cos": of_floats(np.cos, "x"), "tanh": of_floats(np.tanh, "x"), "erf": of_floats(vectorised(math.erf), "x"),
  "exp2": of_floats(np.exp2, "x"), "expm1": of_floats(np.expm1, "x"), "log2": of_floats(np.log2, "x"), "log10": of_floats(np.log10, "x"),
  "log1p": of_floats(np.log1p, "x"), "tan": of_floats(np.tan, "x"), "asin": of_floats(np.arcsin, "x"), "acos": of_floats(np.arccos, "x"),
  "atan": of_floats(np.arctan, "x"), "sinh": of_floats(np.sinh, "x"), "cosh": of_floats(np.cosh, "x"), "asinh": of_floats(np.arcsinh, "x"),
  "acosh": of_floats(np.arccosh, "x"), "atanh": of_floats(np.arctanh, "x"), "atan2": of_floats(np.arctan2, "y", "x"),
  "round": elementwise(np.round, "x"), "trunc": elementwise(np.trunc, "x"), "isinf": lambda c: np.isinf(c.x.astype("f8")),
  "isfinite": lambda c: np.isfinite(c.x.astype("f8")), "copysign": of_floats(np.copysign, "a", "b"), "reciprocal": of_floats(np.reciprocal, "x"),
  "remainder": elementwise(np.remainder, "a", "b"),
  "relu": elementwise(lambda x: np.maximum(x, 0), "x"), "detach": lambda c: c.x, "mark": lambda c: c.x, "scalify": lambda c: c.loss, "scale_of": lambda c: np.float32(1),
  **{name: lambda c: c.x for name in ("set_scale", "rebalance", "stop_scale", "dynamic_rescale", "cast_forward", "cast_backward", "scaled_data")},
  "sum": fold(np.sum), "prod": fold(np.prod), "max": fold(np.max), "min": fold(np.min), "mean": fold(np.mean),
  "var": lambda c: np.var(c.x.astype("f8"), axis=c.axis_tuple(), keepdims=bool(c.keepdims), ddof=c.correction),
  "any": lambda c: np.any(c.x != 0, axis=c.axis_tuple(), keepdims=bool(c.keepdims)),
  "all": lambda c: np.all(c.x != 0, axis=c.axis_tuple(), keepdims=bool(c.keepdims)),
  "logsumexp": lambda c: np.logaddexp.reduce(c.x.astype("f8"), axis=c.axis_tuple(), keepdims=bool(c.keepdims)),
  "argmax": position(np.argmax), "argmin": position(np.argmin),
  "cumsum": scan(np.cumsum), "cumprod": scan(np.cumprod), "cummax": scan(np.maximum.accumulate), "cummin": scan(np.minimum.accumulate),
  "logcumsumexp": lambda c: np.logaddexp.accumulate(c.x.astype("f8"), axis=c.axis), "linear_scan": linear_scan,
  "sort": lambda c: in_order(c.x, c.axis, c.descending), "argsort": lambda c: order(c.x, c.axis, c.descending),
  "topk": lambda c: first(c, in_order), "argtopk": lambda c: first(c, order),
  "median": lambda c: np.median(c.x.astype("f8"), axis=c.axis, keepdims=bool(c.keepdims)), "searchsorted": searched,
  "gather": lambda c: c.x[own_places(c)], "scatter": lambda c: scattered(c, put_at), "scatter_add": lambda c: scattered(c, add_at),
  "narrow": lambda c: np.take(c.x, np.arange(c.size) + int(c.begin) + (c.x.shape[c.axis] if int(c.begin) < 0 else 0), axis=c.axis),
  "full_like": lambda c: np.full(c.x.shape, to_dtype(c.value, c.out)),
  "linspace": lambda c: to_dtype((np.floor if c.out not in EPS else np.asarray)(np.linspace(c.begin, c.end, c.count)), c.out),
  "tile": lambda c: np.tile(c.x, c.repeats if isinstance(c.repeats, list) else [c.repeats]),
  "repeat": lambda c: np.repeat(c.x, c.times, axis=c.axis), "roll": lambda c: np.roll(c.x, c.shift, axis=c.axis),
  "tril": lambda c: np.tril(c.x, c.diagonal), "triu": lambda c: np.triu(c.x, c.diagonal),
  "diag": lambda c: np.diag(c.x, c.diagonal) if c.x.ndim == 1 else np.diagonal(c.x, c.diagonal, -2, -1),
  "stddev": lambda c: np.std(c.x.astype("f8"), axis=c.axis_tuple(), keepdims=bool(c.keepdims), ddof=c.correction),
  "norm": norm, "outer": elementwise(np.outer, "a", "b"),
  "tensordot": lambda c: np.tensordot(*c.common("a", "b"), axes=c.axes),
  "reshape": lambda c: np.reshape(c.x, c.shape), "flatten": lambda c: c.x.reshape(c.result.shape),
  "permute": lambda c: np.transpose(c.x, c.order), "transpose": lambda c: np.swapaxes(c.x, c.a, c.b),
  "expand": lambda c: np.broadcast_to(c.x, c.shape),
  "pad": lambda c: np.pad(to_dtype(c.x, c.out), list(zip(c.low_high[::2], c.low_high[1::2])), constant_values=to_dtype(c.value, c.out)),
  "slice": sliced, "select": lambda c: np.take(c.x, c.index, axis=c.axis),
  "flip": lambda c: np.flip(c.x, c.axis_tuple()), "squeeze": lambda c: np.squeeze(c.x, c.axis_tuple()),
  "unsqueeze": lambda c: np.expand_dims(c.x, c.axis), "window": windowed,
  "cat": lambda c: np.concatenate([to_dtype(x, c.out) for x in c.tensors], c.axis),
  "stack": lambda c: np.stack([to_dtype(x, c.out) for x in c.tensors], c.axis),
  "matmul": elementwise(np.matmul, "a", "b"), "conv1d": convolution, "conv2d": convolution, "conv3d": convolution, "conv_transpose": conv_transpose,
  "max_pool": any_pool, "avg_pool": any_pool, "batch_norm": batch_norm, "group_norm": group_norm, "nll": nll,
  "mse": lambda c: np.mean(np.square(np.subtract(*c.floats("x", "targets")))), "binary_cross_entropy": binary_cross_entropy,
  "binary_cross_entropy_with_logits": lambda c: (lambda x, y: np.logaddexp(0, x) - x * y)(*c.floats("x", "targets")),
  "nonzero": lambda c: (lambda found, rest: np.concatenate([found, np.full(rest, c.fill)]))(*chosen(c)), "masked_select": masked_select,
  "max_pool2d": pool(F.max_pool2d), "avg_pool2d": pool(F.avg_pool2d),
  "softmax": lambda c: torch.softmax(t(c.x), c.axis).numpy(), "log_softmax": lambda c: torch.log_softmax(t(c.x), c.axis).numpy(),
  "cross_entropy": cross_entropy,
  "layer_norm": lambda c: F.layer_norm(t(c.x), c.x.shape[-c.axes:], t(c.weight), t(c.bias), c.eps).numpy() if c.eps > 0 else None,
  "instance_norm": instance_norm, "attention": attention, "one_hot": lambda c: np.asarray(c.x)[..., None] == np.arange(c.classes),
  "take": lambda c: np.take(c.x, c.indices.astype("i8"), axis=c.axis),
  "pick": lambda c: np.take_along_axis(c.x, c.indices.astype("i8")[..., None], -1)[..., 0], "put": put,
  "rsqrt": of_floats(lambda x: 1 / np.sqrt(x), "x"), "sigmoid": of_floats(lambda x: 1 / (1 + np.exp(-x)), "x"),
  "gelu": lambda c: F.gelu(t(c.x)).numpy(), "silu": lambda c: F.silu(t(c.x)).numpy(),
  "gelu_tanh": lambda c: F.gelu(t(c.x), approximate="tanh").numpy(), "softplus": lambda c: F.softplus(t(c.x), threshold=1000).numpy(),
  "mish": lambda c: F.mish(t(c.x)).numpy(), "elu": lambda c: F.elu(t(c.x)).numpy(), "selu": lambda c: F.selu(t(c.x)).numpy(),
  "hardswish": lambda c: F.hardswish(t(c.x)).numpy(), "hardsigmoid": lambda c: F.hardsigmoid(t(c.x)).numpy(),
  "leaky_relu": lambda c: F.leaky_relu(t(c.x), c.slope).numpy(),
}
# Rows that have no counterpart, and why.
WITHOUT = {
  "uniform": "a draw of our own generator", "normal": "a draw of our own generator", "randint": "a draw of our own generator",
  "permutation": "a draw of our own generator", "truncated_normal": "a draw of our own generator",
  "bernoulli": "a draw of our own generator", "multinomial": "a draw of our own generator", "unwindow": "neither has it (torch's fold sums the taps)",
  "einsum": "formulas are no random numbers; tests/test_order.cpp",
}
def normed(c, over):
  """What the deviation from a mean is rounded to, next to the spread, with weight and bias."""
  x = c.x.astype("f8")
  most = np.max(np.abs(x), axis=over, keepdims=True, initial=0) / np.sqrt(x.var(over, keepdims=True) + c.eps)
  per_feature = (lambda v: v) if over[-1] == x.ndim - 1 and c.function == "layer_norm" else (lambda v: by_channel(v, x))
  weight, bias = (np.asarray(otherwise if v is None else np.abs(per_feature(v))) for v, otherwise in ((c.weight, 1.0), (c.bias, 0.0)))
  return np.broadcast_to(most * weight + bias, x.shape)


def scaled_size(c):
  """By a mean and variance that are given: what its terms come to."""
  x = c.x.astype("f8")
  out = (np.abs(x) + np.abs(by_channel(c.mean, x))) / np.sqrt(by_channel(c.variance, x) + c.eps)
  return out * (1 if c.weight is None else np.abs(by_channel(c.weight, x))) + (0 if c.bias is None else np.abs(by_channel(c.bias, x)))


def normed_groups(c):
  x = c.x.astype("f8").reshape(c.x.shape[0], c.groups, -1)
  most = np.max(np.abs(x), axis=-1, keepdims=True, initial=0) / np.sqrt(x.var(-1, keepdims=True) + c.eps)
  out = np.broadcast_to(most, x.shape).reshape(c.x.shape)
  return out * (1 if c.weight is None else np.abs(by_channel(c.weight, out))) + (0 if c.bias is None else np.abs(by_channel(c.bias, out)))


def squares(c, over):
  """What the squares of the deviations, from the first element and then from the mean, add up to at most."""
  x = c.x.astype("f8")
  return np.broadcast_to(x[0].size * np.square(2 * np.max(np.abs(x), axis=over, keepdims=True, initial=0)), x.shape)


# Terms that can cancel: |a| + |b| and the like, on which an error in the result's precision depends.
MAGNITUDE = {
  "add": lambda c: sum(np.abs(v) for v in c.floats("a", "b")), "sub": lambda c: sum(np.abs(v) for v in c.floats("a", "b")),
  "fma": lambda c: (lambda a, b, d: np.abs(a * b) + np.abs(d))(*c.floats("a", "b", "c")),
  "sum": lambda c: np.sum(np.abs(c.x.astype("f8")), axis=c.axis_tuple(), keepdims=bool(c.keepdims)),
  "mean": lambda c: np.mean(np.abs(c.x.astype("f8")), axis=c.axis_tuple(), keepdims=bool(c.keepdims)),
  "var": lambda c: np.mean(np.square(c.x.astype("f8")), axis=c.axis_tuple(), keepdims=bool(c.keepdims)) * c.x.size,
  "cumsum": lambda c: np.cumsum(np.abs(c.x.astype("f8")), axis=c.axis), "linear_scan": lambda c: linear_scan(c, np.abs),
  "logcumsumexp": lambda c: np.maximum.accumulate(np.abs(c.x.astype("f8")), axis=c.axis),
  "scatter_add": lambda c: scattered(c, lambda out, at, value: out.__setitem__(at, abs(out[at]) + abs(value))),
  "tensordot": lambda c: np.tensordot(*(np.abs(v) for v in c.floats("a", "b")), axes=c.axes),
  "matmul": lambda c: np.matmul(*(np.abs(v) for v in c.floats("a", "b"))),
  "avg_pool2d": lambda c: np.max(np.abs(c.x)), "log_softmax": lambda c: np.max(np.abs(c.x.astype("f8"))),
  "cross_entropy": lambda c: np.max(np.abs(c.logits.astype("f8"))),
  "layer_norm": lambda c: normed(c, tuple(range(c.x.ndim - c.axes, c.x.ndim))),
  "instance_norm": lambda c: normed(c, tuple(range(2, c.x.ndim))),
  "batch_norm": lambda c: normed(c, (0, *range(2, c.x.ndim))) if c.mean is None else scaled_size(c), "group_norm": normed_groups,
  "avg_pool": lambda c: np.max(np.abs(c.x)), "mse": lambda c: np.mean(np.square(sum(np.abs(v) for v in c.floats("x", "targets")))),
  "binary_cross_entropy_with_logits": lambda c: (lambda x, y: np.abs(x) + np.abs(x * y))(*c.floats("x", "targets")),
  "binary_cross_entropy": lambda c: (lambda x, y: 100 * (np.abs(y) + np.abs(1 - y)))(*c.floats("x", "targets")),
  # An error of a score is a relative one of its weight.
  "attention": lambda c: (lambda q, k, v: v * (1 + 2 * q * k * c.q.shape[-1] * (abs(c.scale) or 1)))(
      *(np.max(np.abs(x), initial=0) for x in c.floats("q", "k", "v"))),
  "gelu": lambda c: np.abs(c.x.astype("f8")), "gelu_tanh": lambda c: np.abs(c.x.astype("f8")),
}
for name in ("conv1d", "conv2d", "conv3d", "conv_transpose"):  # terms of one element: of an output's weights
  MAGNITUDE[name] = lambda c: (np.max(np.abs(c.x)) * np.max(np.abs(c.weight)) * (c.weight[:, 0] if c.function == "conv_transpose" else c.weight[0]).size
                               + 1 if c.x.size and c.weight.size else 0)
# What is met on the way and may be beyond the dtype where the result is not.
BETWEEN = {
  "layer_norm": lambda c: squares(c, tuple(range(c.x.ndim - c.axes, c.x.ndim))),
  "instance_norm": lambda c: squares(c, tuple(range(2, c.x.ndim))),
  "batch_norm": lambda c: squares(c, (0, *range(2, c.x.ndim))), "group_norm": lambda c: squares(c, tuple(range(1, c.x.ndim))),
  "mse": lambda c: np.sum(np.square(sum(np.abs(v) for v in c.floats("x", "targets")))),
  "prod": lambda c: np.prod(np.maximum(np.abs(c.x.astype("f8")), 1), axis=c.axis_tuple(), keepdims=bool(c.keepdims)),
  "cumprod": lambda c: np.cumprod(np.maximum(np.abs(c.x.astype("f8")), 1), axis=c.axis),
  "stddev": lambda c: 4 * c.x.size * np.max(np.nan_to_num(np.abs(c.x.astype("f8"))), initial=0) ** 2,
  "norm": lambda c: c.x.size * np.max(np.nan_to_num(np.abs(c.x.astype("f8"))), initial=0) ** max(c.order, 1) if np.isfinite(c.order) else 0,
  "linear_scan": lambda c: np.maximum.accumulate(np.nan_to_num(linear_scan(c, np.abs), nan=np.inf, posinf=np.inf), axis=c.axis),
}
# What functions of many terms and of steep slopes may be off by, absolutely, in units of the precision.
SLOPPY = {"softmax": 1, "logcumsumexp": 60, "logsumexp": 60, "log_softmax": 60, "cross_entropy": 60, "layer_norm": 40, "instance_norm": 40, "batch_norm": 40, "group_norm": 40, "nll": 0, "binary_cross_entropy_with_logits": 2, "sin": 2, "cos": 2}

# Several operations, each rounded to an f8 (f8e4m3 overflows to NaN): too coarse to be compared with what is right.
STEPWISE = {"conv1d", "conv3d", "conv_transpose", "avg_pool", "mse", "batch_norm", "group_norm", "prod", "sum", "mean", "var", "stddev", "norm", "tensordot", "matmul", "conv2d", "avg_pool2d", "softmax", "log_softmax", "cross_entropy", "layer_norm",
            "attention",
            "cumsum", "cumprod", "logcumsumexp", "linear_scan", "instance_norm", "silu", "gelu", "sigmoid", "rsqrt", "pow"}


def same(c, wanted):
  """"" if the result is what was wanted, within rounding; else where it differs."""
  got, wanted = np.asarray(c.result), np.asarray(wanted)
  if got.shape != wanted.shape:
    return f"shape {list(got.shape)} instead of {list(wanted.shape)}"
  if not got.size:
    return ""
  if c.out not in EPS:
    wrong = got.astype(object) != to_dtype(wanted, c.out).astype(object)
  else:
    eps = max([EPS[c.out]] + [EPS.get(d, EPS["f32"]) for d in c.dtypes.values()])  # integers are computed with as f32
    size = np.abs(wanted) + np.broadcast_to(MAGNITUDE.get(c.function, lambda _: 0)(c), wanted.shape)
    terms = max([np.asarray(v).size for v in vars(c).values() if isinstance(v, np.ndarray)], default=1)
    if c.out.startswith("f8") and c.function in STEPWISE:
      return ""
    close = np.abs(got - wanted) <= eps * (size * (6 + 0.05 * terms) + SLOPPY.get(c.function, 0)) + TINY[c.out]
    if c.function in ("prod", "cumprod"):  # what becomes denormal on the way has few digits
      close |= (np.abs(wanted) < np.sqrt(TINY[c.out])) & (np.abs(got) < np.sqrt(TINY[c.out]))
    between = BETWEEN.get(c.function, lambda _: 0)(c)
    beyond = (size > LARGEST[c.out] * 0.9) | ~np.isfinite(size) | (between > LARGEST["f64" if c.out == "f64" else "f32"] * 0.9)
    wrong = ~(close | (got == wanted) | (np.isnan(got) & np.isnan(wanted)) | beyond)
  if not wrong.any():
    return ""
  at = np.argwhere(wrong)[0] if wrong.ndim else ()
  return f"{list(map(int, at))}: {got[tuple(at)]!r} instead of {wanted[tuple(at)]!r}"


def parameters_of(text):
  out = []
  for one in filter(None, (p.strip() for p in text.split(","))):
    name, _, fallback = one.partition("=")
    value = {"none": None, "true": True, "false": False, "": None}.get(fallback, fallback)
    if isinstance(value, str) and value[0] in "-0123456789":
      value = float(value) if set(value) & set(".e") else int(value)
    out.append((name, value))
  return out


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--count", type=int, default=3000, help="random cases, of about five calls each")
  parser.add_argument("--seed", type=int, default=random.randrange(10**9))
  parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
  parser.add_argument("--show", type=int, default=3, help="differences of a function to print")
  arguments = parser.parse_args()
  command = [str(arguments.build.resolve() / "tests" / "random_graphs"), "export", str(arguments.seed), str(arguments.count)]
  rows, compared_calls, differ, skipped = {}, collections.Counter(), collections.Counter(), collections.Counter()
  program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  for line in map(json.loads, program.stdout):
    if "row" in line:
      rows[line["row"]] = parameters_of(line["parameters"])
      continue
    if line["function"] not in TABLE:
      continue
    c = Call(line, rows[line["function"]])
    try:
      wanted = TABLE[c.function](c) if c.result.size else None
      found = "" if wanted is None else same(c, wanted)
    except (ValueError, TypeError, IndexError, RuntimeError, OverflowError) as error:
      wanted, found = 0, f"NumPy raises {type(error).__name__}: {error}"
    (skipped if wanted is None else compared_calls)[c.function] += 1
    if found:
      differ[c.function] += 1
      if differ[c.function] <= arguments.show:
        given = {n: f"{c.dtypes.get(n, '')}{list(v.shape)}" if isinstance(v, np.ndarray) else v for n, v in vars(c).items()
                 if n in dict(rows[c.function])}
        print(f"DIFFERS: seed {c.seed}: {c.function} {given} -> {c.out}: {found}")
  if program.wait():
    sys.exit("random_graphs export failed")
  unknown = sorted(set(rows) - set(TABLE) - set(WITHOUT))
  for name in unknown:
    print(f"MISSING: {name} is in neither table of tests/compare_numpy.py")
  for name, why in WITHOUT.items():
    print(f"no counterpart: {name}: {why}")
  never = sorted(set(rows) & set(TABLE) - set(compared_calls))
  if never:
    print(f"never called with these seeds: {', '.join(never)}")
  print(f"{sum(compared_calls.values())} calls of {len(compared_calls)} functions compared (seeds {arguments.seed} to "
        f"{arguments.seed + arguments.count - 1}), {sum(differ.values())} differ")
  sys.exit(bool(differ or unknown))


if __name__ == "__main__":
  main()
