"""PyTorch's form of the cases, eager or, with --compile, through torch.compile."""
from measure import arguments, main

options = arguments()
import torch  # noqa: E402  (after the command line: an unknown case is told at once)

from cases import BY_NAME, CONVOLUTIONS, output_shape  # noqa: E402

torch.set_num_threads(options.threads)
torch.set_default_device(options.device)
torch.backends.cudnn.allow_tf32 = False  # as of products: f32 is f32
torch.manual_seed(1)
compiled = torch.compile if options.compile else lambda function: function
MATMULS = {"matmul_1024": ((1024, 1024), (1024, 1024)), "matmul_2048": ((2048, 2048), (2048, 2048)),
           "matmul_4096": ((4096, 4096), (4096, 4096)), "matmul_8192": ((8192, 8192), (8192, 8192)),
           "vendors_512": ((512, 1024), (4, 1024, 1024)), "vendors_128": ((128, 1024), (4, 1024, 1024))}


def model():
  nn = torch.nn
  return nn.Sequential(
      nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Conv2d(32, 32, 5), nn.ReLU(), nn.InstanceNorm2d(32, eps=1e-5, affine=True),
      nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
      nn.InstanceNorm2d(64, eps=1e-5, affine=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(576, 10))


def stepping(network, loss_of, *data):
  """A step of Adam; the loss is compiled where that is asked for."""
  optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
  loss_of = compiled(loss_of)

  def step():
    optimizer.zero_grad()
    loss = loss_of(*data)
    loss.backward()
    optimizer.step()
    return loss.item()

  return step


def training_step():
  network = model()
  images = torch.randint(0, 256, (128, 1, 28, 28), dtype=torch.uint8)
  labels = torch.randint(0, 10, (128,))
  return stepping(network, lambda x, y: torch.nn.functional.cross_entropy(network(x.float()), y), images, labels)


class Block(torch.nn.Module):
  """As nn::TransformerBlock: layer norms before, no bias in linear layers, gelu."""

  def __init__(self, width, heads):
    super().__init__()
    nn, self.heads = torch.nn, heads
    self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
    self.joint, self.project = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
    self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

  def forward(self, x):
    batch, n, width = x.shape
    q, k, v = (t.view(batch, n, self.heads, -1).transpose(1, 2) for t in self.joint(self.norm1(x)).split(width, -1))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + self.project(mixed.transpose(1, 2).reshape(batch, n, width))
    return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))


class Gpt(torch.nn.Module):
  def __init__(self, layers, width, heads, context, vocabulary=65):
    super().__init__()
    nn = torch.nn
    self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
    self.blocks, self.norm = nn.Sequential(*(Block(width, heads) for _ in range(layers))), nn.LayerNorm(width)
    for table in (self.tokens, self.positions):
      nn.init.normal_(table.weight, std=0.02)

  def forward(self, ids):
    x = self.tokens(ids) + self.positions.weight[:ids.shape[1]]
    return self.norm(self.blocks(x)) @ self.tokens.weight.T


def gpt_step(layers, width, heads, context, batch=8, vocabulary=65):
  network = Gpt(layers, width, heads, context, vocabulary)
  ids, following = (torch.randint(0, vocabulary, (batch, context)) for _ in range(2))
  return stepping(network, lambda x, y: torch.nn.functional.cross_entropy(network(x).flatten(0, 1), y.flatten()), ids, following)


class Cached:
  """A token at a time: keys and values of those before lie in tables of the whole context."""

  def __init__(self, layers, width, heads, context, dtype):
    self.network, self.context, self.heads = Gpt(layers, width, heads, context).to(dtype), context, heads
    shape = (1, heads, context, width // heads)
    self.past = [(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)) for _ in range(layers)]
    self.token, self.at = 0, 0

  def block(self, b, x, keys, values, at):
    q, k, v = (t.view(1, 1, self.heads, -1).transpose(1, 2) for t in b.joint(b.norm1(x)).split(x.shape[-1], -1))
    keys[:, :, at], values[:, :, at] = k[:, :, 0], v[:, :, 0]
    mixed = torch.nn.functional.scaled_dot_product_attention(q, keys[:, :, :at + 1], values[:, :, :at + 1])
    x = x + b.project(mixed.transpose(1, 2).reshape(x.shape))
    return x + b.down(torch.nn.functional.gelu(b.up(b.norm2(x))))

  def next(self):
    if self.at == self.context:
      self.token, self.at = 0, 0
    n = self.network
    x = (n.tokens.weight[self.token] + n.positions.weight[self.at]).view(1, 1, -1)
    for b, (keys, values) in zip(n.blocks, self.past):
      x = self.block(b, x, keys, values, self.at)
    self.token, self.at = int((n.norm(x) @ n.tokens.weight.T).argmax()), self.at + 1


def generation(dtype):
  if options.compile:
    return None  # sizes that grow by one each token
  model = Cached(6, 384, 6, 256, dtype)
  return without_gradient(model.next)


def conversion(name):
  way, narrow = name.split("_")
  narrow = {"bf16": torch.bfloat16, "f16": torch.float16, "f8e4m3": torch.float8_e4m3fn, "f8e5m2": torch.float8_e5m2}[narrow]
  x = torch.rand(64 << 20)
  x, wanted = (x, narrow) if way == "to" else (x.to(narrow), torch.float32)
  return without_gradient(lambda: x.to(wanted))


def attention(backward):
  q, k, v, g = (torch.randn(1, 8, 1024, 64) for _ in range(4))
  def forward():
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

  if not backward:
    return without_gradient(forward)
  operands, forward = [t.requires_grad_() for t in (q, k, v)], compiled(forward)
  return lambda: torch.autograd.grad(forward(), operands, g)


def without_gradient(function):
  function = compiled(function)

  def run():
    with torch.no_grad():
      return function()

  return run


def convolution(name):
  name, _, wrt = name.partition("_")
  x, w = (torch.randn(shape) for shape in CONVOLUTIONS[name])
  if not wrt:
    return without_gradient(lambda: torch.nn.functional.conv2d(x, w))
  g = torch.randn(output_shape(x.shape, w.shape))
  one, two = [1, 1], [0, 0]
  return without_gradient(lambda: torch.ops.aten.convolution_backward(g, x, w, None, one, two, one, False, two, 1,
                                                                      [wrt == "dx", wrt == "dw", False]))


def chain(x, w):
  for _ in range(64):
    x = x @ w
  return x


def perturbed(batch, noise):
  x, theta = torch.randn(batch, 1024), torch.randn(1024, 1024)
  return without_gradient(lambda: x @ (theta + 1e-3 * noise()))


def of_one(shape, function):
  x = torch.randn(shape)
  return without_gradient(lambda: function(x))


def waited_for(run):
  """A run that ends when the device has done it."""
  if options.device == "cpu" or run is None:
    return run

  def run_and_wait():
    run()
    torch.cuda.synchronize()

  return run_and_wait


def make(name):
  return waited_for(form_of(name))


def form_of(name):
  if options.compile and BY_NAME[name].group in ("products", "large") and not name.startswith("perturbed"):
    return None  # the compiler leaves a single product to the library that eager mode calls
  if name.startswith("conv"):
    return convolution(name)
  if name in MATMULS:
    a, b = (torch.randn(shape) for shape in MATMULS[name])
    return without_gradient(lambda: a @ b)
  if name.startswith("matmul_bf16_"):
    n = int(name.split("_")[2])
    a, b = (torch.randn(n, n).to(torch.bfloat16) for _ in range(2))
    return without_gradient(lambda: a @ b)
  if name in ("attention", "attention_step"):
    return attention(name == "attention_step")
  if name == "perturbed_512":
    return perturbed(512, lambda: torch.empty(4, 1024, 1024).uniform_(-1, 1))
  if name == "perturbed_128":
    return perturbed(128, lambda: torch.empty(4, 1024, 1024).bernoulli_().mul_(2).sub_(1))
  if name == "sum_64m":
    return of_one(64 << 20, lambda x: x.sum())
  if name == "exp_64m":
    return of_one(64 << 20, lambda x: x.exp())
  if name == "sum_rows":
    return of_one((65536, 1024), lambda x: x.sum(0))
  if name == "cumsum_64m":
    return of_one(64 << 20, lambda x: x.cumsum(0))
  if name == "cumsum_rows":
    return of_one((65536, 1024), lambda x: x.cumsum(0))
  if name == "softmax":
    return of_one((16384, 4096), lambda x: x.softmax(-1))
  if name.removesuffix("_long") in ("argmax", "logsumexp", "var"):
    shape = (64, 1 << 20) if name.endswith("_long") else (16384, 4096)
    return of_one(shape, lambda x: getattr(x, name.removesuffix("_long"))(1))
  if name in ("sort_1m", "sort_rows"):
    return of_one(1 << 20 if name == "sort_1m" else (1024, 1024), lambda x: x.sort(dim=-1, stable=True).values)
  if name == "topk_1m":
    return of_one(1 << 20, lambda x: x.topk(100))
  if name == "replay_64":
    x, w = torch.randn(16, 16), torch.randn(16, 16) / 16
    return without_gradient(lambda: chain(x, w))
  if name in ("mnist_step", "first_step"):
    return training_step()
  if name == "gpt_2":
    return gpt_step(2, 128, 4, 128)
  if name in ("token", "token_bf16"):
    return generation(torch.bfloat16 if name == "token_bf16" else torch.float32)
  if name.startswith(("to_", "from_")):
    return conversion(name)
  if name in ("gpt_6", "first_gpt_6", "second_gpt_6"):
    return gpt_step(6, 384, 6, 256)
  if name.startswith("start_"):
    return lambda: str(compiled(lambda x: (x * 2 + 1).sum(1))(torch.arange(6).reshape(2, 3)))
  return None


main(make, options)
