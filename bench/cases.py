"""The cases of the benchmark: name, what it does, the work it needs at least, and what it is held against.

`flops` and `bytes` are of one run: multiply-adds x 2, and operands read plus results written once. A case is measured
in a process that repeats it (`repeat`), or is a whole process from its start to its first result (`process`).
"""
import dataclasses

MILLION = 1 << 20
F32 = 4


@dataclasses.dataclass(frozen=True)
class Case:
  name: str
  what: str
  flops: int = 0
  bytes: int = 0
  limit: str = ""  # fma_f32, read or copy: the row of machine-limits it is compared with
  process: bool = False
  parts: int = 1  # the seconds of one run are divided by this (kernels of a chain)


def conv(batch, channels, out_channels, size, kernel):
  """FLOPs and bytes of a valid convolution with stride 1."""
  out = size - kernel + 1
  flops = 2 * batch * out_channels * out * out * channels * kernel * kernel
  floats = batch * channels * size * size + out_channels * channels * kernel * kernel + batch * out_channels * out * out
  return {"flops": flops, "bytes": F32 * floats, "limit": "fma_f32"}


# The model is that of the spec, section 1.1: 26.4 MFLOP a sample forward, three times that for a training step.
FORWARD_FLOPS_PER_SAMPLE = 2 * (32 * 24 * 24 * 25 + 32 * 20 * 20 * 32 * 25 + 64 * 8 * 8 * 32 * 9 + 64 * 6 * 6 * 64 * 9
                                + 5760)

CASES = [
    Case("matmul_1024", "f32[1024,1024] x f32[1024,1024]", 2 * 1024**3, 3 * F32 * 1024**2, "fma_f32"),
    Case("conv1", "conv2d x[128,1,28,28] w[32,1,5,5]", **conv(128, 1, 32, 28, 5)),
    Case("conv2", "conv2d x[128,32,24,24] w[32,32,5,5]", **conv(128, 32, 32, 24, 5)),
    Case("conv3", "conv2d x[128,32,10,10] w[64,32,3,3]", **conv(128, 32, 64, 10, 3)),
    Case("conv4", "conv2d x[128,64,8,8] w[64,64,3,3]", **conv(128, 64, 64, 8, 3)),
    Case("sum_64m", "sum of f32[67108864]", 0, F32 * 64 * MILLION, "read"),
    Case("exp_64m", "exp of f32[67108864]", 0, 2 * F32 * 64 * MILLION, "copy"),
    Case("softmax", "softmax of f32[16384,4096], last axis", 0, 2 * F32 * 16384 * 4096, "copy"),
    Case("mnist_step", "training step of the MNIST CNN, batch 128, Adam 1e-3", 3 * 128 * FORWARD_FLOPS_PER_SAMPLE, 0,
         "fma_f32"),
    Case("replay_64", "one of 64 dependent matmuls f32[16,16], replayed", 2 * 16**3, 0, "", parts=64),
    Case("first_step", "process start to the end of the first mnist_step, empty caches", process=True),
    Case("start_cold", "process start to (f32[1000] * 2 + 1).sum(), empty caches", process=True),
    Case("start_warm", "the same, second time", process=True),
]
BY_NAME = {case.name: case for case in CASES}
