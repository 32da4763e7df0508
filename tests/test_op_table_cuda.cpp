// Every CUDA kernel of the op table goes through NVRTC, which needs no GPU.
#include <cstdio>

#include "backends/cuda/nvrtc.h"
#include "backends/gpu.h"
#include "codegen/render.h"
#include "codegen/schedule.h"
#include "tests/catch.h"
#include "tests/op_jobs.h"

using namespace kontor;

TEST_CASE("[ops] every CUDA kernel of the op table compiles for sm_80 and sm_90") {
  if (std::string why = nvrtc::why_missing(); !why.empty()) KONTOR_SKIP(why);
  int kernels = 0;
  for (const OpCase& row : op_table_thinned()) {
    if (!wanted_row(row)) continue;
    for (bool gradients : {false, true}) {
      if (gradients && !row.gradient) continue;
      INFO(row.name << ": " << row.expression);
      Job job = gradients ? gradient_job(row) : value_job(row);
      for (const ScheduledKernel& k : schedule(job.graph, cuda_target()).kernels) {
        KernelSource source{.name = "entry", .text = render_c(k.tree, "entry", Dialect::Cuda)};
        for (const char* architecture : {"sm_80", "sm_90"})
          CHECK_NOTHROW(nvrtc::compile(source, architecture));
        kernels++;
      }
    }
  }
  std::printf("op table: %d CUDA kernels compiled for two architectures\n", kernels);
}
