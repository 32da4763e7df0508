// Expressions as text that reads back exactly: literals, infix operators with C's precedence, functions for the rest.
// Of i64 values `a - b` means a + b * -1 and `a - 3` means a + -3 (the index algebra's canonical form); a Sub node
// prints as sub(a, b). `//` and `%` are floor division and its remainder, `/` divides floats.
#pragma once
#include <functional>
#include <string>

#include "graph/node.h"
#include "graph/text/lexer.h"

namespace kontor {

/// A Const: i64 and f32 plain, other dtypes with a suffix ("3_u8", "0.5_f64"); floats as the shortest exact decimal.
std::string literal(const Node& constant);

/// `leaf` says how a node is spelled that is no elementwise op or is already named; "" to look into the node.
using Spelling = std::function<std::string(const Node&)>;
std::string print_expression(const Node& value, const Spelling& leaf);

/// `primary` reads what starts with a name or sigil and is no function, dtype or literal.
using Primary = std::function<Ref(Lexer&)>;
Ref parse_expression(Lexer& lexer, const Primary& primary);
/// Reads a literal if one is next (with its sign), else returns null.
Ref parse_literal(Lexer& lexer);
int64_t parse_integer(Lexer& lexer);
/// The dtype of this name, or Void.
DType find_dtype(std::string_view name);
/// make(), with a refusal told as an Error of the text's line.
Ref make_parsed(const Lexer& lexer, Op op, std::vector<Ref> src, Arg arg = {}, DType dtype = DType::Void);

}  // namespace kontor
