"""JAX's form of the cases, on its CPU device, through jax.jit."""
import functools
import os

from measure import arguments, main

options = arguments()
os.environ["JAX_PLATFORMS"] = "cpu"
import jax  # noqa: E402  (reads the variables when it is loaded; its thread pool has the cores it is pinned to)
import jax.numpy as jnp  # noqa: E402

from cases import CONVOLUTIONS, output_shape  # noqa: E402

keys = iter(jax.random.split(jax.random.key(1), 1000))
MATMULS = {"matmul_1024": ((1024, 1024), (1024, 1024)), "matmul_2048": ((2048, 2048), (2048, 2048)),
           "vendors_512": ((512, 1024), (4, 1024, 1024)), "vendors_128": ((128, 1024), (4, 1024, 1024))}


def normal(*shape):
  return jax.random.normal(next(keys), shape)


def conv2d(x, w):
  return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID")


def jit(function, *inputs):
  run = jax.jit(function)
  return lambda: jax.block_until_ready(run(*inputs))


def convolution(name):
  name, _, wrt = name.partition("_")
  x, w = (normal(*shape) for shape in CONVOLUTIONS[name])
  if not wrt:
    return jit(conv2d, x, w)
  g = normal(*output_shape(x.shape, w.shape))
  return jit(lambda x, w, g: jax.vjp(conv2d, x, w)[1](g)[0 if wrt == "dx" else 1], x, w, g)


def initial():
  """Parameters of the MNIST CNN: convolutions and the linear layer with bias, norms with scale and shift."""
  def layer(*shape):
    bound = float(jnp.prod(jnp.array(shape[1:]))) ** -0.5
    draw = lambda size: jax.random.uniform(next(keys), size, minval=-bound, maxval=bound)  # noqa: E731
    return draw(shape), draw(shape[:1])

  norm = lambda channels: (jnp.ones(channels), jnp.zeros(channels))  # noqa: E731
  return [layer(32, 1, 5, 5), layer(32, 32, 5, 5), norm(32), layer(64, 32, 3, 3), layer(64, 64, 3, 3), norm(64),
          layer(10, 576)]


def network(parameters, x):
  def convolved(x, layer):
    return jax.nn.relu(conv2d(x, layer[0]) + layer[1][:, None, None])

  def normed(x, layer):
    x = (x - x.mean((2, 3), keepdims=True)) * jax.lax.rsqrt(x.var((2, 3), keepdims=True) + 1e-5)
    return x * layer[0][:, None, None] + layer[1][:, None, None]

  def pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

  conv1, conv2, norm1, conv3, conv4, norm2, linear = parameters
  x = pooled(normed(convolved(convolved(x, conv1), conv2), norm1))
  x = pooled(normed(convolved(convolved(x, conv3), conv4), norm2))
  return x.reshape(x.shape[0], -1) @ linear[0].T + linear[1]


def loss_of(parameters, images, labels):
  logits = network(parameters, images.astype(jnp.float32))
  return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def adam(loss_of, parameters, m, v, t, *data, lr=1e-3, beta1=0.9, beta2=0.999):
  loss, gradients = jax.value_and_grad(loss_of)(parameters, *data)
  each = jax.tree.map
  m = each(lambda m, g: beta1 * m + (1 - beta1) * g, m, gradients)
  v = each(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, gradients)
  step = lambda p, m, v: p - lr * (m / (1 - beta1**t)) / (jnp.sqrt(v / (1 - beta2**t)) + 1e-8)  # noqa: E731
  return each(step, parameters, m, v), m, v, t + 1, loss


def gpt_parameters(layers, width, context, vocabulary):
  draw = lambda *shape: normal(*shape) * 0.02  # noqa: E731
  norm = lambda: (jnp.ones(width), jnp.zeros(width))  # noqa: E731
  block = lambda: (norm(), draw(width, 3 * width), draw(width, width), norm(), draw(width, 4 * width),  # noqa: E731
                   draw(4 * width, width))
  return draw(vocabulary, width), draw(context, width), [block() for _ in range(layers)], norm()


def gpt_loss(parameters, heads, ids, following):
  """As nn::Gpt: layer norms before, no bias in linear layers, gelu, the table of tokens is the output's matrix."""
  def normed(x, norm):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * norm[0] + norm[1]

  tokens, positions, blocks, last = parameters
  batch, n = ids.shape
  x = tokens[ids] + positions
  for norm1, joint, project, norm2, up, down in blocks:
    q, k, v = (t.reshape(batch, n, heads, -1) for t in jnp.split(normed(x, norm1) @ joint, 3, -1))
    x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(batch, n, -1) @ project
    x = x + jax.nn.gelu(normed(x, norm2) @ up, approximate=False) @ down
  logits = jax.nn.log_softmax(normed(x, last) @ tokens.T)
  return -jnp.take_along_axis(logits, following[..., None], -1).mean()


def gpt_step(layers, width, heads, context, batch=8, vocabulary=65):
  ids, following = (jax.random.randint(next(keys), (batch, context), 0, vocabulary) for _ in range(2))
  return stepping(lambda parameters, *data: gpt_loss(parameters, heads, *data),
                  gpt_parameters(layers, width, context, vocabulary), ids, following)


def stepping(loss_of, parameters, *data):
  update = jax.jit(functools.partial(adam, loss_of), donate_argnums=(0, 1, 2, 3))
  zeros = lambda: jax.tree.map(jnp.zeros_like, parameters)  # noqa: E731
  state = [parameters, zeros(), zeros(), jnp.float32(1)]

  def step():
    nonlocal state
    *state, loss = update(*state, *data)
    return float(loss)

  return step


def attention(backward):
  operands = [normal(1, 1024, 8, 64) for _ in range(3)]
  of = functools.partial(jax.nn.dot_product_attention, is_causal=True)
  if not backward:
    return jit(of, *operands)
  g = normal(1, 1024, 8, 64)
  return jit(lambda g, *operands: jax.vjp(of, *operands)[1](g), g, *operands)


def training_step():
  images = jax.random.randint(next(keys), (128, 1, 28, 28), 0, 256).astype(jnp.uint8)
  labels = jax.random.randint(next(keys), (128,), 0, 10)
  return stepping(loss_of, initial(), images, labels)


def chain(x, w):
  step = jax.jit(lambda x, w: x @ w)

  def run():
    y = x
    for _ in range(64):
      y = step(y, w)
    jax.block_until_ready(y)

  return run


def perturbed(batch, noise):
  def product(x, theta, key):
    return x @ (theta + 1e-3 * noise(key, (4, 1024, 1024)))

  return jit(product, normal(batch, 1024), normal(1024, 1024), next(keys))


def make(name):
  if name.startswith("conv"):
    return convolution(name)
  if name in MATMULS:
    return jit(jnp.matmul, *(normal(*shape) for shape in MATMULS[name]))
  if name.startswith("matmul_bf16_"):
    n = int(name.split("_")[2])
    return jit(jnp.matmul, *(normal(n, n).astype(jnp.bfloat16) for _ in range(2)))
  if name == "perturbed_512":
    return perturbed(512, lambda key, shape: jax.random.uniform(key, shape, minval=-1, maxval=1))
  if name == "perturbed_128":
    return perturbed(128, lambda key, shape: jax.random.rademacher(key, shape, dtype=jnp.float32))
  if name == "sum_64m":
    return jit(jnp.sum, normal(64 << 20))
  if name == "exp_64m":
    return jit(jnp.exp, normal(64 << 20))
  if name == "sum_rows":
    return jit(lambda x: x.sum(0), normal(65536, 1024))
  if name == "cumsum_64m":
    return jit(jnp.cumsum, normal(64 << 20))
  if name == "cumsum_rows":
    return jit(lambda x: jnp.cumsum(x, 0), normal(65536, 1024))
  if name == "softmax":
    return jit(jax.nn.softmax, normal(16384, 4096))
  if name.removesuffix("_long") in ("argmax", "logsumexp", "var"):
    of = {"argmax": jnp.argmax, "logsumexp": jax.nn.logsumexp, "var": jnp.var}[name.removesuffix("_long")]
    return jit(lambda x: of(x, 1), normal(64, 1 << 20) if name.endswith("_long") else normal(16384, 4096))
  if name in ("sort_1m", "sort_rows"):
    return jit(lambda x: jnp.sort(x, -1), normal(1 << 20) if name == "sort_1m" else normal(1024, 1024))
  if name == "topk_1m":
    return jit(lambda x: jax.lax.top_k(x, 100), normal(1 << 20))
  if name == "replay_64":
    return chain(normal(16, 16), normal(16, 16) / 16)
  if name in ("mnist_step", "first_step"):
    return training_step()
  if name in ("attention", "attention_step"):
    return attention(name == "attention_step")
  if name == "gpt_2":
    return gpt_step(2, 128, 4, 128)
  if name in ("gpt_6", "first_gpt_6"):
    return gpt_step(6, 384, 6, 256)
  if name.startswith("start_"):
    return lambda: str(jax.jit(lambda x: (x * 2 + 1).sum(1))(jnp.arange(6).reshape(2, 3)))
  return None


main(make, options)
