// Loop trees as text that reads back: print(parse(print(t))) == print(t), and both trees mean the same.
//
//   kernel softmax(x f32[64, 512]) -> y f32[64, 512]     $0 f32, $1 i64 1..100 before the parameters are its slots; behind
//                                                        the arrow what is written: the last parameters, else (y, x) -> y
//     thread i 64                                        loops: loop thread global local unroll vector; `width 16`
//       m max f32; e f32[512]                            places, with their fold if they have one
//       loop j 512: m <- x[i, j]                         a fold's step; `q <- a, b` for dot
//       vector j 512 width 16
//         let %0 = exp(x[i, j] - m)                      a value used more than once below
//         y[i, j] = %0 / x[i, j - 1 if 0 < j]            a store; a guarded load is 0 where the guard is false
//       clear z                                          fills a parameter with the identity of its fold
//       if i < 3                                         and else
//       check 1: i < 60                                  sets the error word to 1 where false
//       check 2 of k[i]: k[i] < 60                       .. and with what k[i] was
//
// merge(p[i]) joins the last dimension of p in halving pairs. Expressions: graph/text/expression.h.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codegen/tree/tree.h"

namespace kontor::tree {

/// The text of a kernel, or of any statement or value of one. In a kernel, `?name` is used outside of its scope.
std::string print(const Ref& node);
/// What is to be said of accesses of a statement, or of a branch's condition: a comment each, below it.
using Notes = std::function<std::vector<std::pair<const Node*, std::string>>(const Node& statement)>;
std::string print(const Ref& kernel, const Notes& notes);
/// Reads a kernel; throws Error with line and what is wrong.
Ref parse(std::string_view text);

}  // namespace kontor::tree
