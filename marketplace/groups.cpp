// Groups of parameters: from text, and which tensors of a model they mean.
#include "marketplace/groups.h"

#include <algorithm>

#include "base/error.h"
#include "marketplace/plans.h"

namespace kontor::inline v0::marketplace {

namespace {

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(at, begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    if (part.empty()) fail("groups: '{}' has an empty part", text);
    out.emplace_back(part);
    begin = end + 1;
  }
  return out;
}

bool means(const std::string& member, const std::string& parameter) {
  return parameter == member || parameter.starts_with(member + ".");
}

std::string known(std::span<const nn::Parameter> parameters) {
  std::string out;
  for (const nn::Parameter& p : parameters) out += (out.empty() ? "" : ", ") + p.name;
  return out;
}

// Adds the parameters that `member` names to those of the group.
void add_member(std::vector<size_t>& group, const std::string& member, const std::string& group_name,
                std::span<const nn::Parameter> parameters, std::vector<std::string>& owner) {
  bool any = false;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!means(member, parameters[i].name)) continue;
    any = true;
    if (!owner[i].empty())
      fail("groups: {} is in '{}' and in '{}'", parameters[i].name, owner[i], group_name);
    owner[i] = group_name;
    group.push_back(i);
  }
  if (!any) fail("groups: no parameter or layer '{}'; there are {}", member, known(parameters));
}

void check_parameter(const nn::Parameter& p) {
  if (p.tensor->dtype() != DType::F32)
    fail("groups: {} is {}; deltas are made for f32", p.name, kontor::name(p.tensor->dtype()));
}

}  // namespace

std::vector<Group> parse_groups(std::string_view text, std::span<const int64_t> vendors) {
  const std::vector<std::string> parts = split(text, '|');
  if (parts.size() != vendors.size())
    fail("groups: {} vendor counts for {} groups: {}", vendors.size(), parts.size(), text);
  std::vector<Group> out;
  for (size_t i = 0; i < parts.size(); ++i) out.push_back({parts[i], split(parts[i], '+'), vendors[i]});
  return out;
}

std::vector<Group> mnist_groups(Plan plan, std::span<const int64_t> vendors) {
  static constexpr int64_t star[] = {4, 4, 8, 16, 128}, full[] = {8, 8, 8};
  const bool crossed = row_of(plan).leader;
  const std::span<const int64_t> usual =
      crossed ? std::span<const int64_t>(full) : std::span<const int64_t>(star);
  return parse_groups(
      crossed ? "conv1+conv2+norm1|conv3+conv4+norm2|linear" : "conv1|conv2+norm1|conv3|conv4+norm2|linear",
      vendors.empty() ? usual : vendors);
}

std::string to_text(std::span<const Group> groups) {
  std::string out;
  for (const Group& g : groups) out += fmt::format("{}{}", out.empty() ? "" : "|", fmt::join(g.members, "+"));
  return out;
}

std::string vendors_text(std::span<const Group> groups) {
  std::string out;
  for (const Group& g : groups) out += fmt::format("{}{}", out.empty() ? "" : ",", g.vendors);
  return out;
}

std::vector<std::vector<size_t>> resolve(std::span<const Group> groups, Plan plan,
                                         std::span<const nn::Parameter> parameters) {
  if (groups.empty()) fail("groups: there are none");
  const int64_t least = row_of(plan).leader ? 2 : 1;
  std::vector<std::string> owner(parameters.size());
  std::vector<std::vector<size_t>> out;
  int64_t total = 0;
  for (const Group& g : groups) {
    if (g.vendors < least || g.vendors > most_vendors)
      fail("groups: {} vendors for '{}'; {} to {} are possible", g.vendors, g.name, least, most_vendors);
    total += g.vendors;
    if (g.members.empty()) fail("groups: '{}' names no parameters", g.name);
    out.emplace_back();
    for (const std::string& member : g.members) add_member(out.back(), member, g.name, parameters, owner);
    for (size_t i : out.back()) check_parameter(parameters[i]);
  }
  if (total > most_vendors) fail("groups: {} vendors in all; at most {} are possible", total, most_vendors);
  return out;
}

}  // namespace kontor::inline v0::marketplace
