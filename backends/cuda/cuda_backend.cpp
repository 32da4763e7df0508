// The device "cuda": the first NVIDIA GPU, its primary context, one stream in which all runs in order.
#include <algorithm>
#include <utility>

#include "backends/backend.h"
#include "backends/cuda/cuda_api.h"
#include "backends/cuda/nvrtc.h"
#include "backends/gpu.h"
#include "base/error.h"
#include "codegen/render.h"

namespace kontor {
namespace {

constexpr unsigned kBlock = 128;  // threads of a block; a kernel tests its number against the extent
constexpr int64_t kMostBlocks = 0x7fff'ffff;  // of a grid's first dimension

cuda::Address address_of(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

class CudaProgram final : public Program {
 public:
  CudaProgram(cuda::Context context, cuda::Module module, cuda::Function entry, const GpuBinary& parts)
      : function(entry),
        slots(parts.slots),
        group(parts.group),
        shared(parts.shared),
        context_(context),
        module_(module) {}
  ~CudaProgram() override {
    if (cuda::api().set_context(context_) == cuda::kSuccess) cuda::api().unload_module(module_);
  }
  CudaProgram(const CudaProgram&) = delete;
  CudaProgram& operator=(const CudaProgram&) = delete;

  const cuda::Function function;
  const std::vector<size_t> slots;
  const int64_t group;   // threads of a block; 0: any number
  const int64_t shared;  // bytes that a launch gives each block

 private:
  cuda::Context context_;
  cuda::Module module_;
};

KernelSource render(const Ref& kernel, const std::string& entry, const Target&) {
  return {.name = entry, .text = render_c(kernel, entry, Dialect::Cuda)};
}

class CudaBackend final : public Backend {
 public:
  CudaBackend();
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  const BackendKind& kind() const override { return cuda_backend; }
  std::string description() const override { return description_; }
  std::string fingerprint() const override { return fingerprint_; }
  Target target() const override { return cuda_target(static_cast<int64_t>(memory_bytes_), capability_); }

  void* allocate(size_t bytes) override;
  void release(void* memory) override;
  void copy_in(void* device, const void* host, size_t bytes) override;
  void copy_out(void* host, const void* device, size_t bytes) override;
  bool host_visible() const override { return false; }

  std::vector<std::string> compile(std::span<const KernelSource> kernels,
                                   const ParallelFor& parallel) override;
  std::string compiler_text(const KernelSource& kernel, std::string_view stage) override;
  std::unique_ptr<Program> load(const KernelSource& kernel, std::string_view binary) override;
  void launch(const Launch& launch, const ParallelFor& parallel) override;
  int64_t synchronise() override;

 private:
  // The context is bound to a thread, and calls may come from any.
  void enter() const { cuda::expect(cuda::api().set_context(context_), "cuCtxSetCurrent"); }
  void open_stream();
  unsigned block_of(int64_t items) const;

  cuda::Device device_ = 0;
  cuda::Context context_ = nullptr;
  cuda::Stream stream_ = nullptr;
  cuda::Address error_ = 0;
  size_t memory_bytes_ = 0;
  int capability_ = 0;  // 90 for compute capability 9.0
  int multiprocessors_ = 0;
  std::string description_, fingerprint_;
};

int attribute(cuda::Device device, int which) {
  int value = 0;
  cuda::expect(cuda::api().attribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

CudaBackend::CudaBackend() {
  const cuda::Api& api = cuda::api();
  cuda::expect(api.init(0), "cuInit");
  int count = 0, driver = 0;
  cuda::expect(api.device_count(&count), "cuDeviceGetCount");
  if (count == 0) fail("cuda: the driver sees no GPU");
  cuda::expect(api.device(&device_, 0), "cuDeviceGet");
  cuda::expect(api.driver_version(&driver), "cuDriverGetVersion");
  char name[256] = {};
  cuda::expect(api.device_name(name, sizeof name - 1, device_), "cuDeviceGetName");
  cuda::expect(api.device_memory(&memory_bytes_, device_), "cuDeviceTotalMem");
  capability_ = attribute(device_, cuda::kCapabilityMajor) * 10 + attribute(device_, cuda::kCapabilityMinor);
  multiprocessors_ = attribute(device_, cuda::kMultiprocessors);
  description_ =
      fmt::format("{}, sm_{}, {} multiprocessors, {} MiB, driver for CUDA {}.{}", name, capability_,
                  multiprocessors_, memory_bytes_ >> 20, driver / 1000, driver % 1000 / 10);
  // NVRTC is not asked for its version here: a start with a full cache does not open it.
  fingerprint_ = fmt::format("cuda sm_{} driver {}", capability_, driver);
  open_stream();
}

void CudaBackend::open_stream() {
  const cuda::Api& api = cuda::api();
  cuda::expect(api.retain_context(&context_, device_), "cuDevicePrimaryCtxRetain");
  cuda::Result code = api.set_context(context_);
  if (code == cuda::kSuccess) code = api.create_stream(&stream_, cuda::kNonBlockingStream);
  if (code == cuda::kSuccess) code = api.allocate(&error_, sizeof(int64_t));
  if (code == cuda::kSuccess) code = api.fill(error_, 0, 2, stream_);
  if (code == cuda::kSuccess) return;
  if (stream_ != nullptr) api.destroy_stream(stream_);
  api.release_context(device_);
  cuda::expect(code, "opening the device");
}

CudaBackend::~CudaBackend() {
  const cuda::Api& api = cuda::api();
  if (api.set_context(context_) == cuda::kSuccess) {
    api.wait(stream_);
    api.release(error_);
    api.destroy_stream(stream_);
  }
  api.release_context(device_);
}

// ---- memory

void* CudaBackend::allocate(size_t bytes) {
  enter();
  cuda::Address address = 0;
  const cuda::Result code = cuda::api().allocate(&address, std::max<size_t>(bytes, 1));
  if (code == cuda::kOutOfMemory) fail("cuda: out of memory: {} bytes asked for", bytes);
  cuda::expect(code, fmt::format("cuMemAlloc of {} bytes", bytes));
  return reinterpret_cast<void*>(static_cast<uintptr_t>(address));
}

void CudaBackend::release(void* memory) {
  // Waits for what still runs; at the end of a process the driver may be gone already, which is no error.
  if (memory != nullptr && cuda::api().set_context(context_) == cuda::kSuccess)
    cuda::api().release(address_of(memory));
}

void CudaBackend::copy_in(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  enter();
  cuda::expect(cuda::api().copy_in(address_of(device), host, bytes, stream_), "cuMemcpyHtoDAsync");
  cuda::expect(cuda::api().wait(stream_), "copying to the device");
}

void CudaBackend::copy_out(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  enter();
  cuda::expect(cuda::api().copy_out(host, address_of(device), bytes, stream_), "cuMemcpyDtoHAsync");
  cuda::expect(cuda::api().wait(stream_), "copying from the device");
}

// ---- programs

/// Machine code of the device, or, where NVRTC is older than the device, PTX that the driver translates.
static std::string target_for(int capability) {
  const std::vector<int> known = nvrtc::architectures();
  if (std::find(known.begin(), known.end(), capability) != known.end())
    return fmt::format("sm_{}{}", capability, capability == 90 ? "a" : "");  // with what only that device has
  const auto next = std::upper_bound(known.begin(), known.end(), capability);
  if (next == known.begin())
    fail("cuda: NVRTC {} compiles for sm_{} and later, the device is sm_{}", nvrtc::version(),
         known.empty() ? 0 : known.front(), capability);
  return fmt::format("compute_{}", *std::prev(next));
}

std::vector<std::string> CudaBackend::compile(std::span<const KernelSource> kernels,
                                              const ParallelFor& parallel) {
  const std::string target = target_for(capability_);
  std::vector<std::string> binaries(kernels.size());
  parallel(static_cast<int64_t>(kernels.size()), [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      binaries[i] = pack_gpu_binary(kernels[i], fingerprint_, target, nvrtc::compile(kernels[i], target));
  });
  return binaries;
}

std::string CudaBackend::compiler_text(const KernelSource& kernel, std::string_view stage) {
  if (stage != "asm") fail("cuda: stage '{}' is not one of asm (which shows PTX)", stage);
  std::string target = target_for(capability_);
  if (target.starts_with("sm_")) target.replace(0, 3, "compute_");
  std::string ptx = nvrtc::compile(kernel, target);
  while (!ptx.empty() && ptx.back() == '\0') ptx.pop_back();
  return ptx;
}

std::unique_ptr<Program> CudaBackend::load(const KernelSource& kernel, std::string_view binary) {
  enter();
  const GpuBinary parts = unpack_gpu_binary(binary, fingerprint_);
  const std::string code(parts.code);  // PTX must end with a zero
  cuda::Module module = nullptr;
  cuda::expect(cuda::api().load_module(&module, code.c_str()), fmt::format("loading kernel {}", kernel.name));
  cuda::Function function = nullptr;
  const cuda::Result found = cuda::api().find_function(&function, module, kernel.name.c_str());
  if (found != cuda::kSuccess) cuda::api().unload_module(module);
  cuda::expect(found, fmt::format("finding kernel {} in its module", kernel.name));
  if (parts.shared > 0) {
    const cuda::Result given =
        cuda::api().set_function(function, cuda::kMostSharedBytes, static_cast<int>(parts.shared));
    if (given != cuda::kSuccess) cuda::api().unload_module(module);
    cuda::expect(given, fmt::format("giving kernel {} {} bytes of shared memory", kernel.name, parts.shared));
  }
  return std::make_unique<CudaProgram>(context_, module, function, parts);
}

// ---- launches

/// Threads of a block: whole warps, fewer of them where multiprocessors would have none otherwise.
unsigned CudaBackend::block_of(int64_t items) const {
  unsigned block = kBlock;
  while (block > 32 && items < int64_t{2} * multiprocessors_ * block) block /= 2;
  return block;
}

void CudaBackend::launch(const Launch& launch, const ParallelFor&) {
  if (launch.shares <= 0) return;
  const auto& program = static_cast<const CudaProgram&>(*launch.program);
  // The driver copies what the pointers point to before cuLaunchKernel returns.
  std::vector<void*> arguments;
  for (void* const& buffer : launch.buffers) arguments.push_back(const_cast<void**>(&buffer));
  arguments.push_back(&error_);
  for (const size_t slot : program.slots) {
    if (slot >= launch.scalars.size())
      broken("cuda: a kernel reads slot {}, {} were given", slot, launch.scalars.size());
    arguments.push_back(const_cast<int64_t*>(&launch.scalars[slot]));
  }
  const unsigned block = program.group ? static_cast<unsigned>(program.group) : block_of(launch.shares);
  const int64_t blocks = (launch.shares + block - 1) / block;
  if (blocks > kMostBlocks)
    fail("cuda: a kernel of {} work items is larger than a grid can be", launch.shares);
  enter();
  cuda::expect(cuda::api().launch(program.function, static_cast<unsigned>(blocks), 1, 1, block, 1, 1,
                                  static_cast<unsigned>(program.shared), stream_, arguments.data(), nullptr),
               "cuLaunchKernel");
}

int64_t CudaBackend::synchronise() {
  int64_t found = 0;
  copy_out(&found, reinterpret_cast<const void*>(static_cast<uintptr_t>(error_)), sizeof found);
  if (found != 0) cuda::expect(cuda::api().fill(error_, 0, 2, stream_), "cuMemsetD32Async");
  return found;
}

}  // namespace

const BackendKind cuda_backend = {
    .name = "cuda",
    .source_ending = "cu",
    .render = render,
    .open = []() -> std::unique_ptr<Backend> { return std::make_unique<CudaBackend>(); },
    .usual_target = [] { return cuda_target(usual_gpu_memory); },
};

}  // namespace kontor
