// See sort_trees.h. Of u64[3, 100000] in blocks of 4096, by the digit of bits 32 .. 39:
//
//   loop t 75                                        loop t 75
//     tally sum i32[256]                               at sum i32[256]
//     loop i 4096                                      so_far sum i32
//       tally[(x[..] >> 32) & 255] <- 1                loop d 256
//     loop d 256                                         at[d] <- so_far + before[.., d]
//       counts[t / 25, t % 25, d] = tally[d]             so_far <- before[.., 25, d]
//                                                      loop i 4096
//                                                        y[.., at[(x[..] >> 32) & 255]] = x[..]
//                                                        at[(x[..] >> 32) & 255] <- 1
#include "codegen/stages/sort_trees.h"

#include "graph/index/index.h"

namespace kontor {

namespace {

constexpr int sum = static_cast<int>(Fold::Sum);

Ref as_index(const Ref& value) { return make(Op::Cast, {value}, {}, DType::I64); }
Ref plus(const Ref& a, const Ref& b) { return make(Op::Add, {a, b}); }
Ref loop(const Ref& range, std::vector<Ref> body) {
  return tree::loop(LoopKind::Loop, range, std::move(body));
}

/// Of a code, the bits that are sorted by.
Ref sorted_bits(const SortedRows& by, const Ref& code) {
  const auto number = [&](int64_t n) { return constant(code->dtype, n); };
  const Ref low = by.lowest ? make(Op::Shr, {code, number(by.lowest)}) : code;
  return by.bits == row(code->dtype).bits ? low : make(Op::And, {low, number((int64_t{1} << by.bits) - 1)});
}
Ref digit(const SortedRows& by, const Ref& code) { return as_index(sorted_bits(by, code)); }

/// A count as a position of the row: nothing is stored beyond it, whatever stands in memory.
Ref position(const SortedRows& by, const Ref& count) {
  return ix::max(index(0), ix::min(as_index(count), ix::sub(by.length, 1)));
}

/// A block, and its elements.
struct Block {
  Ref t, row, number, i, at;
  explicit Block(const SortedRows& by)
      : t(ix::range(ix::mul(by.rows, by.blocks), "t" + by.suffix)),
        row(ix::idiv(t, by.blocks)),
        number(ix::mod(t, by.blocks)) {
    const Ref begin = ix::mul(number, by.block);
    i = ix::range(ix::min(index(by.block), ix::sub(by.length, begin)), "i" + by.suffix);
    at = ix::add(begin, i);
  }
};

}  // namespace

std::vector<Ref> count_tree(const SortedRows& by, const Ref& counts) {
  const Block b(by);
  const Ref tally = tree::place(by.counter, {index(by.digits())}, "tally" + by.suffix, sum);
  const Ref d = ix::range(by.digits(), "d" + by.suffix);
  const Ref step = tree::fold(tally, {digit(by, by.read(b.row, b.at))}, {constant(by.counter, int64_t{1})});
  const Ref keep = tree::store(counts, {b.row, b.number, d}, tree::load(tally, {d}));
  return {loop(b.t, {tally, loop(b.i, {step}), loop(d, {keep})})};
}

std::vector<Ref> before_tree(const SortedRows& by, const Ref& counts, const Ref& before) {
  const Ref t = ix::range(ix::mul(by.rows, by.digits()), "t" + by.suffix);
  const Ref row = ix::idiv(t, by.digits()), d = ix::mod(t, by.digits());
  const Ref b = ix::range(by.blocks, "b" + by.suffix),
            so_far = tree::place(by.counter, {}, "so_far" + by.suffix, sum);
  return {loop(t, {so_far,
                   loop(b, {tree::store(before, {row, b, d}, tree::load(so_far, {})),
                            tree::fold(so_far, {}, {tree::load(counts, {row, b, d})})}),
                   tree::store(before, {row, by.blocks, d}, tree::load(so_far, {}))})};
}

std::vector<Ref> move_tree(const SortedRows& by, const Ref& before) {
  const Block b(by);
  const Ref at = tree::place(by.counter, {index(by.digits())}, "at" + by.suffix, sum);
  const Ref so_far = tree::place(by.counter, {}, "so_far" + by.suffix, sum);
  const Ref d = ix::range(by.digits(), "d" + by.suffix);
  const Ref begin = plus(tree::load(so_far, {}), tree::load(before, {b.row, b.number, d}));
  const Ref code = by.read(b.row, b.at), which = digit(by, code);
  return {loop(b.t, {at, so_far,
                     loop(d, {tree::fold(at, {d}, {begin}),
                              tree::fold(so_far, {}, {tree::load(before, {b.row, by.blocks, d})})}),
                     loop(b.i, {by.store(b.row, position(by, tree::load(at, {which})), code),
                                tree::fold(at, {which}, {constant(by.counter, int64_t{1})})})})};
}

std::vector<Ref> short_tree(const SortedRows& by) {
  const Ref t = ix::range(by.rows, "t" + by.suffix), i = ix::range(by.length, "i" + by.suffix),
            j = ix::range(by.length, "j" + by.suffix);
  const Ref rank = tree::place(DType::I32, {}, "rank" + by.suffix, sum);
  const Ref code = by.read(t, i), own = sorted_bits(by, code), other = sorted_bits(by, by.read(t, j));
  const Ref equal = make(Op::And, {make(Op::Eq, {other, own}), ix::lt(j, i)});
  const Ref comes_before = make(Op::Or, {make(Op::Lt, {other, own}), equal});
  const Ref step = tree::fold(rank, {}, {make(Op::Cast, {comes_before}, {}, DType::I32)});
  return {loop(t, {loop(i, {rank, loop(j, {step}), by.store(t, position(by, tree::load(rank, {})), code)})})};
}

}  // namespace kontor
