// Strictness around nlohmann's parser; see json.h.
#include "base/json.h"

#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace kontor::inline v0 {
namespace {

constexpr int kMaxDepth = 100;  // the parser's own stack is a loop, but destroying a deep value recurses

/// The library's message without its "[json.exception...]" tag and place, which parse_json writes itself.
std::string_view plain(std::string_view message) {
  if (size_t place = message.find("syntax error"); place != std::string_view::npos)
    return message.substr(place);
  if (size_t tag = message.find("] "); tag != std::string_view::npos) return message.substr(tag + 2);
  return message;
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  std::vector<std::set<std::string>> keys;  // of each object that is open
  auto check = [&](int depth, Json::parse_event_t event, const Json& value) {
    if (depth > kMaxDepth) fail("{}: bad JSON: nested deeper than {}", source, kMaxDepth);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get_ref<const std::string&>()).second)
      fail("{}: bad JSON: key {} stands twice", source, value.dump());
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    fail("{}: bad JSON at byte {}: {}", source, error.byte, plain(error.what()));
  } catch (const Json::exception& error) {
    fail("{}: bad JSON: {}", source, plain(error.what()));
  }
}

}  // namespace kontor::inline v0
