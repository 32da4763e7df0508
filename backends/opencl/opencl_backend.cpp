// The device "opencl": one device of one platform, an in-order queue, buffers as cl_mem.
#include <algorithm>
#include <map>
#include <utility>

#include "backends/backend.h"
#include "backends/gpu.h"
#include "backends/opencl/opencl_api.h"
#include "base/error.h"
#include "base/lasting.h"
#include "base/process.h"
#include "codegen/render.h"

namespace kontor {

extern const BackendKind opencl_backend;
namespace {

constexpr size_t kGroup = 64;  // work items of a group; a kernel tests its number against the extent

void expect(cl::Int code, std::string_view what) {
  if (code != cl::kSuccess) fail("opencl: {} failed: {}", what, cl::error_name(code));
}

template <class Object, class Query>
std::string text_of(Query query, Object object, cl::Uint what) {
  size_t size = 0;
  if (query(object, what, 0, nullptr, &size) != cl::kSuccess || size == 0) return "";
  std::string text(size, '\0');
  if (query(object, what, size, text.data(), nullptr) != cl::kSuccess) return "";
  while (!text.empty() && (text.back() == '\0' || text.back() == ' ')) text.pop_back();
  return text;
}

template <class T>
T device_fact(cl::Device device, cl::Uint what) {
  T value{};
  if (cl::api().device_info(device, what, sizeof value, &value, nullptr) != cl::kSuccess) return T{};
  return value;
}

std::vector<cl::Device> devices_of(cl::Platform platform, cl::Bitfield type) {
  cl::Uint count = 0;
  if (cl::api().get_devices(platform, type, 0, nullptr, &count) != cl::kSuccess) return {};
  std::vector<cl::Device> devices(count);
  if (count > 0)
    expect(cl::api().get_devices(platform, type, count, devices.data(), nullptr), "clGetDeviceIDs");
  return devices;
}

struct Chosen {
  cl::Platform platform = nullptr;
  cl::Device device = nullptr;
};

/// The first GPU, else the first CPU, else whatever can compile.
Chosen choose_device() {
  cl::Uint count = 0;
  const cl::Int code = cl::api().get_platforms(0, nullptr, &count);
  if (code == cl::kPlatformNotFound || count == 0)
    fail("opencl: the loader libOpenCL knows no driver (it looks in /etc/OpenCL/vendors/*.icd)");
  expect(code, "clGetPlatformIDs");
  std::vector<cl::Platform> platforms(count);
  expect(cl::api().get_platforms(count, platforms.data(), nullptr), "clGetPlatformIDs");
  for (cl::Bitfield type : {cl::kDeviceTypeGpu, cl::kDeviceTypeCpu, cl::kDeviceTypeAll}) {
    for (cl::Platform platform : platforms) {
      for (cl::Device device : devices_of(platform, type)) {
        if (device_fact<cl::Uint>(device, cl::kDeviceAvailable) != 0 &&
            device_fact<cl::Uint>(device, cl::kDeviceCompilerAvailable) != 0)
          return {platform, device};
      }
    }
  }
  fail("opencl: none of {} platforms has a device that is available and compiles", count);
}

// A buffer has no address of its own to compute with. Each gets a range of numbers that no other has, so that a place in
// the middle of one is found again as buffer and offset.
class AddressSpace {
 public:
  struct Place {
    cl::Mem buffer;
    size_t offset;
  };

  void* add(cl::Mem buffer, size_t bytes) {
    const uintptr_t start = next_;
    next_ += (bytes / kPage + 2) * kPage;
    buffers_.emplace(start, std::pair(buffer, bytes));
    return reinterpret_cast<void*>(start);
  }

  Place find(const void* address) const {
    const auto number = reinterpret_cast<uintptr_t>(address);
    auto it = buffers_.upper_bound(number);
    if (it == buffers_.begin()) broken("opencl: {} is no address of a buffer", address);
    --it;
    const size_t offset = number - it->first;
    if (offset > it->second.second) broken("opencl: {} is no address of a buffer", address);
    return {it->second.first, offset};
  }

  cl::Mem remove(void* address) {
    const auto it = buffers_.find(reinterpret_cast<uintptr_t>(address));
    if (it == buffers_.end()) broken("opencl: {} is not the start of a buffer", address);
    const cl::Mem buffer = it->second.first;
    buffers_.erase(it);
    return buffer;
  }

  const std::map<uintptr_t, std::pair<cl::Mem, size_t>>& all() const { return buffers_; }

 private:
  static constexpr uintptr_t kPage = 4096;
  uintptr_t next_ = uintptr_t{1} << 44;
  std::map<uintptr_t, std::pair<cl::Mem, size_t>> buffers_;
};

class OpenclProgram final : public Program {
 public:
  OpenclProgram(cl::Program owner, cl::Kernel entry, std::vector<size_t> scalars, size_t items)
      : kernel(entry), slots(std::move(scalars)), group(items), program_(owner) {}
  ~OpenclProgram() override {
    cl::api().release_kernel(kernel);
    cl::api().release_program(program_);
  }
  OpenclProgram(const OpenclProgram&) = delete;
  OpenclProgram& operator=(const OpenclProgram&) = delete;

  const cl::Kernel kernel;
  const std::vector<size_t> slots;
  const size_t group;

 private:
  cl::Program program_;
};

// Released where an exception passes.
struct ProgramHolder {
  cl::Program program = nullptr;
  ~ProgramHolder() {
    if (program != nullptr) cl::api().release_program(program);
  }
};

KernelSource render(const Ref& kernel, const std::string& entry, const Target&) {
  return {.name = entry, .text = render_c(kernel, entry, Dialect::OpenCL)};
}

class OpenclBackend final : public Backend {
 public:
  explicit OpenclBackend(Chosen chosen);
  ~OpenclBackend() override;
  OpenclBackend(const OpenclBackend&) = delete;
  OpenclBackend& operator=(const OpenclBackend&) = delete;

  const BackendKind& kind() const override { return opencl_backend; }
  std::string description() const override { return description_; }
  std::string fingerprint() const override { return fingerprint_; }
  Target target() const override { return gpu_target(); }

  void* allocate(size_t bytes) override;
  void release(void* memory) override;
  void copy_in(void* device, const void* host, size_t bytes) override;
  void copy_out(void* host, const void* device, size_t bytes) override;
  bool host_visible() const override { return false; }

  std::vector<std::string> compile(std::span<const KernelSource> kernels,
                                   const ParallelFor& parallel) override;
  std::string compiler_text(const KernelSource&, std::string_view stage) override {
    fail("opencl: there is no stage '{}': the driver does not show what it makes of a kernel", stage);
  }
  std::unique_ptr<Program> load(const KernelSource& kernel, std::string_view binary) override;
  void launch(const Launch& launch, const ParallelFor& parallel) override;
  int64_t synchronise() override;

 private:
  std::string binary_of(cl::Program program) const;
  std::string build_log(cl::Program program) const;
  cl::Program build_source(const KernelSource& kernel, std::string_view source) const;
  cl::Program build_binary(const KernelSource& kernel, std::string_view code) const;

  cl::Device device_ = nullptr;
  cl::Context context_ = nullptr;
  cl::Queue queue_ = nullptr;
  cl::Mem error_ = nullptr;
  std::string description_, fingerprint_, options_;
  AddressSpace memory_;
};

OpenclBackend::OpenclBackend(Chosen chosen) : device_(chosen.device) {
  const cl::Api& api = cl::api();
  const std::string platform = text_of(api.platform_info, chosen.platform, cl::kPlatformName);
  const std::string device = text_of(api.device_info, device_, cl::kDeviceName);
  const std::string driver = text_of(api.device_info, device_, cl::kDriverVersion);
  description_ = fmt::format("{}, {}, driver {}", device, platform, driver);
  const auto config = device_fact<cl::Bitfield>(device_, cl::kDeviceSingleFpConfig);
  // Without the option a device may round f32 division and sqrt to 2.5 and 3 units in the last place.
  options_ = "-cl-std=CL1.2 -w";
  if ((config & cl::kCorrectlyRoundedDivideSqrt) != 0) options_ += " -cl-fp32-correctly-rounded-divide-sqrt";
  fingerprint_ = fmt::format("opencl {} {} {} {} {}", platform, device, driver,
                             text_of(api.device_info, device_, cl::kDeviceVersion), options_);
  std::replace(fingerprint_.begin(), fingerprint_.end(), '\n', ' ');
  cl::Int code = 0;
  context_ = api.create_context(nullptr, 1, &device_, nullptr, nullptr, &code);
  expect(code, "clCreateContext");
  queue_ = api.create_queue(context_, device_, 0, &code);
  if (code == cl::kSuccess)
    error_ = api.create_buffer(context_, cl::kMemReadWrite, sizeof(int64_t), nullptr, &code);
  const int64_t none = 0;
  if (code == cl::kSuccess)
    code = api.write(queue_, error_, cl::kTrue, 0, sizeof none, &none, 0, nullptr, nullptr);
  if (code == cl::kSuccess) return;
  if (queue_ != nullptr) api.release_queue(queue_);
  api.release_context(context_);
  expect(code, "opening the device");
}

OpenclBackend::~OpenclBackend() {
  const cl::Api& api = cl::api();
  api.finish(queue_);
  for (const auto& [start, buffer] : memory_.all()) api.release_buffer(buffer.first);
  api.release_buffer(error_);
  api.release_queue(queue_);
  api.release_context(context_);
}

// ---- memory

void* OpenclBackend::allocate(size_t bytes) {
  cl::Int code = 0;
  const cl::Mem buffer =
      cl::api().create_buffer(context_, cl::kMemReadWrite, std::max<size_t>(bytes, 1), nullptr, &code);
  if (code != cl::kSuccess) fail("opencl: {} bytes cannot be allocated: {}", bytes, cl::error_name(code));
  return memory_.add(buffer, bytes);
}

void OpenclBackend::release(void* memory) {
  if (memory != nullptr) cl::api().release_buffer(memory_.remove(memory));
}

void OpenclBackend::copy_in(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  const auto [buffer, offset] = memory_.find(device);
  expect(cl::api().write(queue_, buffer, cl::kTrue, offset, bytes, host, 0, nullptr, nullptr),
         "clEnqueueWriteBuffer");
}

void OpenclBackend::copy_out(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  const auto [buffer, offset] = memory_.find(device);
  expect(cl::api().read(queue_, buffer, cl::kTrue, offset, bytes, host, 0, nullptr, nullptr),
         "clEnqueueReadBuffer");
}

// ---- programs

std::string OpenclBackend::build_log(cl::Program program) const {
  size_t size = 0;
  if (cl::api().build_info(program, device_, cl::kProgramBuildLog, 0, nullptr, &size) != cl::kSuccess)
    return "";
  std::string log(size, '\0');
  cl::api().build_info(program, device_, cl::kProgramBuildLog, size, log.data(), nullptr);
  while (!log.empty() && log.back() == '\0') log.pop_back();
  return log;
}

cl::Program OpenclBackend::build_source(const KernelSource& kernel, std::string_view source) const {
  cl::Int code = 0;
  const char* text = source.data();
  const size_t size = source.size();
  ProgramHolder holder{cl::api().create_with_source(context_, 1, &text, &size, &code)};
  expect(code, "clCreateProgramWithSource");
  code = cl::api().build(holder.program, 1, &device_, options_.c_str(), nullptr, nullptr);
  if (code != cl::kSuccess)
    fail_to_compile(opencl_backend, kernel, cl::error_name(code) + "\n" + build_log(holder.program));
  return std::exchange(holder.program, nullptr);
}

cl::Program OpenclBackend::build_binary(const KernelSource& kernel, std::string_view code) const {
  cl::Int status = 0, error = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(code.data());
  const size_t size = code.size();
  ProgramHolder holder{cl::api().create_with_binary(context_, 1, &device_, &size, &bytes, &status, &error)};
  expect(error, "clCreateProgramWithBinary");
  expect(cl::api().build(holder.program, 1, &device_, options_.c_str(), nullptr, nullptr),
         fmt::format("clBuildProgram of the binary of kernel {}", kernel.name));
  return std::exchange(holder.program, nullptr);
}

/// The device's binary, "" where the driver gives none.
std::string OpenclBackend::binary_of(cl::Program program) const {
  size_t size = 0;
  if (cl::api().program_info(program, cl::kProgramBinarySizes, sizeof size, &size, nullptr) != cl::kSuccess)
    return "";
  std::string code(size, '\0');
  auto* bytes = reinterpret_cast<unsigned char*>(code.data());
  if (cl::api().program_info(program, cl::kProgramBinaries, sizeof bytes, &bytes, nullptr) != cl::kSuccess)
    return "";
  return code;
}

std::vector<std::string> OpenclBackend::compile(std::span<const KernelSource> kernels, const ParallelFor&) {
  std::vector<std::string> binaries;
  for (const KernelSource& kernel : kernels) {
    const ProgramHolder holder{build_source(kernel, kernel.text)};
    const std::string code = binary_of(holder.program);
    binaries.push_back(code.empty() ? pack_gpu_binary(kernel, fingerprint_, "source", kernel.text)
                                    : pack_gpu_binary(kernel, fingerprint_, "binary", code));
  }
  return binaries;
}

std::unique_ptr<Program> OpenclBackend::load(const KernelSource& kernel, std::string_view binary) {
  GpuBinary parts = unpack_gpu_binary(binary, fingerprint_);
  ProgramHolder holder{parts.kind == "source" ? build_source(kernel, parts.code)
                                              : build_binary(kernel, parts.code)};
  cl::Int code = 0;
  const cl::Kernel entry = cl::api().create_kernel(holder.program, kernel.name.c_str(), &code);
  expect(code, fmt::format("clCreateKernel of {}", kernel.name));
  size_t most = 1;
  code = cl::api().work_group_info(entry, device_, cl::kKernelWorkGroupSize, sizeof most, &most, nullptr);
  if (code != cl::kSuccess || most == 0) most = 1;
  return std::make_unique<OpenclProgram>(std::exchange(holder.program, nullptr), entry,
                                         std::move(parts.slots), std::min(kGroup, most));
}

// ---- launches

void OpenclBackend::launch(const Launch& launch, const ParallelFor&) {
  if (launch.shares <= 0) return;
  const auto& program = static_cast<const OpenclProgram&>(*launch.program);
  cl::Uint number = 0;
  const auto set = [&](size_t size, const void* value) {
    expect(cl::api().set_argument(program.kernel, number++, size, value), "clSetKernelArg");
  };
  std::vector<int64_t> offsets;
  for (const void* address : launch.buffers) {
    const auto [buffer, offset] = memory_.find(address);
    set(sizeof buffer, &buffer);
    offsets.push_back(static_cast<int64_t>(offset));
  }
  set(sizeof error_, &error_);
  for (const int64_t& offset : offsets) set(sizeof offset, &offset);
  for (const size_t slot : program.slots) {
    if (slot >= launch.scalars.size())
      broken("opencl: a kernel reads slot {}, {} were given", slot, launch.scalars.size());
    set(sizeof(int64_t), &launch.scalars[slot]);
  }
  const size_t shares = static_cast<size_t>(launch.shares), local = shares == 1 ? 1 : program.group;
  const size_t global = (shares + local - 1) / local * local;
  expect(cl::api().enqueue(queue_, program.kernel, 1, nullptr, &global, &local, 0, nullptr, nullptr),
         "clEnqueueNDRangeKernel");
}

int64_t OpenclBackend::synchronise() {
  int64_t found = 0;
  expect(cl::api().read(queue_, error_, cl::kTrue, 0, sizeof found, &found, 0, nullptr, nullptr),
         "clEnqueueReadBuffer");
  const int64_t none = 0;
  if (found != 0)
    expect(cl::api().write(queue_, error_, cl::kTrue, 0, sizeof none, &none, 0, nullptr, nullptr),
           "clEnqueueWriteBuffer");
  return found;
}

}  // namespace

// Drivers end the process that asks them where they miss something (PoCL: /sys, or memory): asked by a child first.
static std::string how_the_drivers_end() {
  return how_it_ends([] { choose_device(); }, std::chrono::seconds(20));
}

static std::unique_ptr<Backend> open() {
  static const std::string& end = lasting(how_the_drivers_end());
  if (!end.empty())
    fail("opencl: a driver fails when it is asked for its devices, tried in a process of its own: {}", end);
  return std::make_unique<OpenclBackend>(choose_device());
}

const BackendKind opencl_backend = {
    .name = "opencl",
    .source_ending = "cl",
    .render = render,
    .open = open,
    .usual_target = [] { return gpu_target(usual_gpu_memory); },
};

}  // namespace kontor
