"""tinygrad's form of the cases, on its CPU device, through TinyJit as its own examples do."""
import importlib.metadata
import os
import sys

from measure import arguments, main

options = arguments()
os.environ["CPU"] = "1"
os.environ["DEV"] = "CPU"  # its newer name
os.environ["CPU_COUNT"] = str(options.threads)  # read by its older versions; the newest has one thread only
from tinygrad import Context, Tensor, TinyJit, dtypes, nn  # noqa: E402  (reads the variables when it is loaded)

Tensor.manual_seed(1)
CONVOLUTIONS = {  # input, weight
    "conv1": ((128, 1, 28, 28), (32, 1, 5, 5)),
    "conv2": ((128, 32, 24, 24), (32, 32, 5, 5)),
    "conv3": ((128, 32, 10, 10), (64, 32, 3, 3)),
    "conv4": ((128, 64, 8, 8), (64, 64, 3, 3)),
}


def normal(*shape):
  return Tensor.randn(*shape).realize()



def jit(function, *inputs):
  from tinygrad import Device
  run = TinyJit(lambda *x: function(*x).realize())

  def once():
    run(*inputs)
    Device[Device.DEFAULT].synchronize()

  for _ in range(3):  # the first traces, the second captures
    once()
  return once


class Model:
  def __init__(self):
    self.layers = [
        nn.Conv2d(1, 32, 5), Tensor.relu, nn.Conv2d(32, 32, 5), Tensor.relu, nn.InstanceNorm(32), Tensor.max_pool2d,
        nn.Conv2d(32, 64, 3), Tensor.relu, nn.Conv2d(64, 64, 3), Tensor.relu, nn.InstanceNorm(64), Tensor.max_pool2d,
        lambda x: x.flatten(1), nn.Linear(576, 10)]

  def __call__(self, x):
    return x.float().sequential(self.layers)


def training_step():
  network = Model()
  optimizer = nn.optim.Adam(nn.state.get_parameters(network), lr=1e-3)
  images = Tensor.randint(128, 1, 28, 28, low=0, high=256, dtype=dtypes.uint8).realize()
  labels = Tensor.randint(128, low=0, high=10).realize()

  @TinyJit
  def step():
    with Context(TRAINING=1):
      optimizer.zero_grad()
      loss = network(images).sparse_categorical_crossentropy(labels).backward()
      return loss.realize(*optimizer.schedule_step())

  return lambda: step().item()


def chain(x, w):
  for _ in range(64):
    x = (x @ w).contiguous()  # kernels of their own, as in the other engines
  return x


def make(name):
  if name in CONVOLUTIONS:
    x, w = (normal(*shape) for shape in CONVOLUTIONS[name])
    return jit(lambda x, w: x.conv2d(w), x, w)
  if name == "matmul_1024":
    return jit(lambda a, b: a @ b, normal(1024, 1024), normal(1024, 1024))
  if name == "sum_64m":
    return jit(lambda x: x.sum(), normal(64 << 20))
  if name == "exp_64m":
    return jit(lambda x: x.exp(), normal(64 << 20))
  if name == "softmax":
    return jit(lambda x: x.softmax(-1), normal(16384, 4096))
  if name == "replay_64":
    return jit(chain, normal(16, 16), (normal(16, 16) / 16).realize())
  if name in ("mnist_step", "first_step"):
    return training_step()
  if name.startswith("start_"):
    return lambda: (Tensor.ones(1000).contiguous().realize() * 2 + 1).sum().item()
  return None


main("tinygrad", importlib.metadata.version("tinygrad"), make, options)
sys.stdout.flush()
os._exit(0)  # a process is timed to its result, not to the end of its teardown
