"""NumPy's form of the cases; it has no convolution and no training."""
from measure import arguments, main

options = arguments()
import numpy as np  # noqa: E402  (after the command line: an unknown case is told at once)

rng = np.random.default_rng(1)
MATMULS = {"matmul_1024": ((1024, 1024), (1024, 1024)), "matmul_2048": ((2048, 2048), (2048, 2048)),
           "vendors_512": ((512, 1024), (4, 1024, 1024)), "vendors_128": ((128, 1024), (4, 1024, 1024))}


def normal(*shape):
  return rng.standard_normal(shape, dtype=np.float32)


def softmax(x, out):
  np.subtract(x, x.max(axis=-1, keepdims=True), out=out)
  np.exp(out, out=out)
  out /= out.sum(axis=-1, keepdims=True)


def chain(x, w, out):
  for _ in range(64):
    np.matmul(x, w, out=out)
    x, out = out, x


def make(name):
  if name in MATMULS:
    a, b = (normal(*shape) for shape in MATMULS[name])
    out = np.matmul(a, b)
    return lambda: np.matmul(a, b, out=out)
  if name == "sum_64m":
    x = normal(64 << 20)
    return lambda: float(x.sum())
  if name == "exp_64m":
    x = normal(64 << 20)
    out = np.empty_like(x)
    return lambda: np.exp(x, out=out)
  if name == "sum_rows":
    x = normal(65536, 1024)
    return lambda: x.sum(0)
  if name in ("cumsum_64m", "cumsum_rows"):
    x = normal(64 << 20) if name == "cumsum_64m" else normal(65536, 1024)
    out = np.empty_like(x)
    return lambda: np.cumsum(x, axis=0, out=out)
  if name == "softmax":
    x = normal(16384, 4096)
    out = np.empty_like(x)
    return lambda: softmax(x, out)
  if name.removesuffix("_long") in ("argmax", "var"):
    x = normal(64, 1 << 20) if name.endswith("_long") else normal(16384, 4096)
    return lambda: getattr(x, name.removesuffix("_long"))(1)
  if name in ("sort_1m", "sort_rows"):
    x = normal(1 << 20) if name == "sort_1m" else normal(1024, 1024)
    return lambda: np.sort(x, axis=-1, kind="stable")
  if name == "replay_64":
    x, w = normal(16, 16), normal(16, 16) / 16
    out = np.empty_like(x)
    return lambda: chain(x, w, out)
  if name.startswith("start_"):
    return lambda: str((np.arange(6).reshape(2, 3) * 2 + 1).sum(1))
  return None


main(make, options)
