// docs/support.md: which op each back end takes in which dtype, asked of the renderers themselves.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "backends/interp/evaluate_tree.h"
#include "base/error.h"
#include "base/file.h"
#include "codegen/render.h"
#include "codegen/schedule.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/op_jobs.h"
#include "tests/project_root.h"

using namespace kontor;

namespace {

constexpr std::array<const char*, 5> kBackends = {"interp", "llvm", "opencl", "cuda", "c"};

/// Runs the kernel on the interpreter, where each buffer is one page of zeros.
void interpret(const Ref& kernel) {
  std::vector<std::vector<std::byte>> memory(tree::params(*kernel).size(), std::vector<std::byte>(4096));
  std::vector<void*> buffers;
  for (auto& bytes : memory) buffers.push_back(bytes.data());
  evaluate_tree(kernel, buffers, {});
}

/// Whether the back end (a number in kBackends) takes the kernel.
bool takes(size_t backend, const Ref& kernel) {
  try {
    int64_t scratch = 0;
    if (backend == 0) interpret(kernel);
    if (backend == 1) render_llvm(kernel, "k", {}, scratch);
    if (backend == 2) render_c(kernel, "k", Dialect::OpenCL);
    if (backend == 3) render_c(kernel, "k", Dialect::Cuda);
    if (backend == 4) render_c(kernel, "k", Dialect::C);
    return true;
  } catch (const InternalError&) {
    return false;
  }
}

std::string list(const std::vector<DType>& dtypes) {
  std::string out;
  for (DType d : dtypes) out += fmt::format("{}{}", out.empty() ? "" : " ", name(d));
  return out;
}

/// The dtypes of `all` that `accepts` names, as short as it can be said.
template <class Accepts>
std::string dtypes_where(const std::vector<DType>& all, Accepts accepts) {
  std::vector<DType> in, out;
  for (DType d : all) (accepts(d) ? in : out).push_back(d);
  if (out.empty()) return "all";
  if (in.empty()) return "none";
  return out.size() < in.size() ? "all but " + list(out) : list(in);
}

/// Casts to f32 and i64, and back.
bool casts(size_t backend, DType dtype) {
  const DType wide[] = {DType::F32, DType::I64};
  bool all = takes(backend, cast_kernel(dtype, wide, 8));
  for (DType d : wide) all = all && takes(backend, cast_kernel(d, std::span(&dtype, 1), 8));
  return all;
}

std::string elementwise_rows() {
  std::string page;
  for (int k = 0; k < op_count; k++) {
    Op op = static_cast<Op>(k);
    if (!is_elementwise(op) || op == Op::Bitcast) continue;
    std::vector<DType> all;
    bool any_dtype = op == Op::Cast || op == Op::Where;
    std::copy_if(std::begin(every_dtype), std::end(every_dtype), std::back_inserter(all),
                 [&](DType d) { return any_dtype || has_op(op, d); });
    page += fmt::format("| `{}` | {} |", row(op).name,
                        dtypes_where({std::begin(every_dtype), std::end(every_dtype)}, [&](DType d) {
                          return std::find(all.begin(), all.end(), d) != all.end();
                        }));
    for (size_t b = 0; b < kBackends.size(); b++) {
      page += fmt::format(" {} |", dtypes_where(all, [&](DType d) {
                            return op == Op::Cast ? casts(b, d) : takes(b, op_kernel(op, d, 8));
                          }));
    }
    page += "\n";
  }
  return page;
}

struct Figures {
  int rows = 0;
  std::array<int, kBackends.size()> taken = {};
};

/// For each op that is not elementwise, the rows of the op table that use it, and how many of them each back end takes.
std::map<std::string_view, Figures> figures_of_rows() {
  std::map<std::string_view, Figures> figures;
  for (const OpCase& r : op_table()) {
    Job job = value_job(r);
    std::set<std::string_view> ops;
    for (const Node* n : topological(job.graph.outputs))
      if (!is_elementwise(n->op)) ops.insert(row(n->op).name);
    std::array<bool, kBackends.size()> taken;
    taken.fill(true);
    for (bool gpu : {false, true}) {
      Target target;
      target.gpu = gpu;
      if (gpu) target.vector_bytes = 0;
      for (const ScheduledKernel& k : schedule(job.graph, target).kernels)
        for (size_t b = gpu ? 2 : 1; b < (gpu ? 4u : 2u); b++) taken[b] = taken[b] && takes(b, k.tree);
    }
    for (std::string_view op : ops) {
      figures[op].rows++;
      for (size_t b = 1; b < kBackends.size(); b++) figures[op].taken[b] += taken[b];
    }
  }
  return figures;
}

std::string other_rows() {
  std::string page;
  const auto figures = figures_of_rows();
  for (int k = 0; k < op_count; k++) {
    auto found = figures.find(row(static_cast<Op>(k)).name);
    if (found == figures.end()) continue;
    page += fmt::format("| `{}` |", found->first);
    for (size_t b = 1; b < kBackends.size(); b++) {
      const int taken = found->second.taken[b];
      page += taken == found->second.rows ? " all |" : fmt::format(" {} of {} |", taken, found->second.rows);
    }
    page += "\n";
  }
  return page;
}

std::string support_page() {
  return fmt::format(R"(# Support

Made by tests/test_support.cpp, which asks the renderers; `KONTOR_UPDATE_GOLDEN=1` renews it.

| back end | runs on | needs when it runs | tested against the interpreter, bit for bit |
|---|---|---|---|
| interp | any machine | nothing | it is what the others are compared with |
| llvm | x86-64 with AVX2 or AVX-512, Linux | the module libkontor-llvm.so to compile; nothing to run what is in the cache | every row of the op table, values and gradients; random graphs |
| opencl | any device with OpenCL 1.2 and a compiler | libOpenCL.so.1 and a driver | every op and cast in every dtype, every row of the op table, random graphs: on PoCL |
| cuda | NVIDIA GPUs | the driver, libcuda.so.1, and libnvrtc to compile | every kernel of the op table compiles for sm_80 and sm_90; its text runs on an emulated driver, threads as fibres; `bench/gpu.sh` on an H100 and an H200: the interpreter's bits ([results](../bench/RESULTS-gpu.md)) |
| c | any CPU; for kernels that leave the house | the system's C11 compiler `cc` | every row of the op table, values and gradients; random graphs |

An OpenCL device that cannot round f32 divisions and square roots correctly (it lacks
`CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT`) or has no f64 gives other bits for these, or cannot compile kernels that use f64.

## Elementwise ops

The dtypes that an op has, and those that each back end takes. Of `cast`, those that can
be cast to f32 and i64 and back.

| op | dtypes | interp | llvm | opencl | cuda | c |
|---|---|---|---|---|---|---|
{}
## Other ops

They become loops and index expressions before a back end sees them. Rows of the op table that use the op, and how many
of them each back end's renderer takes (the interpreter runs loop trees as they are).

| op | llvm | opencl | cuda | c |
|---|---|---|---|---|
{})",
                     elementwise_rows(), other_rows());
}

}  // namespace

TEST_CASE("[support] docs/support.md is what the renderers say") {
  std::string root = project_root();
  if (root.empty()) KONTOR_SKIP("the project's source is not here");
  const std::string path = root + "/docs/support.md", page = support_page();
  if (std::getenv("KONTOR_UPDATE_GOLDEN")) write_file(path, page);
  INFO("KONTOR_UPDATE_GOLDEN=1 renews docs/support.md");
  CHECK(read_file(path) == page);
}
