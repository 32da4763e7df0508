// safetensors reader and writer.
#include "nn/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "graph/shape.h"
#include "nn/array_types.h"

static_assert(std::endian::native == std::endian::little, "array files are little-endian");

namespace kontor::inline v0 {
namespace {

constexpr size_t kPrefix = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation
constexpr std::string_view kMetadata = "__metadata__";

struct Extent {
  uint64_t begin, end;
  std::string_view name;
};

std::vector<const ArrayRecord*> file_order(const ArrayFile& file) {
  std::vector<const ArrayRecord*> order;
  for (const ArrayRecord& array : file.arrays) order.push_back(&array);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) {
    const int64_t size_a = item_size(a->dtype), size_b = item_size(b->dtype);
    return size_a != size_b ? size_a > size_b : a->name < b->name;
  });
  return order;
}

void check_record(const ArrayRecord& array) {
  const DTypeRow& type = row(array.dtype);
  if (type.safetensors.empty()) fail("safetensors: {}: no tag for {}", array.name, type.name);
  if (array.name == kMetadata) fail("safetensors: an array cannot be named {}", kMetadata);
  const std::optional<uint64_t> needed = byte_count(array.dtype, array.shape);
  if (!needed || *needed != array.bytes.size())
    fail("safetensors: {}: {}[{}] does not take {} bytes", array.name, type.name,
         fmt::join(array.shape, ", "), array.bytes.size());
}

std::string header_of(const ArrayFile& file, const std::vector<const ArrayRecord*>& order) {
  // Members are appended: to look one up in a Json takes as long as there are members.
  Json header = Json::object();
  auto& members = header.get_ref<Json::object_t&>();
  members.reserve(order.size() + 1);
  std::set<std::string_view> names;
  if (!file.metadata.empty()) members.emplace_back(kMetadata, file.metadata);
  uint64_t offset = 0;
  for (const ArrayRecord* array : order) {
    check_record(*array);
    if (!names.insert(array->name).second) fail("safetensors: name {} stands twice", array->name);
    const uint64_t end = offset + array->bytes.size();
    Json entry = {
        {"dtype", row(array->dtype).safetensors}, {"shape", array->shape}, {"data_offsets", {offset, end}}};
    members.emplace_back(array->name, std::move(entry));
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception&) {
    fail("safetensors: a name or metadata is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

/// The prefix and header, and views of the arrays in the order of the file.
std::vector<std::string_view> parts_of(const std::vector<const ArrayRecord*>& order,
                                       const std::string& head) {
  std::vector<std::string_view> parts = {head};
  for (const ArrayRecord* array : order)
    parts.emplace_back(reinterpret_cast<const char*>(array->bytes.data()), array->bytes.size());
  return parts;
}

std::string head_of(const ArrayFile& file, const std::vector<const ArrayRecord*>& order) {
  const std::string header = header_of(file, order);
  const uint64_t size = header.size();
  std::string head(kPrefix, '\0');
  std::memcpy(head.data(), &size, kPrefix);
  return head + header;
}

/// The header's text; checks that the file can hold it.
std::string_view header_text(std::string_view bytes, std::string_view source) {
  if (bytes.size() < kPrefix)
    fail("{}: safetensors: {} bytes, the header size alone takes 8", source, bytes.size());
  uint64_t size;
  std::memcpy(&size, bytes.data(), kPrefix);
  if (size > kMaxHeader) fail("{}: safetensors: header of {} bytes, more than {}", source, size, kMaxHeader);
  if (size > bytes.size() - kPrefix)
    fail("{}: safetensors: truncated: header of {} bytes, but {} bytes follow its size", source, size,
         bytes.size() - kPrefix);
  const std::string_view text = bytes.substr(kPrefix, size);
  if (!text.starts_with('{')) fail("{}: safetensors: the header at offset 8 does not begin with {{", source);
  return text;
}

using Entry = nlohmann::json;

const Entry& field(const Entry& entry, const char* key, std::string_view name, std::string_view source) {
  if (!entry.is_object() || entry.size() != 3)
    fail("{}: safetensors: {}: not an object of dtype, shape, data_offsets", source, name);
  if (!entry.contains(key)) fail("{}: safetensors: {}: no {}", source, name, key);
  return entry[key];
}

/// What a file holds in place of a name or number may be as long as the file.
std::string shortened(std::string text) {
  constexpr size_t kMost = 200;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

/// An array of numbers >= 0 that fit int64.
std::vector<int64_t> numbers(const Entry& value, const char* key, std::string_view name,
                             std::string_view source) {
  std::vector<int64_t> result;
  bool good = value.is_array();
  for (size_t i = 0; good && i < value.size(); ++i) {
    good = value[i].is_number_unsigned() && value[i].get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
    if (good) result.push_back(value[i].get<int64_t>());
  }
  if (!good)
    fail("{}: safetensors: {}: {} is {}, not a list of sizes", source, name, key, shortened(value.dump()));
  if (result.size() > most_axes)
    fail("{}: safetensors: {}: {} has {} numbers, more than {}", source, name, key, result.size(), most_axes);
  return result;
}

ArrayRecord parse_record(const std::string& name, const Entry& entry, std::string_view data,
                         std::string_view source, std::vector<Extent>& extents) {
  ArrayRecord record;
  record.name = name;
  const Entry& tag = field(entry, "dtype", name, source);
  const auto dtype = tag.is_string() ? dtype_of_tag(tag.get_ref<const std::string&>()) : std::nullopt;
  if (!dtype) fail("{}: safetensors: {}: dtype {} is unknown", source, name, shortened(tag.dump()));
  record.dtype = *dtype;
  record.shape = numbers(field(entry, "shape", name, source), "shape", name, source);

  const std::vector<int64_t> offsets =
      numbers(field(entry, "data_offsets", name, source), "data_offsets", name, source);
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    fail("{}: safetensors: {}: data_offsets [{}] is not [begin, end]", source, name,
         fmt::join(offsets, ", "));
  const auto begin = static_cast<uint64_t>(offsets[0]), end = static_cast<uint64_t>(offsets[1]);
  if (end > data.size())
    fail("{}: safetensors: {}: data_offsets [{}, {}] leave the {} bytes of data (truncated?)", source, name,
         begin, end, data.size());
  const std::optional<uint64_t> needed = byte_count(record.dtype, record.shape);
  if (!needed || *needed != end - begin)
    fail("{}: safetensors: {}: {}[{}] does not take the {} bytes of data_offsets [{}, {}]", source, name,
         kontor::name(*dtype), fmt::join(record.shape, ", "), end - begin, begin, end);
  const auto* first = reinterpret_cast<const std::byte*>(data.data()) + begin;
  record.bytes.assign(first, first + *needed);
  extents.push_back({begin, end, name});
  return record;
}

std::map<std::string, std::string> parse_metadata(const Entry& entry, std::string_view source) {
  std::map<std::string, std::string> metadata;
  if (!entry.is_object()) fail("{}: safetensors: {} is not an object", source, kMetadata);
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string())
      fail("{}: safetensors: {}: {} is {}, not a string", source, kMetadata, key, shortened(value.dump()));
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

void check_extents(std::vector<Extent> extents, uint64_t size, std::string_view source) {
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t at = 0;
  for (size_t i = 0; i < extents.size(); ++i) {
    const Extent& extent = extents[i];
    if (extent.begin < at)
      fail("{}: safetensors: {} [{}, {}] overlaps {} [{}, {}]", source, extent.name, extent.begin, extent.end,
           extents[i - 1].name, extents[i - 1].begin, extents[i - 1].end);
    if (extent.begin > at)
      fail("{}: safetensors: bytes {} to {} of the data belong to no array", source, at, extent.begin);
    at = extent.end;
  }
  if (at != size) fail("{}: safetensors: bytes {} to {} of the data belong to no array", source, at, size);
}

}  // namespace

const ArrayRecord& ArrayFile::at(std::string_view name, std::string_view source) const {
  for (const ArrayRecord& array : arrays)
    if (array.name == name) return array;
  std::vector<std::string_view> names;
  for (const ArrayRecord& array : arrays) names.push_back(array.name);
  fail("{}: no array {}; it holds {}", source, name, fmt::join(names, ", "));
}

std::string format_safetensors(const ArrayFile& file) {
  const auto order = file_order(file);
  const std::string head = head_of(file, order);
  std::string bytes;
  for (std::string_view part : parts_of(order, head)) bytes += part;
  return bytes;
}

ArrayFile parse_safetensors(std::string_view bytes, std::string_view source) {
  const std::string_view text = header_text(bytes, source);
  const std::string_view data = bytes.substr(kPrefix + text.size());
  require_memory(data.size(), source);
  ArrayFile file;
  std::vector<Extent> extents;
  parse_json_members(text, fmt::format("{}: safetensors header", source),
                     [&](const std::string& name, const Entry& entry) {
                       if (name == kMetadata) file.metadata = parse_metadata(entry, source);
                       else file.arrays.push_back(parse_record(name, entry, data, source, extents));
                     });
  // The views of names end with the loop's copies; take them from the records.
  for (size_t i = 0; i < extents.size(); ++i) extents[i].name = file.arrays[i].name;
  check_extents(std::move(extents), data.size(), source);
  return file;
}

void write_safetensors(const std::string& path, const ArrayFile& file) {
  const auto order = file_order(file);
  const std::string head = head_of(file, order);
  write_file(path, parts_of(order, head), Durable::Yes);
}

ArrayFile read_safetensors(const std::string& path) {
  return parse_safetensors(MappedFile(path).text(), path);
}

}  // namespace kontor::inline v0
