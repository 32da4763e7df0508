// The cost model: the numbers by which passes choose, and the estimates that they hold against them. A pass asks here; it has
// no such number of its own. Estimates are rough, quick and the same in each run. None changes a bit of a result.
//
// Each number has its unit in brackets and where it comes from: a measurement (a commit that has it, or bench/RESULTS.md, "The
// cost model"), or "chosen", where nobody measured. Time is in operations, of which a core of a Zen 5 does 40 to 90 in a
// nanosecond, where they run in vectors and memory is near.
#pragma once
#include <array>
#include <cmath>

#include "codegen/target.h"
#include "codegen/tree/tree.h"

namespace kontor::cost {

// ---- How many: iterations, elements, bytes, lanes

/// [iterations] that a loop is taken for whose extent varies, if its bound is not less. Chosen: a batch, the length of a text.
/// Of a piece of a cut chain, which has 4,096 steps, it is too few. With as many, streams over such folds have smaller pieces:
/// one program then takes 1.4 times as long, another half as long.
inline constexpr int64_t usual_extent = 1024;
/// Iterations of a nest of these loops, each of which has so many at most where its extent varies.
double iterations(std::span<const Ref> ranges, int64_t varying = usual_extent);
/// Elements of a place of these dimensions, at most where they vary; an empty dimension counts as one element.
double elements(std::span<const Ref> dims);
/// Bytes of such a place.
double most_bytes(DType dtype, std::span<const Ref> dims);
/// [bytes] that no machine has, and of which sums fit.
inline constexpr int64_t beyond_memory = int64_t{1} << 50;
/// So many bytes, up to these.
int64_t rounded(double bytes);

/// Elements of so many bytes in a vector register.
int64_t lanes(int64_t item_bytes, const Target& target);
inline int64_t lanes(DType dtype, const Target& target) { return lanes(item_size(dtype), target); }
/// The share of the lanes that a loop of n iterations fills.
inline double filled(double n, double width) { return n / (std::ceil(n / width) * width); }

// ---- Time: operations of values, work of nests, launches

/// [operations] of one node of a graph: 4 of a division or a root (chosen: a vector of them takes some 10 cycles, of products
/// one), none of views and leaves.
double operations(Op op);
/// [operations] from which on a value that two stages read is stored: what storing and loading it costs. With 3 a step of
/// block-star takes 1.25 times as long, with 24 as long; the MNIST step and V2 do not tell them apart.
inline constexpr double dear = 8;
/// Whether a value that is repeated is computed once for each of its own elements and stored: 60 operations and 8 times.
/// Chosen: what has an exponential or a random draw is above it.
bool pays_to_store_repeated(double operations, double times);
/// Whether some tile divides a product of so many rows, columns and steps.
bool tile_divides(int64_t rows, int64_t columns, int64_t steps);
/// Whether an operand of a dot is so little work that each tile of a GPU computes it anew: less than storing it. Chosen.
bool computed_for_each_tile(const Ref& value);
/// [times] that a dot reads an element of a value, above which that is stored. Chosen: a copy is a write and a read.
inline constexpr double dot_reads = 2;

/// [operations] that a nest of so many iterations takes: one for each, and a quarter for each node of the values, since indexes
/// and constants are nodes too. Of 400 nodes at most: chosen.
double work(double iterations, std::span<const Ref> values);
/// [operations] that a launch costs. Chosen: 2 us of a CPU. A small one takes 0.09 (replay_64, one thread); one that is shared
/// out wakes threads and waits for the last, and finds less in the caches.
inline constexpr double launch = 1 << 17;
/// The time of a dot that is cut into pieces along its vectors, over its time whole. Each halving adds a quarter, since what is
/// loaded for all columns is loaded for each half. Chosen.
inline double dot_in_pieces(double pieces) { return 1 + 0.25 * std::log2(pieces); }
/// [rows] whose products take as long as filling the panel that they read: scores of 16 rows of f32[8, 1024, 64] take 215 us, of which
/// 140 fill the panel (Zen 5).
inline constexpr double panel_rows = 28;
/// The time of a dot of which `some` rows run at a time, over that of `all` rows at once: each time its panel is filled anew.
inline double dot_by_rows(double some, double all) {
  return (1 + panel_rows / some) / (1 + panel_rows / all);
}

// ---- Threads

/// Whether a kernel of so much work is shared out: from 2^16 operations on, 1 to 1.5 us, where to wake a thread takes 0.1 to 0.5.
inline bool pays_threads(double work) { return work >= 1 << 16; }
/// Whether threads that take turns at so many shares end at about the same time: 4 for each. Chosen: what one may wait for the
/// last is a fifth of the whole.
inline bool enough_shares(int64_t shares, const Target& target) { return shares >= 4 * target.threads; }
/// [shares] of a loop of which each first computes something of its own: 2 a thread. Chosen: half of that is computed anew.
inline int64_t shares_with_own(const Target& target) { return 2 * target.threads; }
/// Whether a nest of so many iterations is too much for an outer loop of so few: 2^18 and 8, for any number of threads. Chosen.
/// Of a fold in lanes they are those of one lane. With all of them softmax of f32[7,100000] takes 5 % longer on one thread,
/// layer_norm of f32[4,100000] 20 %.
bool too_few_to_share(double outer, double iterations);
/// [elements] of a map that one share takes: f32 of them fill L1 or a little more. Chosen.
inline constexpr int64_t map_share = 1 << 14;

// ---- Room: registers, caches, memory

/// [bytes] of a stage that an iteration of the loops which it shares may keep: 64 KiB. It matters little: softmax of 16 M f32 in
/// rows of 24 to 400 KB takes as long with 16 and 256 KiB, within 8 %. Random numbers, which are never stored, may fill a share.
int64_t room_in_loop(bool random, const Target& target);
/// [bytes] of temporaries between kernels that stay in the caches: two L2s a thread. 74ee6c7: conv1 w.r.t. w 0.755 -> 0.62 ms.
inline int64_t cached_bytes(const Target& target) { return 2 * target.l2 * target.threads; }
/// [bytes] that a piece of a block may keep: a core's share of the last cache, about 8 of its L2 on a Zen. Chosen.
inline int64_t block_bytes(const Target& target) { return 8 * target.l2; }
/// [share of the work] that a memory budget may cost which nobody asked for. Chosen. 6b5f280: 3 steps of V2 2.55 -> 2.23 s.
inline constexpr double budget_extra = 0.1;
/// [share of the work] that pieces may cost which stay in the caches. Chosen, with cached_bytes().
inline constexpr double caches_extra = 0.03;
/// [bytes] that a kernel at an end of a stream hands on at least, or it is left out. Chosen: 128 KiB of the usual budget.
inline int64_t little_memory(const Target& target) { return target.memory_budget / 256; }

/// Whether lines that lie so many bytes apart share the ways of an L1 set, of which there are 8 to 12.
inline bool share_ways(int64_t apart) { return apart != 0 && apart % 4096 == 0; }
/// [elements] from which on lanes are in lines of their own, which hold the next iterations of another loop: a line of f32.
inline constexpr int64_t line = 16;
/// [lanes] of a square block that is turned in registers: it has as many rows, and a CPU has 32 registers.
inline constexpr int64_t turned_lanes = 16;

// ---- Length of kernels: what compilers and recursive passes take

/// [nodes] one after another from which on an expression is cut by storing a value: lowering, text and renderers are recursive
/// over it. The longest that is not cut is a normal draw (ten rounds of Threefry, log, sine).
inline constexpr int longest_path = 512;
/// [nodes] of an expression together. 2292b65: without it 3,000 tanh with their gradient took minutes to compile.
inline constexpr double most_nodes = 2048;
/// [nodes] of a kernel's expressions above which no stage joins it: compilers take longer than in proportion. A value that is in
/// memory anyway, for other kernels, saves its reader one load by joining, and short kernels are found again more often.
/// fa3726b: 1,000 tanh with their gradient 2.2 -> 0.9 s.
inline size_t kernel_nodes(bool in_memory_anyway) { return in_memory_anyway ? 512 : 4096; }
/// [loads] of a kernel above which nothing joins it. edd536e: cat of 3,000 tensors in one kernel took 14 s to compile.
inline constexpr size_t kernel_loads = 256;

// ---- Time of scheduling

/// [kernels] behind one that it is compared with, to merge those side by side. Chosen: all pairs are more than linear time.
inline constexpr size_t siblings = 64;
/// [divisors] of an axis that are tried, from 1 on, for pieces that divide it: all of what is shorter than 2^32. Chosen.
inline constexpr int64_t divisors = 1 << 16;
/// [places] at the peak, the largest first, along which streams are tried: each is a plan of the whole program. Chosen.
inline constexpr size_t streamed_along = 6;

// ---- Vectors: along which loop, and how many side by side

/// [elements] between what consecutive iterations read: by no one distance, and any above 2.
inline constexpr int64_t irregular = INT64_MAX, far_apart = 3;
/// What vectors gain by running along a loop in which a value lies so far apart: the loads that one saves, less what is
/// gathered. Chosen.
double gain_of_lanes(int64_t apart);
/// The same of all that a nest reads and writes, if the loop has n iterations: short ones fill a vector badly.
double score_of_lanes(double gain, double n, double width);
/// How good it is for a dot to run in lanes along a loop of n iterations: 1 where all lanes are filled. Of two that are, the
/// longer one, up to 64. Chosen.
inline double score_of_dot(double n, double width) {
  return filled(n, width) + 0.05 * std::min(n, 64.0) / 64;
}
/// What is left of that where the operand with the lanes lies otherwise: it is read in a panel, which costs next to nothing, or
/// copied, at three vectors of products an element. 1329e2a: matmul 1024 a b^T 155 -> 245 GFLOP/s.
double share_of_repacked(bool panel, double elements, double width, double products);
/// .. and where the lanes are not along the result's rows. An output is then scattered over them, in the time of 24 steps.
/// 1329e2a: conv1 to NCHW 107 -> 164 GFLOP/s.
inline double share_of_scattered(bool output, double steps) { return 0.97 / (output ? 1 + 24 / steps : 1); }

/// [iterations] from which on a loop gets lanes. Chosen.
inline constexpr int64_t least_lanes = 4;
/// Lanes for a map or a row that is stored as `stored`: several registers' worth where its values are few operations, so that
/// their latencies overlap; where they are many, one of what most operations are on.
int64_t lanes_of_map(std::span<const Ref> values, DType stored, const Target& target);
/// Lanes along a loop of n iterations that all of a kernel's stages share: two vectors side by side if it has them.
inline int64_t lanes_of_row(int64_t width, int64_t n) {
  return 2 * width <= std::min(n, most_lanes) ? 2 * width : width;
}

// ---- Dots: register tiles and panels

/// [rows] of a register tile from which on one loop is as good as another. Chosen: nearly what a tile has.
inline constexpr int64_t enough_rows = 12;
/// [vectors] of the widest register tile.
inline constexpr int64_t widest_tile = 4;
struct Tile {
  int64_t vectors, rows;
};
/// The tile of a dot that is `length` long along its vectors of `width` lanes, and has `rows`: as large as registers hold its
/// sums, a row of vectors and what is broadcast; of few wasted vectors; of rows that divide.
Tile tile_of(int64_t length, int64_t width, int64_t rows, bool rows_share_ways, int64_t registers);
/// Whether a packed panel pays of an operand whose rows lie so many bytes apart and are read so many times, in a fold of
/// `steps`: from 1 KiB, 4 and 64 on. Chosen. A matmul of 1,024 thrashes L2 by its stride without one.
bool pays_panel(int64_t times, int64_t apart, int64_t steps);
/// Whether a copy pays of rows of a tile that lie side by side while steps lie so many bytes apart, for a dot so long along its
/// vectors.
bool pays_turned_rows(int64_t length, int64_t apart, int64_t steps);
/// Whether one pays, and has room, that is filled with what lies otherwise or is computed: from 64 steps, 64 rows and a length
/// of 8 vectors on. Chosen. 1329e2a: matmul 1024 a b^T 155 -> 245 GFLOP/s.
bool pays_to_fill_panel(int64_t steps, int64_t rows, int64_t length, int64_t width, int64_t item_bytes,
                        const Target& target);

// ---- Folds and scans across rows, scans along memory

/// [share] of what is alive at most that another order of the kernels leaves at most: an order that frees little may part what a cache held
/// (block-star: 758 -> 756 MB, 134 -> 165 ms; attention's gradient of 16,384 queries: 1,262 -> 440 MB).
inline constexpr double order_worth = 0.75;
/// [rows] of a scan along memory that take turns and [steps] of each turn: a step waits for the one before. As many rows are
/// read as are written, and 8 lines share the ways of an L1 set.
inline constexpr int64_t rows_in_turn = 4, steps_in_turn = 4;
/// [rows] of a scan in the lanes of a vector, its result so many bytes large: 8 (68351cb: 64 M floats 34 ms; with 4 rows 35,
/// with 16 47, in turn 37 on a Zen 4), or, where the result goes past the caches, as many as make the rows of a block lines
/// (27.7 -> 20.9 ms on a Zen 5).
int64_t rows_in_lanes(double bytes, int64_t item_bytes, int64_t lanes);
/// Whether rows of so many bytes take their steps a block of a row at a time: from a page on. f8f3a91: cumsum of
/// f32[65536,1024] along axis 0 124 -> 41 ms.
inline bool pays_row_blocks(int64_t bytes) { return bytes >= 4096; }
/// [elements] of such a block of n: what L1 holds beside what is read; where threads share blocks out at least two. Chosen.
int64_t block_of_row(int64_t n, bool shared);

// ---- GPUs

/// Whether so many work items leave a GPU idle for longer than a launch takes (5 us): fewer than 132 multiprocessors x 128
/// threads, unless no stage has more than 2^13 iterations. 72f1687: the MNIST step 229 -> 2.6 ms (H100), with tiles and lanes.
bool too_few_items(double items, double iterations);
/// [groups] that leave the whole GPU work: nearly two for each of 132 multiprocessors.
inline constexpr double enough_groups = 240;
/// [elements] of a dot's result that a group of threads has, whose operands go through shared memory: the first that divides
/// the result and leaves enough_groups; else the last that divides it. Chosen.
struct GroupTile {
  int64_t rows, columns;
  double groups = enough_groups;  // that leave the whole GPU work
  int64_t ahead = 0;              // [iterations] that panels are filled ahead
};
inline constexpr std::array<GroupTile, 9> group_tiles = {
    {{128, 128}, {128, 64}, {64, 128}, {64, 64}, {32, 128}, {128, 32}, {64, 32}, {32, 64}, {32, 32}}};
/// The same of matrices in shared memory: with 64 pairs at once panels of 128 x 256 take 213 KB, of 128 x 128 105 KB.
inline constexpr std::array<GroupTile, 5> shared_matrix_tiles = {
    {{128, 256, 384, 3}, {128, 128, 240, 2}, {64, 128, 240, 3}, {128, 64, 240, 3}, {64, 64, 240, 3}}};
/// [elements] that a side of a tile may have.
inline constexpr std::array<int64_t, 3> group_sides = {128, 64, 32};
/// [warps] of a group side by side along such a side, where matrix instructions compute the tile: of 64 elements, or 32. Chosen.
inline int64_t warps_along(int64_t side) { return side >= 64 ? 2 : 1; }
/// [elements] side by side that a thread reads into a panel of words: 16 bytes of words, or of what makes eight of them.
inline constexpr int64_t words_at_once = 4, pairs_at_once = 8;
/// [steps] of a fold whose operands are in shared memory at once, the first that divides it. Products of 2048, H100: f32 43.0
/// TFLOP/s with 8, read ahead, 41.1 with 16 so, 39.4 with 16 and not ahead; pairs of bf16 193 with 32, 171 with 16; at 8192 292
/// and 226, and 181 with 16 ahead (2026-11-28).
inline constexpr std::array<int64_t, 2> scalar_steps = {16, 8};
inline constexpr std::array<int64_t, 3> matrix_steps = {32, 16, 8};
/// Whether a tile reads ahead, and so few steps that its registers leave room for two groups: the largest alone (128 x 64: 481 us
/// not ahead, 492 ahead).
inline bool reads_ahead(int64_t rows, int64_t columns) { return rows * columns >= 128 * 128; }
/// [threads] along each side of a tile that is that large, each of 4 or 8 rows or columns. Chosen.
inline constexpr int64_t group_threads = 16;
/// [elements] of a dot that a thread has at most, one above the other and side by side. 72f1687: matmul_1024 0.478 -> 0.220 ms.
inline constexpr int64_t thread_rows = 8, thread_columns = 4;
/// Whether a thread may have so many of them: 2^15 work items are left, two for each that too_few_items() counts. Chosen.
inline bool leaves_items(double items, int64_t count) {
  return items / static_cast<double>(count) >= 1 << 15;
}
/// [bytes] of a row that a warp keeps in registers, 128 of each thread's 255. Chosen.
inline constexpr double row_of_warp = 16 << 10;
/// [elements] of a map that a thread has, if the map is so large: its loads are under way together. exp of 64 M 0.340 -> 0.201 ms.
inline constexpr int64_t in_flight = 4, large_map = int64_t{1} << 20;

// ---- Sorts

/// [bits] of a digit: its 256 counters are 1 KiB, and as many places are written to by turns. Chosen.
inline constexpr int64_t digit_bits = 8;
/// [elements] of a row in which each is compared with all, at 1.2 ns a pair; passes over 256 counters take 12 us (Zen 5, 2026-11-28).
inline constexpr int64_t short_row = 96;
/// [elements] of a row (0: it varies) that are counted and moved by one thread: eight for each counter, and of a long row a 256th.
int64_t sorted_block(int64_t length);

}  // namespace kontor::cost
