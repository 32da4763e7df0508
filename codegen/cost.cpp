// The estimates of cost.h that take more than a line.
#include "codegen/cost.h"

#include <algorithm>
#include <bit>

namespace kontor::cost {

// ---- How many

double iterations(std::span<const Ref> ranges, int64_t varying) {
  double n = 1;
  for (const Ref& r : ranges) {
    const Ref& e = r->src[0];
    n *= static_cast<double>(e->is_const() ? extent(e) : std::min(e->bounds.hi, varying));
  }
  return n;
}

double elements(std::span<const Ref> dims) {
  double n = 1;
  for (const Ref& d : dims) n *= static_cast<double>(std::max<int64_t>(d->bounds.hi, 1));
  return n;
}

double most_bytes(DType dtype, std::span<const Ref> dims) {
  return static_cast<double>(item_size(dtype)) * elements(dims);
}

int64_t rounded(double bytes) { return std::llround(std::min(bytes, static_cast<double>(beyond_memory))); }

int64_t lanes(int64_t item_bytes, const Target& target) {
  return std::max<int64_t>(1, target.vector_bytes / item_bytes);
}

// ---- Time

double operations(Op op) {
  if (op == Op::Div || op == Op::Sqrt || op == Op::IDiv || op == Op::Mod) return 4;
  return is_elementwise(op) ? 1 : 0;
}

bool tile_divides(int64_t rows, int64_t columns, int64_t steps) {
  return rows % group_sides.back() == 0 && columns % group_sides.back() == 0 &&
         steps % scalar_steps.back() == 0;
}

bool computed_for_each_tile(const Ref& value) {
  double sum = 0;
  for (const Node* n : topological(std::span(&value, 1)))
    if (n->dtype != DType::I64) sum += operations(n->op);
  return sum < dear;
}

bool pays_to_store_repeated(double operations, double times) { return operations >= 60 && times >= 8; }

double work(double iterations, std::span<const Ref> values) {
  return iterations * (1 + 0.25 * static_cast<double>(std::min<size_t>(topological(values).size(), 400)));
}

bool too_few_to_share(double outer, double iterations) { return outer < 8 && iterations > 1 << 18; }

int64_t room_in_loop(bool random, const Target& target) {
  return random ? target.place_bytes : std::min<int64_t>(64 << 10, target.place_bytes);
}

// ---- Vectors

double gain_of_lanes(int64_t apart) {
  if (apart == 2) return 0.5;  // two loads and a shuffle, and half is used
  return apart == 1 ? 2 : apart == 0 ? 0.5 : apart == irregular ? -1 : -2;
}

double score_of_lanes(double gain, double n, double width) {
  if (gain <= 0) return gain - 1;
  return n <= 1 ? 0 : (gain + 0.25) * filled(n, width);  // a little of the length, where nothing is read
}

double share_of_repacked(bool panel, double elements, double width, double products) {
  return panel ? 0.98 : 0.95 / (1 + 3 * elements * width / products);
}

namespace {

/// What runs in vector registers of some values: operations on floats, and on the 32-bit words of random numbers.
struct Vectors {
  size_t operations = 0;  // loads and constants too
  int64_t bytes = 0;      // of what most of them compute: few bytes are made of many (bytes of random words)
  bool in_pairs = false;  // of lanes, which share what is computed (the two words of a random block)

  Vectors(std::span<const Ref> values, DType stored) {
    size_t of_four = 0, of_eight = 0;
    for (const Node* n : topological(values)) {
      in_pairs = in_pairs || (n->op == Op::IDiv && is_int(n->src[1], 2));
      if (!is_float(n->dtype) && n->dtype != DType::U32) continue;
      operations++;
      if (is_elementwise(n->op)) (item_size(n->dtype) == 8 ? of_eight : of_four)++;
    }
    bytes = of_eight > of_four ? 8 : of_four > 0 ? 4 : item_size(stored);
  }
};

}  // namespace

// 24 and 80 operations: chosen. The bytes of what most compute: 0d5a1ae, 3.5 % less to compile.
int64_t lanes_of_map(std::span<const Ref> values, DType stored, const Target& target) {
  const Vectors v(values, stored);
  const bool few = v.operations <= 24;
  const int64_t vectors = few ? 4 : v.operations <= 80 || v.in_pairs ? 2 : 1;
  const int64_t bytes = few ? item_size(stored) : std::max<int64_t>(item_size(stored), v.bytes);
  return std::min(most_lanes, lanes(bytes, target) * vectors);
}

// ---- Dots

// As many vectors as registers allow, of which an eighth at most is wasted; else those that waste least.
static int64_t vectors_of_tile(int64_t needed, int64_t registers) {
  int64_t best = 1, least_waste = INT64_MAX;
  for (int64_t v = registers < 32 ? widest_tile - 1 : widest_tile; v >= 1; v--) {
    if (v > needed) continue;
    const int64_t waste = (needed + v - 1) / v * v - needed;
    const int64_t counted = waste * 8 <= needed ? 0 : waste;
    if (counted < least_waste) least_waste = counted, best = v;
  }
  return best;
}

Tile tile_of(int64_t length, int64_t width, int64_t rows, bool rows_share_ways, int64_t registers) {
  const int64_t vectors = vectors_of_tile((length + width - 1) / width, registers);
  // 00ad52e: of rows that share ways 8, conv3 w.r.t. x 133 -> 191 GFLOP/s. 14: chosen.
  const int64_t most = std::min<int64_t>((registers - vectors - 1) / vectors, rows_share_ways ? 8 : 14);
  const int64_t tiles = (rows + most - 1) / most;
  const int64_t even =
      (rows + tiles - 1) / tiles;  // tiles of about one size, so that the last is not a sliver
  // Smaller where they then divide: no second body for the last tile. Of 64 rows or fewer that is most of the text. 3892636: the
  // MNIST step on two threads 76-82 -> 55-59 ms. 0d5a1ae: of more rows 3.5 % less to compile.
  const int64_t least = std::max<int64_t>(rows <= 64 ? even * 2 / 3 : even * 7 / 8, 1);
  for (int64_t fewer = even; fewer >= least; fewer--)
    if (rows % fewer == 0) return {vectors, fewer};
  return {vectors, even};
}

static constexpr int64_t panel_steps = 64;  // of a fold: below it a panel is filled for too few products

bool pays_panel(int64_t times, int64_t apart, int64_t steps) {
  return times >= 4 && apart >= 1024 && steps >= panel_steps;
}

bool pays_turned_rows(int64_t length, int64_t apart, int64_t steps) {
  return length >= 256 && apart >= 4096 && steps >= panel_steps;
}

bool pays_to_fill_panel(int64_t steps, int64_t rows, int64_t length, int64_t width, int64_t item_bytes,
                        const Target& target) {
  return steps >= panel_steps && rows >= 64 && length >= 8 * width &&
         steps * widest_tile * width * item_bytes <= target.place_bytes;
}

// ---- Folds and scans across rows

int64_t rows_in_lanes(double bytes, int64_t item_bytes, int64_t lanes) {
  const int64_t in_line = line_bytes / item_bytes;
  return bytes >= past_caches_bytes && in_line <= lanes ? in_line : std::min<int64_t>(8, lanes);
}

int64_t block_of_row(int64_t n, bool shared) {
  if (!shared) return 4096;
  return std::min<int64_t>(1024, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n / 2))));
}

// ---- Sorts

int64_t sorted_block(int64_t length) {
  const auto share = std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(length / 256, 1)));
  return std::max<int64_t>(static_cast<int64_t>(share), 8 << digit_bits);
}

// ---- GPUs

bool too_few_items(double items, double iterations) { return items < 1 << 14 && iterations > 1 << 13; }

}  // namespace kontor::cost
