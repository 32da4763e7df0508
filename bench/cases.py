"""The cases of the benchmark: name, what it does, the work it needs at least, and the limit it is held against.

`flops` and `bytes` are of one run: multiply-adds x 2, and operands read plus results written once. How a case is
measured is its `kind`:
  repeat   repeated within a process that serves many cases; the figure is the median time of a run
  process  a whole process, timed from its start to the first line it prints
  own      one figure that a process of its own prints (what earlier cases left in memory would change it)
"""
import dataclasses

MILLION = 1 << 20
F32 = 4
FMA, DOT, READ, COPY = "fma_f32", "dot_bf16", "read", "copy"
LIMITS = {FMA: ("GFLOP/s", 1e9), DOT: ("GFLOP/s", 1e9), READ: ("GB/s", 1e9), COPY: ("GB/s", 1e9), "copy_stream": ("GB/s", 1e9)}


@dataclasses.dataclass(frozen=True)
class Case:
  name: str
  group: str
  what: str
  flops: float = 0
  bytes: float = 0
  limit: str = ""  # a row of machine-limits
  kind: str = "repeat"
  unit: str = "s"
  statistic: str = "value"  # of what an engine prints: value (its median), mean or best
  threads: tuple = ()  # only these; none: all that are asked for
  empty: bool = False  # a process whose caches are empty

  def share(self, seconds, limit):
    """FLOPs or bytes a second as a part of the limit's."""
    return (self.flops if self.limit in (FMA, DOT) else self.bytes) / seconds / limit


def matmul(batch, inner, out, vendors=1, limit=FMA):
  flops = 2 * vendors * batch * inner * out
  return {"flops": flops, "bytes": F32 * (batch * inner + vendors * (inner + batch) * out), "limit": limit}


def bf16_cases():
  for n in (1024, 2048):
    what = f"bf16[{n},{n}] x bf16[{n},{n}]"
    yield Case(f"matmul_bf16_{n}", "products", f"{what}, numerics = strict", **matmul(n, n, n))
    yield Case(f"matmul_bf16_{n}_fast", "products", f"{what}, numerics = fast", **matmul(n, n, n, limit=DOT))


def large_cases():
  """What fills a GPU and takes a CPU seconds."""
  for n in (4096, 8192):
    yield Case(f"matmul_{n}", "large", f"f32[{n},{n}] x f32[{n},{n}]", **matmul(n, n, n))
    yield Case(f"matmul_bf16_{n}_fast", "large", f"bf16[{n},{n}] x bf16[{n},{n}], numerics = fast", **matmul(n, n, n, limit=DOT))


CONVOLUTIONS = {  # of the MNIST model at batch 128: x, weight; valid, stride 1
    "conv1": ((128, 1, 28, 28), (32, 1, 5, 5)),
    "conv2": ((128, 32, 24, 24), (32, 32, 5, 5)),
    "conv3": ((128, 32, 10, 10), (64, 32, 3, 3)),
    "conv4": ((128, 64, 8, 8), (64, 64, 3, 3)),
}


def output_shape(x, weight):
  return x[0], weight[0], x[2] - weight[2] + 1, x[3] - weight[3] + 1


def convolution_cases():
  """Forward, and the gradients with respect to x and the weight given that of the output: the same multiply-adds."""
  for name, (x, weight) in CONVOLUTIONS.items():
    batch, out, height, width = output_shape(x, weight)
    flops = 2 * batch * out * height * width * weight[1] * weight[2] * weight[3]
    for ending, what in (("", "conv2d"), ("_dx", "gradient w.r.t. x of conv2d"), ("_dw", "gradient w.r.t. w of conv2d")):
      shapes = f"x{list(x)} w{list(weight)}".replace(" ", "")
      yield Case(name + ending, "products", f"{what} {shapes}", flops, 0, FMA)


# The model is that of the spec, section 1.1: FLOPs a sample of its three groups.
GROUPS = (2 * (32 * 24 * 24 * 25 + 32 * 20 * 20 * 32 * 25), 2 * (64 * 8 * 8 * 32 * 9 + 64 * 6 * 6 * 64 * 9), 2 * 5760)


def crossed_flops(n, batch):
  """Forward passes of a V2 step: n vendors of the first group, n^2 paths through the second, n^3 through the third."""
  return batch * sum(flops * n**(depth + 1) for depth, flops in enumerate(GROUPS))


def gpt_case(name, layers, width, heads, context, batch=8, vocabulary=65):
  """FLOPs of products: matrices thrice (forward, both gradients), attention of all pairs 6 times 2 (scores are kept)."""
  tokens = batch * context
  matrices = layers * 12 * width * width + width * vocabulary
  flops = 3 * 2 * tokens * matrices + layers * 12 * tokens * context * width
  return Case(name, "training", f"training step of a GPT, {layers} layers of {width}, {heads} heads, context {context}, "
              f"batch {batch}, Adam 1e-3", flops, 0, FMA)


def conversion_cases():
  for name, size in (("bf16", 2), ("f16", 2), ("f8e4m3", 1), ("f8e5m2", 1)):
    for case, what in ((f"to_{name}", f"f32[67108864] to {name}"), (f"from_{name}", f"{name}[67108864] to f32")):
      yield Case(case, "memory-bound", what, 0, (F32 + size) * 64 * MILLION, COPY)


def token_case(name, dtype, size, layers=6, width=384, vocabulary=65):
  """Each weight is read once, but for the table of positions."""
  weights = layers * 12 * width * width + width * vocabulary
  return Case(name, "generation", f"a token of greedy generation, batch 1, {layers} layers of {width}, 6 heads, context 256, "
              f"weights {dtype}", 2 * weights, size * weights, READ)


# What a program costs when it runs for the first time, nothing found in a cache: n parts, and 10 n.
GROWING = {
    "gradient": (1000, "gradient of a chain of {} tanh, f32[1024]"),
    "realize_all": (1000, "realize_all of {} tensors x * i + 1, f32[4]"),
    "cat": (300, "cat of {} tensors f32[2]"),
    "constants": (100, "x[i], x.slice(0, i, i + 1), x[0] * (i + 0.5) one after another, {} times, f32[n,4]"),
    "draws": (50, "realize_all of {} draws f32[5]"),
}


def growth_cases():
  for name, (small, what) in GROWING.items():
    for n in (small, 10 * small):
      yield Case(f"{name}_{n}", "growth", what.format(f"{n:,}"), threads=(1,))


MARKET = {"group": "marketplace", "statistic": "mean"}  # the yardstick prints no median

CASES = [
    Case("matmul_1024", "products", "f32[1024,1024] x f32[1024,1024]", **matmul(1024, 1024, 1024)),
    Case("matmul_2048", "products", "f32[2048,2048] x f32[2048,2048]", **matmul(2048, 2048, 2048)),
    *bf16_cases(),
    *large_cases(),
    *convolution_cases(),
    Case("vendors_512", "products", "f32[512,1024] x f32[4,1024,1024]", **matmul(512, 1024, 1024, 4)),
    Case("perturbed_512", "products", "the same, weights made: f32[1024,1024] + 1e-3 uniform noise of 4 vendors",
         **matmul(512, 1024, 1024, 4)),
    Case("vendors_128", "products", "f32[128,1024] x f32[4,1024,1024]", **matmul(128, 1024, 1024, 4)),
    Case("perturbed_128", "products", "the same, weights made: f32[1024,1024] +- 1e-3 by Rademacher bits of 4 vendors",
         **matmul(128, 1024, 1024, 4)),
    Case("attention", "products", "causal attention of f32[8,1024,64] (FLOPs of all pairs)", 2 * 2 * 8 * 1024**2 * 64, 0, FMA),
    Case("attention_step", "products", "the same with the gradients of q, k, v (7 products of all pairs)",
         7 * 2 * 8 * 1024**2 * 64, 0, FMA),
    Case("sum_64m", "memory-bound", "sum of f32[67108864]", 0, F32 * 64 * MILLION, READ),
    Case("exp_64m", "memory-bound", "exp of f32[67108864]", 0, 2 * F32 * 64 * MILLION, COPY),
    Case("sum_rows", "memory-bound", "sum of f32[65536,1024] over axis 0", 0, F32 * 64 * MILLION, READ),
    Case("cumsum_64m", "memory-bound", "cumsum of f32[67108864]", 0, 2 * F32 * 64 * MILLION, COPY),
    Case("cumsum_rows", "memory-bound", "cumsum of f32[65536,1024] along axis 0", 0, 2 * F32 * 64 * MILLION, COPY),
    Case("softmax", "memory-bound", "softmax of f32[16384,4096], last axis", 0, 2 * F32 * 16384 * 4096, COPY),
    *conversion_cases(),
    *(Case(name + ending, "memory-bound", f"{name} of f32[{shape}], last axis", 0, F32 * 64 * MILLION, READ)
      for name in ("argmax", "logsumexp", "var") for ending, shape in (("", "16384,4096"), ("_long", "64,1048576"))),
    Case("sort_1m", "memory-bound", "sort of f32[1048576]", 0, 2 * F32 * MILLION, COPY),
    Case("sort_rows", "memory-bound", "sort of f32[1024,1024], last axis", 0, 2 * F32 * MILLION, COPY),
    Case("topk_1m", "memory-bound", "the 100 greatest of f32[1048576], and where they stand", 0, F32 * MILLION, READ),
    Case("mnist_step", "training", "training step of the MNIST CNN, batch 128, Adam 1e-3", 3 * 128 * sum(GROUPS), 0, FMA),
    Case("first_step", "training", "process start to the end of the first mnist_step, empty caches", kind="process",
         empty=True),
    gpt_case("gpt_2", 2, 128, 4, 128),
    gpt_case("gpt_6", 6, 384, 6, 256),
    Case("first_gpt_6", "training", "process start to the end of the first gpt_6, empty caches", kind="process", empty=True),
    Case("second_gpt_6", "training", "the same, second time", kind="process"),
    token_case("token", "f32", F32),
    token_case("token_bf16", "bf16", 2),
    Case("v2_n8", what="step of V2, vendors 8,8,8, batch 512", flops=crossed_flops(8, 512), limit=FMA, **MARKET),
    Case("v2_n4", what="step of V2, vendors 4,4,4, batch 512", flops=crossed_flops(4, 512), limit=FMA, **MARKET),
    Case("star", what="step of star, vendors 4,4,8,16,128, batch 32", **MARKET),
    Case("block_star", what="step of block-star, vendors 4,2,8,8,64, batch 64", **MARKET),
    Case("first_v2_n8", "marketplace", "process start to the end of the first v2_n8 step, empty caches", kind="process",
         empty=True),
    Case("replay_64", "engine", "one of 64 dependent matmuls f32[16,16], replayed", 2 * 16**3, 0),
    Case("compile_kernel", "engine", "schedule, render and compile a kernel of mnist_step: mean of the distinct ones",
         kind="own", threads=(1,), empty=True),
    Case("schedule_step", "engine", "schedule a training step of the MNIST CNN, SGD", threads=(1,)),
    Case("schedule_star", "engine", "schedule a step of star", threads=(1,)),
    Case("schedule_block_star", "engine", "schedule a step of block-star", threads=(1,)),
    Case("schedule_gpt_2", "engine", "schedule a training step of a GPT, 2 layers of 128, Adam, batch 8", threads=(1,)),
    Case("schedule_gpt_6", "engine", "the same, 6 layers of 384", threads=(1,)),
    Case("schedule_gpt_12", "engine", "the same, 12 layers of 384", threads=(1,)),
    Case("start_cold", "engine", "process start to the end of docs/examples/embed, empty caches", kind="process",
         empty=True),
    Case("start_warm", "engine", "the same, second time", kind="process"),
    *growth_cases(),
    *(Case(name, "memory", what, kind="own", unit="B", threads=(2,)) for name, what in (
        ("plan_inference", "planned peak of temporaries of plain inference, 64 samples"),
        ("plan_v2_n8", "the same of a step of V2, vendors 8,8,8, batch 512 in pieces of 64 (a budget of 8.9 MB)"),
        ("plan_v2_n16", "the same of a step of V2, vendors 16,16,16, batch 512 in pieces of 64 (a budget of 8.9 MB)"),
        ("rss_inference", "peak resident memory of plain inference, 512 samples, a budget of 32 MiB"),
        ("rss_v2_n8", "the same of a step of V2, vendors 8,8,8, batch 512, a budget of 32 MiB"),
        ("rss_v2_n16", "the same of a step of V2, vendors 16,16,16, batch 512, a budget of 32 MiB"))),
]
BY_NAME = {case.name: case for case in CASES}
GROUP_NAMES = list(dict.fromkeys(case.group for case in CASES))
USUAL = [case for case in CASES if case.group != "large"]  # where no case is named
