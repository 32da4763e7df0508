"""NumPy's form of the cases; it has no convolution and no training."""
import os
import sys

from measure import arguments, main

options = arguments()
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
  os.environ[variable] = str(options.threads)
import numpy as np  # noqa: E402  (reads the variables when it is loaded)

rng = np.random.default_rng(1)


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
  if name == "matmul_1024":
    a, b, out = normal(1024, 1024), normal(1024, 1024), np.empty((1024, 1024), np.float32)
    return lambda: np.matmul(a, b, out=out)
  if name == "sum_64m":
    x = normal(64 << 20)
    return lambda: float(x.sum())
  if name == "exp_64m":
    x = normal(64 << 20)
    out = np.empty_like(x)
    return lambda: np.exp(x, out=out)
  if name == "softmax":
    x = normal(16384, 4096)
    out = np.empty_like(x)
    return lambda: softmax(x, out)
  if name == "replay_64":
    x, w = normal(16, 16), normal(16, 16) / 16
    out = np.empty_like(x)
    return lambda: chain(x, w, out)
  if name.startswith("start_"):
    return lambda: float((np.ones(1000, np.float32) * 2 + 1).sum())
  return None


main("numpy", np.__version__, make, options)
sys.stdout.flush()
os._exit(0)  # a process is timed to its result, not to the end of its teardown
