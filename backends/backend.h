// What every device must offer: what it is as a target, memory, compiling a kernel's text, launching. One folder implements one Backend.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "codegen/target.h"
#include "graph/node.h"

namespace kontor {

/// One kernel as text, ready for a device compiler. `name` is the entry function.
struct KernelSource {
  std::string name;
  std::string text;           ///< LLVM IR, OpenCL C, CUDA C or C
  int64_t scratch_bytes = 0;  ///< private memory that one share needs (CPU only)
};

/// What one launch is given. A CPU kernel is `void(const KernelArgs*)`, and runs iterations [begin, end) of its thread
/// loop (extent `shares` at the launch; 1 where it has none). The layout is part of the kernel ABI: six 8-byte fields.
struct KernelArgs {
  void* const* buffers;  ///< device addresses, in the order of the kernel's buffer parameters
  const int64_t*
      scalars;  ///< 8-byte slots (Variables as i64; Scalars with the bits of their dtype in the low bytes)
  int64_t begin, end;
  void* scratch;  ///< 64-byte aligned, scratch_bytes of this share
  int64_t*
      error;  ///< the launch's error word (codegen/tree/tree.h); a kernel stores that of a failed check, never clears it
};
static_assert(sizeof(KernelArgs) == 48);

/// A compiled kernel.
class Program {
 public:
  virtual ~Program() = default;
};

/// A way to run 0..count-1 on several threads: calls `task(context, begin, end)` for ranges that together cover each number
/// once; returns when all are done, and throws what a task threw.
struct ParallelFor {
  using Task = void (*)(void* context, int64_t begin, int64_t end);
  void (*run)(void* pool, int64_t count, Task task, void* context) = nullptr;  ///< null: run in the caller
  void* pool = nullptr;

  /// The same for anything callable as work(begin, end).
  template <class Work>
  void operator()(int64_t count, Work&& work) const {
    using Callable = std::remove_reference_t<Work>;
    const Task task = [](void* context, int64_t begin, int64_t end) {
      (*static_cast<Callable*>(context))(begin, end);
    };
    if (run == nullptr) {
      if (count > 0) work(int64_t{0}, count);
    } else {
      run(pool, count, task, const_cast<void*>(static_cast<const void*>(&work)));
    }
  }
};

struct Launch {
  Program* program = nullptr;
  std::span<void* const> buffers;
  std::span<const int64_t> scalars;
  int64_t shares = 1;    ///< extent of the thread loop (CPU) or number of global ids (GPU)
  bool parallel = true;  ///< false: too little work to wake other threads
};

class Backend;

/// A kind of device: what is known of it without one at hand. The folder backends/NAME defines NAME_backend.
struct BackendKind {
  std::string_view name;           ///< "cuda"
  std::string_view source_ending;  ///< of a file with a kernel's text: "cu"
  /// A kernel as the text that such a device takes; `entry` is its function.
  KernelSource (*render)(const Ref& kernel, const std::string& entry, const Target& target);
  /// Throws Error that says which file was looked for where.
  std::unique_ptr<Backend> (*open)();
  Target (*usual_target)() = nullptr;  ///< of a device that is not at hand; null where there always is one
  bool keeps_binaries = true;          ///< whether what compile() makes is worth a place in the cache on disk
};

/// A device. All methods may be called from one thread at a time; the runtime serialises.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const BackendKind& kind() const = 0;
  std::string_view name() const { return kind().name; }
  /// One line for `kontor devices`: vendor, model, driver.
  virtual std::string description() const = 0;
  /// Goes into every cache key: compiler version, target CPU and features.
  virtual std::string fingerprint() const = 0;
  virtual Target target() const = 0;

  virtual void* allocate(
      size_t bytes) = 0;  ///< at least 64-byte aligned; throws Error with the size when memory is out
  virtual void release(void* memory) = 0;
  virtual void copy_in(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_out(void* host, const void* device, size_t bytes) = 0;
  /// Whether device addresses can be read and written by the host directly.
  virtual bool host_visible() const = 0;

  /// Compiles kernels together (in parallel where the device can); each result is a binary that load() takes, so that it
  /// can be cached on disk. A compiler's failure throws Error with its log and the path of the dumped source.
  virtual std::vector<std::string> compile(std::span<const KernelSource> kernels,
                                           const ParallelFor& parallel) = 0;
  /// What the device's compiler makes of a kernel on the way, as text: stage "ir" (optimised) or "asm". Throws Error where
  /// the device has no such stage.
  virtual std::string compiler_text(const KernelSource& kernel, std::string_view stage) = 0;
  /// Makes a binary runnable; never loads a compiler. Throws Error if the binary is not of this device.
  virtual std::unique_ptr<Program> load(const KernelSource& kernel, std::string_view binary) = 0;
  /// Starts (or runs) a launch. `error` is written by the time of the next synchronise().
  virtual void launch(const Launch& launch, const ParallelFor& parallel) = 0;
  /// Waits; returns the error word of the launches since the last call and clears it.
  virtual int64_t synchronise() = 0;
};

/// The kinds built in, in the order in which a default device is looked for (backends/meson.build).
std::span<const BackendKind* const> backend_kinds();
/// Their names: "llvm, cuda, opencl, interp or c".
std::string device_names();
/// By name; throws Error with the names there are.
const BackendKind& backend_kind(std::string_view name);
std::unique_ptr<Backend> open_backend(std::string_view name);

/// Throws Error with the compiler's log and the path of the source, which is kept in the folder for temporary files.
[[noreturn]] void fail_to_compile(const BackendKind& kind, const KernelSource& kernel, std::string_view log);

}  // namespace kontor
