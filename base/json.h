// JSON by nlohmann's library, made strict: a key that stands twice is refused, and errors name the source and
// the byte. A .cpp that uses more than parse_json's name includes <nlohmann/json.hpp>; this header stays
// light.
#pragma once
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace kontor::inline v0 {

/// Objects keep the order in which they were written.
using Json = nlohmann::ordered_json;

/// Parses the whole text (RFC 8259: no comments, no trailing comma). `source` names it in the Error thrown.
Json parse_json(std::string_view text, std::string_view source);

}  // namespace kontor::inline v0
