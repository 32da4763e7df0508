// Groups: kernels whose Global iterations are each run by a group of threads, which share out the Local loops in it.
//
//   global b 64
//     sum dot f32[16, 16, 4, 4]              each thread has the [4, 4] elements of its own i, j
//     loop r 32
//       shared p f32[8, 64] pad 4            all threads see it
//       local t 256                          what a thread does is here serial, and known by its number:
//         unroll v 2                         t = 0 .. 255
//           p[..] = a[..]
//       local i 16                           i = number / 16 % 16
//         local j 16                         j = number % 16
//           ..                               sum[i, j, ..] <- p[..], ..
//
// As in all trees the order is that of the text; the threads keep to it by barriers, which a renderer puts between a statement
// that writes and one that reads or writes the same place: nothing in a tree says barrier.
#pragma once
#include <string>
#include <vector>

#include "codegen/tree/tree.h"
#include "graph/node_map.h"

namespace kontor {

/// A matrix instruction: c[rows, columns] += a[rows, steps] b[steps, columns] by the threads of a warp, as the loops of
/// these extents (Matrix), in that order. A step is a pair of numbers of 16 bits, or one of 32.
struct MatrixRow {
  int64_t rows, columns, steps;
};
inline constexpr MatrixRow matrix_row = {16, 8, 8};

/// What dimensions of a place are to a thread.
struct Own {
  std::vector<bool>
      thread;  ///< of each dimension: whether its index is the thread's, who has one element of it
  int row = -1, column = -1;  ///< those of a matrix instruction's result, of which a thread has 4 elements
};

struct Groups {
  int64_t threads = 1;       ///< of a group; 1 where there are no Local loops
  NodeMap<int64_t> strides;  ///< of a Local loop's range: a thread runs iteration number / stride % extent
  NodeMap<int64_t> spread;   ///< of a Local or Matrix loop that stands in none: how many threads run it
  NodeMap<Own> own;          ///< places of which each thread has elements of its own
  std::string mistake;       ///< why threads cannot run it; "" if they can
};
Groups groups_of(const Node& kernel);

namespace tree {
/// Threads that run an iteration of the Global loop: 1 where there are no Local loops.
int64_t group_threads(const Node& kernel);
bool is_shared_out(const Node& loop);  ///< a Local or Matrix loop
}  // namespace tree
}  // namespace kontor
