"""tinygrad's form of the cases, on its CPU device, through TinyJit as its own examples do."""
import os
import time

from measure import Measured, arguments, main

options = arguments()
os.environ["CPU"] = "1"
os.environ["DEV"] = "CPU"  # its newer name
from tinygrad import Context, Device, GlobalCounters, Tensor, TinyJit, dtypes, nn  # noqa: E402  (reads the variables)

from cases import CONVOLUTIONS  # noqa: E402

Tensor.manual_seed(1)


def normal(*shape):
  return Tensor.randn(*shape).realize()


def jit(function, *inputs):
  run = TinyJit(lambda *x: function(*x).realize())

  def once():
    run(*inputs)
    Device[Device.DEFAULT].synchronize()

  once()  # traces; the second run captures, and the third is the first replay
  return once


class Model:
  def __init__(self):
    self.layers = [
        nn.Conv2d(1, 32, 5), Tensor.relu, nn.Conv2d(32, 32, 5), Tensor.relu, nn.InstanceNorm(32), Tensor.max_pool2d,
        nn.Conv2d(32, 64, 3), Tensor.relu, nn.Conv2d(64, 64, 3), Tensor.relu, nn.InstanceNorm(64), Tensor.max_pool2d,
        lambda x: x.flatten(1), nn.Linear(576, 10)]

  def __call__(self, x):
    return x.float().sequential(self.layers)


def recorded_step():
  """A training step that is not jitted: returns what is to be realized."""
  network = Model()
  optimizer = nn.optim.Adam(nn.state.get_parameters(network), lr=1e-3)
  images = Tensor.randint(128, 1, 28, 28, low=0, high=256, dtype=dtypes.uint8).realize()
  labels = Tensor.randint(128, low=0, high=10).realize()

  def step():
    with Context(TRAINING=1):
      optimizer.zero_grad()
      loss = network(images).sparse_categorical_crossentropy(labels).backward()
      return loss, optimizer.schedule_step()

  return step


def training_step():
  record = recorded_step()

  @TinyJit
  def step():
    with Context(TRAINING=1):
      loss, updates = record()
      return loss.realize(*updates)

  return lambda: step().item()


def compile_kernel():
  """Seconds that the first step takes beyond the second, by the kernels of a step (distinct ones are fewer)."""
  record = recorded_step()

  def step():
    with Context(TRAINING=1):
      begin = time.perf_counter()
      loss, updates = record()
      loss.realize(*updates)
      Device[Device.DEFAULT].synchronize()
      return time.perf_counter() - begin

  first = step()
  GlobalCounters.reset()
  second = step()
  return {"value": (first - second) / max(1, GlobalCounters.kernel_count), "kernels": GlobalCounters.kernel_count}


def chain(x, w):
  for _ in range(64):
    x = (x @ w).contiguous()  # kernels of their own, as in the other engines
  return x


def make(name):
  if name in CONVOLUTIONS:
    return jit(lambda x, w: x.conv2d(w), *(normal(*shape) for shape in CONVOLUTIONS[name]))
  if name == "matmul_1024":
    return jit(lambda a, b: a @ b, normal(1024, 1024), normal(1024, 1024))
  if name == "sum_64m":
    return jit(lambda x: x.sum(), normal(64 << 20))
  if name == "exp_64m":
    return jit(lambda x: x.exp(), normal(64 << 20))
  if name == "sum_rows":
    return jit(lambda x: x.sum(0), normal(65536, 1024))
  if name == "softmax":
    return jit(lambda x: x.softmax(-1), normal(16384, 4096))
  if name == "replay_64":
    return jit(chain, normal(16, 16), (normal(16, 16) / 16).realize())
  if name in ("mnist_step", "first_step"):
    return training_step()
  if name == "compile_kernel":
    return Measured(compile_kernel)
  if name.startswith("start_"):
    return lambda: str((Tensor.arange(6).reshape(2, 3) * 2 + 1).sum(1).tolist())
  return None


main(make, options)
