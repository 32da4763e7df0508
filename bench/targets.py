"""The figures that the project set itself, one row each: what is measured, against what, and which bound it has to keep.

A Target is computed from the figures of bench/run.py. `of` says from what:
  limit      Kontor's FLOPs or bytes a second as a part of the machine's limit
  seconds    Kontor's time
  speed:X    how many times as fast as X it is, where X is a peer, or another case of Kontor's
  time:X     its time as a multiple of X's
  bytes:X    its bytes as a multiple of those of case X
  scaling    how many times as fast it is as on one thread
An Asserted row names the tests that hold it; a test checks that they exist. A Studied row names the command that makes
the figure; what it gave stands in the hand-written part of RESULTS.md.
"""
import dataclasses

# That the engine runs end to end; Marketplace and kernels at full strength; time that does not grow too fast; the middle of
# the house; language models and low precision.
FIRST, SECOND, GROWTH, MIDDLE, MODELS = "issue 3", "issue 4", "issue 9", "issue 10", "issue 11"


@dataclasses.dataclass(frozen=True)
class Target:
  of: str
  cases: tuple
  threads: tuple
  bound: float
  most: bool = False  # the bound is the most that is allowed, not the least
  issue: str = SECOND


@dataclasses.dataclass(frozen=True)
class Asserted:
  what: str
  tests: tuple  # (file, what its text has)
  issue: str = SECOND


@dataclasses.dataclass(frozen=True)
class Studied:
  what: str
  command: str
  issue: str = SECOND


FORWARD = ("conv1", "conv2", "conv3", "conv4")
BACKWARD = tuple(f"{name}_{wrt}" for name in FORWARD for wrt in ("dx", "dw"))
ONE, BOTH, TWO = (1,), (1, 2), (2,)

TARGETS = [
    Target("limit", ("matmul_1024",), ONE, 0.5, issue=FIRST),
    Target("limit", FORWARD, ONE, 0.3, issue=FIRST),
    Target("scaling", ("matmul_1024", *FORWARD), TWO, 1.8, issue=FIRST),
    Target("limit", ("sum_64m", "exp_64m"), BOTH, 0.6, issue=FIRST),
    Target("limit", ("softmax",), BOTH, 0.5, issue=FIRST),
    Target("speed:torch", ("mnist_step",), TWO, 0.4, issue=FIRST),
    Target("seconds", ("first_step",), TWO, 3, most=True, issue=FIRST),
    Target("seconds", ("start_cold",), BOTH, 0.150, most=True, issue=FIRST),
    Target("seconds", ("start_warm",), BOTH, 0.040, most=True, issue=FIRST),
    Target("seconds", ("compile_kernel",), ONE, 0.015, most=True, issue=FIRST),
    Target("seconds", ("replay_64",), ONE, 2e-6, most=True, issue=FIRST),  # its work, tens of ns, included
    Target("time:yardstick", ("v2_n8", "v2_n4"), BOTH, 1.35, most=True),
    Target("time:yardstick", ("block_star",), BOTH, 1.3, most=True),
    Target("seconds", ("first_v2_n8",), TWO, 3, most=True),
    Target("bytes:plan_inference", ("plan_v2_n8", "plan_v2_n16"), TWO, 1.1, most=True),
    Target("bytes:rss_inference", ("rss_v2_n8", "rss_v2_n16"), TWO, 1.1, most=True),
    Target("speed:vendors_512", ("perturbed_512",), BOTH, 0.9),
    Target("speed:vendors_128", ("perturbed_128",), BOTH, 0.9),
    Target("limit", ("matmul_1024", "matmul_2048"), ONE, 0.85),
    Target("limit", FORWARD + BACKWARD, ONE, 0.7),
    Target("speed:torch", ("mnist_step",), BOTH, 0.8),
    Target("limit", ("matmul_bf16_1024", "matmul_bf16_2048"), ONE, 0.85, issue=MODELS),
    Target("limit", ("matmul_bf16_1024_fast", "matmul_bf16_2048_fast"), ONE, 0.8, issue=MODELS),
    Target("speed:torch", ("matmul_bf16_1024_fast", "matmul_bf16_2048_fast"), BOTH, 1.0, issue=MODELS),
    Target("limit", ("attention",), ONE, 0.75, issue=MODELS),
    Target("limit", ("attention_step",), ONE, 0.65, issue=MODELS),
    Target("speed:torch", ("attention", "attention_step"), BOTH, 1.3, issue=MODELS),
    Target("limit", ("gpt_6",), ONE, 0.6, issue=MODELS),
    Target("speed:torch", ("gpt_2",), BOTH, 1.4, issue=MODELS),
    Target("speed:torch", ("gpt_6",), BOTH, 1.7, issue=MODELS),
    Target("limit", ("cumsum_64m",), BOTH, 0.6, issue=MIDDLE),
    Target("seconds", ("sort_1m",), ONE, 0.06, most=True, issue=MODELS),
    Target("limit", ("to_bf16", "to_f16"), BOTH, 0.8, issue=MODELS),
    Target("limit", ("to_f8e4m3", "to_f8e5m2"), BOTH, 0.5, issue=MODELS),
    Target("limit", ("from_bf16", "from_f16", "from_f8e4m3", "from_f8e5m2"), BOTH, 0.7, issue=MODELS),
    Target("limit", ("token",), BOTH, 0.8, issue=MODELS),
    Target("speed:token", ("token_bf16",), BOTH, 1.7, issue=MODELS),
    Target("seconds", ("schedule_step",), ONE, 0.015, most=True, issue=MIDDLE),
    Target("seconds", ("schedule_block_star",), ONE, 0.15, most=True, issue=MIDDLE),
    Target("seconds", ("schedule_gpt_6",), ONE, 0.2, most=True, issue=MIDDLE),
    Target("seconds", ("compile_kernel",), ONE, 0.008, most=True, issue=MIDDLE),
    Target("seconds", ("schedule_gpt_2",), ONE, 0.08, most=True, issue=GROWTH),
    Target("seconds", ("schedule_gpt_6",), ONE, 0.25, most=True, issue=GROWTH),
    Target("time:schedule_gpt_6", ("schedule_gpt_12",), ONE, 2.2, most=True, issue=GROWTH),
    Target("seconds", ("gradient_1000", "cat_3000"), ONE, 1, most=True, issue=GROWTH),
    Target("seconds", ("realize_all_10000",), ONE, 5, most=True, issue=GROWTH),
    Target("time:gradient_1000", ("gradient_10000",), ONE, 11, most=True, issue=GROWTH),
    Target("time:realize_all_1000", ("realize_all_10000",), ONE, 12, most=True, issue=GROWTH),
    Target("time:cat_300", ("cat_3000",), ONE, 12, most=True, issue=GROWTH),
    Target("time:constants_100", ("constants_1000",), ONE, 12, most=True, issue=GROWTH),
]

ASSERTED = [
    Asserted("0 schedules and 0 compiles in steps 3 to 1,000",
             (("tests/test_marketplace_bits.cpp", "steps 3 to 1000 schedule and compile nothing"),
              ("tests/test_runtime.cpp", "a loop with a decaying Scalar schedules and compiles nothing")), FIRST),
    Asserted("kernels: softmax 1; layer norm 1; mean + var 1; cross-entropy forward at most 2",
             (("tests/test_golden.cpp", "[golden] kernel counts"),), FIRST),
    Asserted("kernels: Adam step of one parameter 1",
             (("tests/test_golden.cpp", "one Adam step of a parameter is one kernel"),
              ("tests/test_nn.cpp", "the step of one parameter is one kernel")), FIRST),
    Asserted("50 training steps have the same bits on 1, 2, 3 threads, and stopped and resumed at step 20",
             (("tests/test_marketplace_bits.cpp", "equal bits for 1, 2, 3 threads, and stopped and resumed"),
              ("tests/test_nn.cpp", "goes on from a checkpoint with the same bits for any number of threads")), FIRST),
    Asserted("the same bits on AVX2 and AVX-512",
             (("tests/test_llvm_backend.cpp", "AVX2 and AVX-512 give equal bits"),
              ("tests/e2e/test_instruction_sets.py", "training")), FIRST),
    Asserted("op table on interp, llvm, opencl; gradients by finite differences; its CUDA kernels compile",
             (("tests/test_op_table.cpp", "the op table on"), ("tests/test_gradient.cpp", "against finite differences"),
              ("tests/test_op_table_cuda.cpp", "every CUDA kernel of the op table compiles")), FIRST),
    Asserted("a new unary op touches at most 4 files", (("docs/adding-an-op.md", "four files"),), FIRST),
    Asserted("a new unary function: 1 table row, 1 formula, 1 test row",
             (("docs/adding-an-op.md", "One row of a table and one of a test"),), MIDDLE),
    Asserted("matmul of bf16, strict and fast, within one rounding of the exact sum",
             (("tests/test_numerics.cpp", "fast is as near to the exact sum as strict"),), MIDDLE),
    Asserted("functions: 95th percentile at most 40 lines, none over 80",
             (("tests/e2e/test_structure.py", "95th percentile"),), FIRST),
    Asserted("attention without stored scores, from a list of decisions: one kernel, no temporaries, the same bits",
             (("tests/test_decisions.cpp", "attention in one kernel: no scores in memory, the same bits"),
              ("tests/test_decisions.cpp", "the kernel in docs/decisions.md is the one that its list makes")), MIDDLE),
    Asserted("codegen: 12 parts at most, none including upward; functions: 95th percentile at most 30 lines",
             (("tests/e2e/test_structure.py", "codegen_floors"), ("tests/e2e/test_structure.py", "80, 30")), MIDDLE),
    Asserted("random graphs by random decisions: the bits of the graph evaluator",
             (("tests/test_random_graphs.cpp", "graphs: decided by hand"),), MIDDLE),
    Asserted("x[i], x * (i + .5), x.slice(0, i, i + 1): at most 3 compiles each; 50 draws together: one",
             (("tests/test_kernel_form.cpp", "constants that differ from graph to graph cost no compile"),
              ("tests/test_kernel_form.cpp", "draws, and outputs that differ in constants, share a program")), GROWTH),
    Asserted("schedules, kernels and jit programs of a Context are bounded, whatever shapes come",
             (("tests/test_growth.cpp", "a Context keeps a bounded number"),
              ("tests/test_growth.cpp", "a jit function keeps a bounded number of programs")), GROWTH),
]

STUDIED = [
    Studied("fresh clone built in at most 4 min, then 90 % within 180 s", "./kontor train", FIRST),
    Studied("V2 8,8,8, batch 512, full MNIST: 3 seeds within 5 points of the spec's curve at 50, 100, 200 steps",
            "./kontor train --plan full --data DIR", FIRST),
    Studied("backprop, Adam 1e-3, batch 512, full MNIST: 97 % after 120 steps",
            "./kontor train --method backprop --lr 1e-3 --batch 512 --steps 120 --data DIR", FIRST),
    Studied("93 % within 60 s of training from data/mnist-12k", "./kontor train"),
    Studied("block-star, full MNIST, 3 seeds: 93 % within 3 TFLOP, 96 % within 16.5, 97.3 % within 33", "kontor study"),
    Studied("activity, full MNIST, 3 seeds: 97.2 % within 3 TFLOP, 98.2 % within 16.5", "kontor study activity --data DIR"),
    Studied("V2 n = 8, 1,000 steps; V1 n = 8, batch 64, 400 steps: 3 seeds within 3 points from step 400 on, 5 before",
            "kontor study"),
    Studied("continual learning, digit 9: 75 % with 1.5 points lost at most, in 40 steps", "kontor study"),
]
