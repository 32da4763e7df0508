// Strictness around nlohmann's parser; see json.h.
#include "base/json.h"

#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace kontor {
namespace {

constexpr int kMaxDepth = 100;  // the parser's own stack is a loop, but destroying a deep value recurses

/// The library's message without its "[json.exception...]" tag and place, which parse_json writes itself.
std::string_view plain(std::string_view message) {
  if (size_t place = message.find("syntax error"); place != std::string_view::npos)
    return message.substr(place);
  if (size_t tag = message.find("] "); tag != std::string_view::npos) return message.substr(tag + 2);
  return message;
}

// Refuses what is nested too deep, and keys that stand twice in one object.
class Strictness {
 public:
  explicit Strictness(std::string_view source) : source_(source) {}

  template <class Value>
  void see(int depth, Json::parse_event_t event, const Value& value) {
    using Event = Json::parse_event_t;
    if (depth > kMaxDepth) fail("{}: bad JSON: nested deeper than {}", source_, kMaxDepth);
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(value.template get_ref<const std::string&>()).second)
      fail("{}: bad JSON: key {} stands twice", source_, value.dump());
  }

 private:
  std::string_view source_;
  std::vector<std::set<std::string>> keys_;  // of each object that is open
};

template <class Parse>
auto parse_strictly(std::string_view source, const Parse& parse) {
  try {
    return parse();
  } catch (const Json::parse_error& error) {
    fail("{}: bad JSON at byte {}: {}", source, error.byte, plain(error.what()));
  } catch (const Json::exception& error) {
    fail("{}: bad JSON: {}", source, plain(error.what()));
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  Strictness strictness(source);
  const auto check = [&](int depth, Json::parse_event_t event, const Json& value) {
    strictness.see(depth, event, value);
    return true;
  };
  return parse_strictly(source, [&] { return Json::parse(text.begin(), text.end(), check); });
}

void parse_json_members(std::string_view text, std::string_view source, const Member& member) {
  using Value = nlohmann::json;
  using Event = Json::parse_event_t;
  Strictness strictness(source);
  std::string key;
  const auto take = [&](int depth, Value::parse_event_t given, const Value& value) {
    const auto event = static_cast<Event>(given);
    strictness.see(depth, event, value);
    if (depth == 1 && event == Event::key) key = value.get<std::string>();
    if (depth > 1 && event == Event::object_start) fail("{}: {}: an object within an object", source, key);
    const bool ends = event == Event::value || event == Event::object_end || event == Event::array_end;
    if (depth != 1 || !ends) return true;
    member(key, value);
    return event == Event::value;  // what is dropped is searched for among what was kept
  };
  const Value whole = parse_strictly(source, [&] { return Value::parse(text.begin(), text.end(), take); });
  if (!whole.is_object()) fail("{}: not an object", source);
}

}  // namespace kontor
