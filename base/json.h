// JSON by nlohmann's library, made strict: a key that stands twice is refused, and errors name the source and
// the byte. A .cpp that uses more than parse_json's name includes <nlohmann/json.hpp>; this header stays
// light.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace kontor {

/// Objects keep the order in which they were written.
using Json = nlohmann::ordered_json;

/// Parses the whole text (RFC 8259: no comments, no trailing comma). `source` names it in the Error thrown.
Json parse_json(std::string_view text, std::string_view source);

/// Members of an object as they are read, none of which is kept: for objects of many members, in which Json searches and
/// from which nlohmann's parser copies. Those of a value are found in the order of their keys.
using Member = std::function<void(const std::string& key, const nlohmann::json& value)>;
/// Calls `member` for each member of the object that the text is. A member's value nests no objects, so that the time is
/// linear in the text whatever it holds. Throws as parse_json.
void parse_json_members(std::string_view text, std::string_view source, const Member& member);

}  // namespace kontor
