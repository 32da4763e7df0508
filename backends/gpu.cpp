// Binaries of GPU kernels: six lines of text, then the code.
#include "backends/gpu.h"

#include <dlfcn.h>

#include <charconv>
#include <optional>

#include "base/error.h"
#include "codegen/tree/tree.h"

namespace kontor {

void* open_library(std::span<const char* const> files, std::string& log) {
  for (const char* file : files) {
    if (void* library = ::dlopen(file, RTLD_NOW | RTLD_LOCAL)) return library;
    log += fmt::format("\n  {}", ::dlerror());
  }
  return nullptr;
}

Target gpu_target(int64_t device_memory) {
  Target target;
  target.gpu = true;
  target.vector_bytes = 0;
  target.place_bytes = 256;  // what a thread may keep in registers
  target.memory_budget = device_memory / 2;
  return target;
}

Target cuda_target(int64_t device_memory, int capability) {
  Target target = gpu_target(device_memory);
  target.lanes = warp;
  target.natives.bf16_pairs = capability >= 80;  // mma.m16n8k16 of bf16
  return target;
}

namespace {

constexpr std::string_view kMagic = "kontor gpu kernel 3";

/// Takes a line off the front; false where there is none.
bool take_line(std::string_view& text, std::string_view& line) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return false;
  line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return true;
}

bool take_numbers(std::string_view line, std::vector<size_t>& out) {
  while (!line.empty()) {
    if (line.front() == ' ') {
      line.remove_prefix(1);
      continue;
    }
    size_t number = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number);
    if (error != std::errc()) return false;
    out.push_back(number);
    line.remove_prefix(static_cast<size_t>(end - line.data()));
  }
  return true;
}

/// The text after a mark at the start of a line of a kernel's source; null if there is none.
std::optional<std::string_view> line_after(std::string_view mark, const KernelSource& kernel) {
  std::string_view rest = kernel.text, line;
  while (take_line(rest, line)) {
    if (line.starts_with(mark)) return line.substr(mark.size());
  }
  return std::nullopt;
}

std::string_view slots_line(const KernelSource& kernel) {
  constexpr std::string_view mark = "// slots:";
  if (const auto found = line_after(mark, kernel)) return *found;
  fail("kernel {}: its source has lost the line '{}', which says what scalars it takes", kernel.name, mark);
}

}  // namespace

std::string pack_gpu_binary(const KernelSource& kernel, std::string_view fingerprint, std::string_view kind,
                            std::string_view code) {
  const std::string_view group = line_after("// group:", kernel).value_or("");
  const std::string_view shared = line_after("// shared:", kernel).value_or("");
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}", kMagic, fingerprint, kind, slots_line(kernel), group,
                     shared, code);
}

GpuBinary unpack_gpu_binary(std::string_view binary, std::string_view fingerprint) {
  std::string_view magic, device, kind, slots, group, shared;
  std::vector<size_t> threads, bytes;
  GpuBinary out;
  const bool whole = take_line(binary, magic) && take_line(binary, device) && take_line(binary, kind) &&
                     take_line(binary, slots) && take_line(binary, group) && take_line(binary, shared) &&
                     magic == kMagic && take_numbers(slots, out.slots) && take_numbers(group, threads) &&
                     threads.size() <= 1 && take_numbers(shared, bytes) && bytes.size() <= 1;
  if (!whole) fail("a compiled kernel is damaged or of another version of Kontor");
  if (device != fingerprint) fail("a compiled kernel is for '{}', not for '{}'", device, fingerprint);
  out.kind = kind;
  out.group = threads.empty() ? 0 : static_cast<int64_t>(threads[0]);
  out.shared = bytes.empty() ? 0 : static_cast<int64_t>(bytes[0]);
  out.code = binary;
  return out;
}

}  // namespace kontor
