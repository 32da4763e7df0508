// The trees that sort rows of codes by some of their bits: a counting sort by one digit, which passes from the lowest digit to
// the highest make a radix sort of (Knuth, The Art of Computer Programming 3, section 5.2.5), and one for short rows.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "codegen/tree/tree.h"

namespace kontor {

/// Rows of unsigned codes, and the bits that they are sorted by. A long row is cut into blocks, which are counted and moved side
/// by side; where an element comes to stand depends on neither.
struct SortedRows {
  Ref rows, length;                                       ///< how many rows, and elements of each
  Ref blocks;                                             ///< of a row
  int64_t block = 0;                                      ///< elements of a block, but the last
  int64_t lowest = 0;                                     ///< bit of the digit
  int64_t bits = 0;                                       ///< of it
  DType counter = DType::I32;                             ///< which holds the length of a row
  std::string suffix;                                     ///< of the names of loops and places
  std::function<Ref(const Ref& row, const Ref& i)> read;  ///< a code
  std::function<Ref(const Ref& row, const Ref& i, const Ref& value)>
      store;  ///< the statement that stores one

  int64_t digits() const { return int64_t{1} << bits; }
};

/// counts [rows, blocks, digits]: how often each block has each digit.
std::vector<Ref> count_tree(const SortedRows& by, const Ref& counts);
/// before [rows, blocks + 1, digits]: how often the blocks before each have the digit; behind the last, how often all have it.
std::vector<Ref> before_tree(const SortedRows& by, const Ref& counts, const Ref& before);
/// Stores the codes by their digit, those of one digit as they come.
std::vector<Ref> move_tree(const SortedRows& by, const Ref& before);
/// Stores the codes by all their bits: where one comes to stand is how many come before it, counted one by one.
std::vector<Ref> short_tree(const SortedRows& by);

}  // namespace kontor
