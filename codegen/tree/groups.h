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

/// What dimensions of a place are to a thread.
struct Own {
  std::vector<bool>
      thread;  ///< of each dimension: whether its index is the thread's, who has one element of it
  int row = -1, column = -1;  ///< those of a matrix instruction's result, of which a thread has 4 elements
};

/// A matrix instruction: c[rows, columns] += a[rows, steps] b[steps, columns] by so many threads, as the loops of these extents
/// (Matrix), in that order. A step is a pair of numbers of 16 bits. Of the result each thread has 4 elements of 16 x 8, which are
/// a warp's: 16 rows after another are the next warp's, 8 columns the same one's.
struct MatrixRow {
  int64_t rows, columns, steps, threads;
  bool reads_shared;  ///< operands lie in shared memory as the numbers they are, in blocks of 8 x 8
  int64_t elements() const { return rows * columns / threads; }  ///< of the result, of each thread
};
inline constexpr MatrixRow matrix_rows[] = {{16, 8, 8, 32, false},     // mma.m16n8k16
                                            {64, 64, 8, 128, true},    // wgmma.m64n64k16 and its like
                                            {64, 128, 8, 128, true},   //
                                            {64, 256, 8, 128, true}};  //
inline constexpr const MatrixRow& warp_matrix = matrix_rows[0];
/// Of instructions that read shared memory: rows, and numbers along each side of the blocks in which their operands lie.
inline constexpr int64_t shared_matrix_rows = matrix_rows[1].rows, shared_matrix_block = 8;
/// The row of an instruction with so many rows and columns (0: any); null if there is none.
const MatrixRow* matrix_row(int64_t rows, int64_t columns = 0);
/// The same of the place of a result.
const MatrixRow& matrix_row(const Node& place, const Own& own);

struct Groups {
  int64_t threads = 1;       ///< of a group; 1 where there are no Local loops
  int64_t shared_bytes = 0;  ///< of its shared places
  NodeMap<int64_t> strides;  ///< of a Local loop's range: a thread runs iteration number / stride % extent
  NodeMap<int64_t> spread;   ///< of a Local or Matrix loop that stands in none: how many threads run it
  NodeMap<Own> own;          ///< places of which each thread has elements of its own
  std::string mistake;       ///< why threads cannot run it; "" if they can
};
Groups groups_of(const Node& kernel);
/// Bytes that a shared place takes: whole lines of 128.
int64_t shared_bytes(const Node& place);

namespace tree {
/// Threads that run an iteration of the Global loop: 1 where there are no Local loops.
int64_t group_threads(const Node& kernel);
bool is_shared_out(const Node& loop);  ///< a Local or Matrix loop
}  // namespace tree
}  // namespace kontor
