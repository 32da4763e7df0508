"""PyTorch's form of the cases, eager or, with --compile, through torch.compile."""
import os
import sys

from measure import arguments, main

options = arguments()
import torch  # noqa: E402

torch.set_num_threads(options.threads)
torch.manual_seed(1)
compiled = torch.compile if options.compile else lambda function: function
CONVOLUTIONS = {  # input, weight
    "conv1": ((128, 1, 28, 28), (32, 1, 5, 5)),
    "conv2": ((128, 32, 24, 24), (32, 32, 5, 5)),
    "conv3": ((128, 32, 10, 10), (64, 32, 3, 3)),
    "conv4": ((128, 64, 8, 8), (64, 64, 3, 3)),
}


def model():
  nn = torch.nn
  return nn.Sequential(
      nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Conv2d(32, 32, 5), nn.ReLU(), nn.InstanceNorm2d(32, eps=1e-5, affine=True),
      nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
      nn.InstanceNorm2d(64, eps=1e-5, affine=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(576, 10))


def training_step():
  network = model()
  optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
  images = torch.randint(0, 256, (128, 1, 28, 28), dtype=torch.uint8)
  labels = torch.randint(0, 10, (128,))
  loss_of = compiled(lambda x, y: torch.nn.functional.cross_entropy(network(x.float()), y))

  def step():
    optimizer.zero_grad()
    loss = loss_of(images, labels)
    loss.backward()
    optimizer.step()
    return loss.item()

  return step


def without_gradient(function):
  function = compiled(function)

  def run():
    with torch.no_grad():
      return function()

  return run


def chain(x, w):
  for _ in range(64):
    x = x @ w
  return x


def make(name):
  if name in CONVOLUTIONS:
    x, w = (torch.randn(shape) for shape in CONVOLUTIONS[name])
    return without_gradient(lambda: torch.nn.functional.conv2d(x, w))
  if name == "matmul_1024":
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return without_gradient(lambda: a @ b)
  if name == "sum_64m":
    x = torch.randn(64 << 20)
    return without_gradient(lambda: x.sum())
  if name == "exp_64m":
    x = torch.randn(64 << 20)
    return without_gradient(lambda: x.exp())
  if name == "softmax":
    x = torch.randn(16384, 4096)
    return without_gradient(lambda: x.softmax(-1))
  if name == "replay_64":
    x, w = torch.randn(16, 16), torch.randn(16, 16) / 16
    return without_gradient(lambda: chain(x, w))
  if name in ("mnist_step", "first_step"):
    return training_step()
  if name.startswith("start_"):
    x = torch.ones(1000)
    return lambda: compiled(lambda: (x * 2 + 1).sum())().item()
  return None


main("torch-compile" if options.compile else "torch", torch.__version__, make, options)
sys.stdout.flush()
os._exit(0)  # a process is timed to its result, not to the end of its teardown
