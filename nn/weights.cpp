// Parameters to and from safetensors files.
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <kontor/nn.h>

#include "base/error.h"
#include "nn/safetensors.h"

namespace kontor::inline v0 {

static std::vector<std::byte> bytes_of(const Tensor& tensor) {
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.elements() * item_size(tensor.dtype())));
  tensor.read(bytes.data(), bytes.size());
  return bytes;
}

static Tensor tensor_of_bytes(std::span<const std::byte> bytes, DType dtype,
                              const std::vector<int64_t>& shape) {
  return Tensor::from_memory(bytes.data(), dtype, Shape(shape.begin(), shape.end()));
}

namespace nn {

void save_parameters(const std::string& path, std::span<const Parameter> parameters,
                     const Metadata& metadata) {
  ArrayFile file;
  file.metadata = metadata;
  for (const Parameter& p : parameters)
    file.arrays.push_back({p.name, p.tensor->dtype(), p.tensor->shape(), bytes_of(*p.tensor)});
  write_safetensors(path, file);
}

namespace {

std::string describe(DType dtype, std::span<const int64_t> shape) {
  return fmt::format("{}[{}]", kontor::name(dtype), fmt::join(shape, ", "));
}

using ByName = std::unordered_map<std::string_view, const ArrayRecord*>;

// What keeps the arrays of a file from being the parameters, or "".
std::string mismatch(const ArrayFile& file, const ByName& arrays, std::span<const Parameter> parameters) {
  std::string missing, extra, differing;
  const auto list = [](std::string& to, const std::string& what) { to += (to.empty() ? "" : ", ") + what; };
  std::unordered_set<std::string_view> wanted;
  for (const Parameter& p : parameters) {
    wanted.insert(p.name);
    const auto it = arrays.find(p.name);
    if (it == arrays.end()) {
      list(missing, p.name);
    } else if (const ArrayRecord& a = *it->second;
               a.shape != p.tensor->shape() || a.dtype != p.tensor->dtype()) {
      list(differing, fmt::format("{} is {}, not {}", p.name, describe(a.dtype, a.shape),
                                  describe(p.tensor->dtype(), p.tensor->shape())));
    }
  }
  for (const ArrayRecord& a : file.arrays) {
    if (!wanted.contains(a.name)) list(extra, a.name);
  }
  std::string out;
  if (!missing.empty()) out += "; missing: " + missing;
  if (!extra.empty()) out += "; not of this model: " + extra;
  if (!differing.empty()) out += "; " + differing;
  return out.empty() ? out : out.substr(2);
}

}  // namespace

Metadata load_parameters(const std::string& path, std::span<const Parameter> parameters) {
  const ArrayFile file = read_safetensors(path);
  ByName arrays;
  for (const ArrayRecord& a : file.arrays) arrays.emplace(a.name, &a);
  if (const std::string why = mismatch(file, arrays, parameters); !why.empty()) fail("{}: {}", path, why);
  std::vector<Tensor*> changed;
  for (const Parameter& p : parameters) {
    const ArrayRecord& array = *arrays.at(p.name);
    p.tensor->assign(tensor_of_bytes(array.bytes, array.dtype, array.shape));
    changed.push_back(p.tensor);
  }
  realize_all(changed);
  return file.metadata;
}

Metadata load_metadata(const std::string& path) { return read_safetensors(path).metadata; }

}  // namespace nn
}  // namespace kontor::inline v0
