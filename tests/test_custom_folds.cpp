// [folds] Folds of a program's own against loops over their elements, on all devices, for any number of threads; what is refused; that
// no kernel of another definition is found under the same name.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <thread>

#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "graph/folds.h"
#include "graph/graph.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "runtime/inspect.h"
#include "runtime/kernels.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/every_way.h"
#include "tests/on_device.h"
#include "tests/thinned.h"

#include <kontor/kontor.h>

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

using Span = std::span<const Tensor>;
using Numbers = std::vector<double>;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr uint32_t modulus_base = 2654435761u;

/// How an array is folded, and where the elements of each result stand in it, in the order in which they are folded.
struct Layout {
  std::string name;
  std::vector<int64_t> shape, axes;

  std::vector<std::vector<size_t>> chains() const {
    std::vector<std::vector<size_t>> out(static_cast<size_t>(kept()));
    int64_t elements = 1;
    for (int64_t d : shape) elements *= d;
    for (int64_t i = 0; i < elements; i++) {
      int64_t rest = i, chain = 0, stride = 1;
      for (size_t a = shape.size(); a-- > 0; rest /= shape[a]) {
        if (std::ranges::find(axes, static_cast<int64_t>(a)) != axes.end()) continue;
        chain += rest % shape[a] * stride;
        stride *= shape[a];
      }
      out[static_cast<size_t>(chain)].push_back(static_cast<size_t>(i));
    }
    return out;
  }
  int64_t kept() const {
    int64_t n = 1;
    for (size_t a = 0; a < shape.size(); a++)
      if (std::ranges::find(axes, static_cast<int64_t>(a)) == axes.end()) n *= shape[a];
    return n;
  }
};

std::vector<Layout> layouts(int64_t n) {
  return {{"inner", {3, n}, {1}}, {"outer", {n, 70}, {0}}, {"several", {3, 5, n}, {0, 2}}, {"all", {n}, {0}}};
}

/// A fold, whole numbers to fold (their values are what `value` says), and what a chain of them comes to by a loop.
struct Case {
  CustomFold fold;
  std::vector<DType> dtypes;
  std::function<double(size_t which, size_t element)> value;
  std::function<Numbers(const std::vector<Numbers>& values, const std::vector<size_t>& chain)> loop;
  double tolerance = 0;
};

/// Numbers without a pattern, 0..99.
double noise(size_t i) { return static_cast<double>((i * 2654435761u >> 7) % 100); }

Tensor constant_bool(bool value) { return Tensor::full({}, value ? 1 : 0, DType::Bool); }

/// Also in another dtype than the values'.
Case product() {
  const auto times = [](Span s, Span v) { return std::vector{s[0] * v[0].cast(DType::U32)}; };
  return {{"product", {{"p", 1, DType::U32}}, times, times, true},
          {DType::I16},
          [](size_t, size_t i) { return 2 * noise(i) - 99; },
          [](const auto& x, const auto& chain) {
            uint32_t p = 1;
            for (size_t i : chain) p *= static_cast<uint32_t>(static_cast<int32_t>(x[0][i]));
            return Numbers{static_cast<double>(p)};
          }};
}

/// The greatest magnitude, and the first place that has it: the order counts.
Case furthest() {
  const FoldStep step = [](Span s, Span v) {
    const Tensor size = abs(v[0]), beyond = size > s[0];
    return std::vector{where(beyond, size, s[0]), where(beyond, v[1], s[1])};
  };
  return {{"furthest", {{"size", -1}, {"at", -1, DType::I32}}, step, step},
          {DType::F32, DType::I32},
          [](size_t which, size_t i) { return which ? static_cast<double>(i) : noise(i) - 50; },
          [](const auto& x, const auto& chain) {
            Numbers best{-1, -1};
            for (size_t i : chain)
              if (std::abs(x[0][i]) > best[0]) best = {std::abs(x[0][i]), static_cast<double>(i)};
            return best;
          }};
}

/// log of a sum of exp, as its greatest term and the sum of the others' distances from it.
Case log_sum() {
  const FoldStep step = [](Span s, Span v) {
    const Tensor most = maximum(s[0], v[0]);
    return std::vector{most, s[1] * exp(s[0] - most) + exp(v[0] - most)};
  };
  const FoldStep join = [](Span a, Span b) {
    const Tensor most = maximum(a[0], b[0]);
    const Tensor shift = where(most == -infinity, 0, most);
    return std::vector{most, a[1] * exp(a[0] - shift) + b[1] * exp(b[0] - shift)};
  };
  return {{"log_sum", {{"most", -infinity}, {"sum", 0}}, step, join, true},
          {DType::F32},
          [](size_t, size_t i) { return noise(i) / 9 - 4; },
          [](const auto& x, const auto& chain) {
            double most = -infinity, sum = 0;
            for (size_t i : chain) most = std::max(most, x[0][i]);
            for (size_t i : chain) sum += std::exp(x[0][i] - most);
            return Numbers{most, sum};
          },
          1e-4};
}

std::vector<Tensor> welford_step(Span s, Span v) {
  const Tensor n = s[0] + 1, apart = v[0] - s[1], mean = s[1] + apart / n;
  return {n, mean, s[2] + apart * (v[0] - mean)};
}

Case welford(bool joins) {
  const FoldStep join = [](Span a, Span b) {
    const Tensor n = a[0] + b[0], apart = b[1] - a[1], share = b[0] / maximum(n, 1);
    return std::vector{n, a[1] + apart * share, a[2] + b[2] + apart * apart * a[0] * share};
  };
  return {{"welford", {{"n", 0}, {"mean", 0}, {"m2", 0}}, welford_step, joins ? join : FoldStep(), joins},
          {DType::BF16},  // comes as f32
          [](size_t, size_t i) { return 100 + noise(i); },
          [](const auto& x, const auto& chain) {
            double n = static_cast<double>(chain.size()), mean = 0, squares = 0;
            for (size_t i : chain) mean += x[0][i] / n;
            for (size_t i : chain) squares += (x[0][i] - mean) * (x[0][i] - mean);
            return Numbers{n, mean, squares};
          },
          2e-4};
}

/// x -> a x + b, one after another, of whole numbers modulo 2^32: exact wherever the chain is cut, another number in any other order.
Case affine() {
  const FoldStep then = [](Span s, Span v) { return std::vector{s[0] * v[0], v[0] * s[1] + v[1]}; };
  return {{"affine", {{"a", 1}, {"b", 0}}, then, then},
          {DType::U32, DType::U32},
          [](size_t which, size_t i) { return noise(i + which) * 2 + 1; },
          [](const auto& x, const auto& chain) {
            uint32_t a = 1, b = 0;
            for (size_t i : chain) {
              a *= static_cast<uint32_t>(x[0][i]);
              b = static_cast<uint32_t>(x[0][i]) * b + static_cast<uint32_t>(x[1][i]);
            }
            return Numbers{static_cast<double>(a), static_cast<double>(b)};
          }};
}

/// No join: what comes of one chain alone, through operations that no machine has as they are.
Case chain_hash() {
  const FoldStep step = [](Span s, Span v) {
    const Tensor mixed = (s[0] ^ v[0].cast(DType::U32)) * modulus_base;
    return std::vector{mixed ^ (mixed >> 15), s[1] + floor_div(v[0], 7) + v[0] % 5, s[2] | (v[0] > 97),
                       constant_bool(true)};
  };
  return {{"chain_hash",
           {{"hash", 17u, DType::U32}, {"sum", -3}, {"high", false, DType::Bool}, {"any", 0, DType::Bool}},
           step},
          {DType::I32},
          [](size_t, size_t i) { return noise(i) - 1; },
          [](const auto& x, const auto& chain) {
            uint32_t hash = 17;
            double sum = -3, high = 0;
            for (size_t i : chain) {
              hash = (hash ^ static_cast<uint32_t>(static_cast<int32_t>(x[0][i]))) * modulus_base;
              hash ^= hash >> 15;
              sum += std::floor(x[0][i] / 7) + (x[0][i] - 5 * std::floor(x[0][i] / 5));
              if (x[0][i] > 97) high = 1;
            }
            return Numbers{static_cast<double>(hash), sum, high, chain.empty() ? 0.0 : 1.0};
          }};
}

/// A part that becomes a constant, before one that does not.
Case seen() {
  const FoldStep least = [](Span s, Span v) {
    return std::vector{constant_bool(true), minimum(s[1], v[v.size() - 1])};
  };
  return {{"seen", {{"any", false, DType::Bool}, {"least", infinity}}, least, least, true},
          {DType::F32},
          [](size_t, size_t i) { return noise(i); },
          [](const auto& x, const auto& chain) {
            double smallest = infinity;
            for (size_t i : chain) smallest = std::min(smallest, x[0][i]);
            return Numbers{chain.empty() ? 0.0 : 1.0, smallest};
          }};
}

std::vector<Case> cases() {
  return {seen(), product(), furthest(), log_sum(), welford(true), welford(false), affine(), chain_hash()};
}

Numbers numbers(const Case& c, size_t which, int64_t count) {
  Numbers out;
  for (int64_t i = 0; i < count; i++) out.push_back(c.value(which, static_cast<size_t>(i)));
  return out;
}

std::string text(const std::vector<Numbers>& all) {
  std::string out;
  for (const Numbers& part : all)
    for (size_t i = 0; i < std::min<size_t>(part.size(), 4); i++) out += std::to_string(part[i]) + " ";
  return out;
}

std::vector<Numbers> computed(const Case& c, const Layout& l, std::span<const Numbers> values) {
  std::vector<Tensor> given;
  for (size_t v = 0; v < values.size(); v++)
    given.push_back(
        Tensor::from(values[v], Shape(l.shape.begin(), l.shape.end())).cast(c.dtypes[v]).realize());
  std::vector<Tensor> out = fold(c.fold, given, l.axes);
  realize_all(out);
  std::vector<Numbers> found;
  for (const Tensor& t : out) found.push_back(t.to_vector<double>());
  return found;
}

/// "" or the first number that is not what a loop says.
std::string compare(const Case& c, const Layout& l, std::span<const Numbers> values,
                    const std::vector<Numbers>& found) {
  const std::vector<std::vector<size_t>> chains = l.chains();
  for (size_t chain = 0; chain < chains.size(); chain++) {
    const Numbers wanted = c.loop({values.begin(), values.end()}, chains[chain]);
    if (wanted.size() != found.size()) return "another number of parts";
    for (size_t p = 0; p < wanted.size(); p++) {
      if (found[p].size() != chains.size()) return "another shape";
      const double got = found[p][chain];
      if (got == wanted[p]) continue;
      if (!(std::abs(got - wanted[p]) <= c.tolerance * std::max(1.0, std::abs(wanted[p]))))
        return "part " + std::to_string(p) + " of chain " + std::to_string(chain) + " is " +
               std::to_string(got) + ", not " + std::to_string(wanted[p]);
    }
  }
  return "";
}

/// Where a kernel takes long to compile (`is_slow`) each size has two of the layouts.
void check_on(const char* device, const std::vector<int64_t>& sizes, bool is_slow = false) {
  std::unique_ptr<OnDevice> on;
  try {
    on = std::make_unique<OnDevice>(device, 2);
  } catch (const Error&) {
    return;  // not here
  }
  for (const Case& c : cases())
    for (size_t i = 0; i < 4 * sizes.size(); i++) {
      if (is_slow && (i / 4 + i) % 2) continue;
      const int64_t n = sizes[i / 4];
      const Layout l = layouts(n)[i % 4];
      std::vector<Numbers> values;
      int64_t count = 1;
      for (int64_t d : l.shape) count *= d;
      for (size_t v = 0; v < c.dtypes.size(); v++) values.push_back(numbers(c, v, count));
      if (c.dtypes[0] == DType::BF16)  // what the array holds
        values[0] = Tensor::from(values[0]).cast(DType::BF16).to_vector<double>();
      INFO(c.fold.name() << " over " << l.name << ", " << n << ", on " << device);
      CHECK(compare(c, l, values, computed(c, l, values)) == "");
    }
}

/// A sum of x and `more`, in order.
CustomFold sum_and(double more, const std::string& name = "sum_and") {
  return {name,
          {{"s", 0}},
          [more](Span s, Span v) { return std::vector{s[0] + v[0] * more}; },
          [](Span s, Span v) { return std::vector{s[0] + v[0]}; }};
}

std::vector<Ref> trees_of(const CustomFold& by, const std::vector<int64_t>& shape) {
  const Graph graph = make_graph({node_of(fold(by, {leaf(shape)}, -1)[0])});
  std::vector<Ref> out;
  for (const ScheduledKernel& k : schedule(graph, {.threads = 2}).kernels) out.push_back(k.tree);
  return out;
}

/// 0 if `action` says that all is well in a process of its own.
template <class F>
int in_another_process(F&& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      ::_exit(action() ? 0 : 1);
    } catch (...) {
      ::_exit(2);
    }
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("[folds] own folds against loops: interp") { check_on("interp", {0, 1, 63, 64, 65, 1024}); }
TEST_CASE("[folds] own folds against loops: llvm") { check_on("llvm", {0, 1, 63, 64, 65, 1024, 5000}); }
TEST_CASE("[folds] own folds against loops: opencl") {
  check_on("opencl", sanitized ? std::vector<int64_t>{65} : std::vector<int64_t>{0, 65, 2000}, true);
}
TEST_CASE("[folds] own folds against loops: c") { check_on("c", {0, 65, 2000}, true); }

TEST_CASE("[folds] own folds have the evaluator's bits on every way down, GPUs among them") {
  for (const Case& c : cases())
    for (int64_t n : {1, 64, 65, 1500})
      for (const Layout& l : layouts(n)) {
        std::vector<Tensor> values;
        for (DType d : c.dtypes) values.push_back(leaf(l.shape, d));
        INFO(c.fold.name() << " over " << l.name << ", " << n);
        CHECK(every_way(fold(c.fold, values, l.axes), Down::TreesAndLlvm) == "");
      }
}

TEST_CASE("[folds] own folds: the same bits whatever the number of threads, as far as lengths go in pieces") {
  for (const Case& c : cases())
    for (const Layout& l : {Layout{"rows", {2, 300000}, {1}}, Layout{"columns", {5000, 130}, {0}}}) {
      std::vector<Numbers> values, first;
      for (size_t v = 0; v < c.dtypes.size(); v++) values.push_back(numbers(c, v, l.shape[0] * l.shape[1]));
      for (int threads : {1, 2, 3}) {
        OnDevice on("llvm", threads);
        const std::vector<Numbers> found = computed(c, l, values);
        INFO(c.fold.name() << " over " << l.name << ", " << threads << " threads: " << text(found));
        if (c.tolerance == 0) CHECK(compare(c, l, values, found) == "");
        if (threads == 1) first = found;
        CHECK(found == first);
      }
    }
}

TEST_CASE("[folds] scans by an own fold, in pieces where it joins") {
  const Case c = product();
  const CustomFold chain{"chain", {{"h", 7, DType::U32}}, [](Span s, Span v) {
                           return std::vector{(s[0] ^ v[0]) * modulus_base + (s[0] >> 3)};
                         }};
  const auto times = [](Span s, Span v) { return std::vector{s[0] * v[0]}; };
  const CustomFold product32{"product", {{"p", 1}}, times, times};
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device, 2);
    for (int64_t n : {0, 1, 65, 5000, 12000}) {
      if (device == std::string("interp") && n > 5000) continue;
      std::vector<uint32_t> x, products, hashes;
      for (int64_t i = 0; i < 2 * n; i++) {
        const bool starts = i % n == 0;
        x.push_back(static_cast<uint32_t>(noise(static_cast<size_t>(i))) * 2 + 1);
        products.push_back((starts ? 1 : products.back()) * x.back());
        const uint32_t h = starts ? 7 : hashes.back();
        hashes.push_back((h ^ x.back()) * modulus_base + (h >> 3));
      }
      const Tensor t = Tensor::from(x, {2, n});
      INFO(device << ", " << n);
      CHECK(scan(product32, {t}, 1).to_vector<uint32_t>() == products);
      CHECK(scan(chain, {t}, -1).to_vector<uint32_t>() == hashes);
    }
  }
  CHECK_THROWS_WITH(scan(affine().fold, {leaf({3}, DType::U32), leaf({3}, DType::U32)}, 0),
                    "scan by fold 'affine': its state must be one part, of the dtype of all its values");
  CHECK_THROWS_WITH(scan(product32, {leaf({3})}, 1), Contains("scan by fold 'product': f32[3]: no axis 1"));
}

TEST_CASE("[folds] own folds in a jit function, with keepdims, broadcast values and a size that changes") {
  OnDevice on("llvm", 2);
  const CustomFold weighted{
      "weighted", {{"s", 0}}, [](Span s, Span v) { return std::vector{fma(v[0], v[1], s[0])}; }};
  auto f = jit([&](const Tensor& x, const Tensor& w) { return fold(weighted, {x, w}, 1, true)[0] + 1; });
  for (float k : {1.f, 2.f}) {
    const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3}), w = Tensor::from({k, 0, 1}, {3});
    const Tensor y = f(x, w);
    CHECK(y.shape() == std::vector<int64_t>{2, 1});
    CHECK(y.to_vector<float>() == std::vector<float>{k + 4, 4 * k + 7});
  }
  Variable n("n", 0, 100);
  const Tensor numbers = Tensor::arange(n, DType::F32);
  for (int64_t size : {100, 0, 7}) {
    n.set(size);
    const double total = static_cast<double>(size * (size - 1) / 2);
    CHECK(fold(sum_and(2), {numbers})[0].item<double>() == 2 * total);
  }
  const Tensor twice = fold(sum_and(2), {Tensor::from({5.f, 6.f}, {2})}, Axes(std::vector<int64_t>{}))[0];
  CHECK(twice.to_vector<float>() == std::vector<float>{10, 12});  // over no axes: a step each
  CHECK(fold(sum_and(3), {Tensor::full({}, 2)})[0].item<float>() == 6);
  CHECK(fold(sum_and(3), {Tensor::from({2.f}, {1})})[0].item<float>() == 6);  // one element is no identity
}

TEST_CASE("[folds] an own fold's name has the hash of its formulas, wherever it stands") {
  const std::string text = print(make_graph({node_of(fold(sum_and(2), {leaf({4})})[0])}));
  const size_t at = text.find("sum_and_");
  REQUIRE(at != std::string::npos);
  const std::string name = text.substr(at, 24);
  const Fold known = find_fold(name).value();
  CHECK(plain_name(known) == "sum_and");
  CHECK(print(parse_graph(text)) == text);
  const std::vector<Ref> trees = trees_of(sum_and(2), {4, 30});
  const std::string tree = tree::print(trees[0]);
  CHECK_THAT(tree, Contains(name + " f32") && Contains("k0_sum_and_4("));
  CHECK(tree::print(tree::parse(tree)) == tree);
  std::string other = text;
  other[at + 20] = other[at + 20] == '0' ? '1' : '0';
  CHECK_THROWS_WITH(parse_graph(other),
                    Contains("unknown fold \"sum_and_") && Contains("once it has folded by it"));
  other = tree;
  for (size_t i; (i = other.find(name)) != std::string::npos;) other[i] = 'x';
  CHECK_THROWS_WITH(tree::parse(other), Contains("unknown fold \"xum_and_"));
  for (const char* device : {"llvm", "c", "opencl", "cuda"}) {
    const auto pieces = inspect::stage(
        make_graph({node_of(fold(welford(true).fold, {leaf({4, 300})}, 1)[1])}), "source", device);
    INFO(device);
    CHECK(pieces[0].text.find("welford") != std::string::npos);
  }
}

TEST_CASE(
    "[folds] two definitions of one name are two folds, equal ones one; their kernels' keys say so in any process") {
  OnDevice on("llvm", 2);
  const Tensor x = Tensor::arange(200, DType::F32).realize();
  CHECK(fold(sum_and(1), {x})[0].item<float>() == 19900);
  CHECK(fold(sum_and(3), {x})[0].item<float>() == 59700);
  const auto key = [](const CustomFold& by) { return tree_key(trees_of(by, {4, 30})[0]); };
  CHECK((key(sum_and(1)) != key(sum_and(3))));
  CHECK((key(sum_and(1)) != key(sum_and(1, "other"))));
  const size_t before = folds().size();
  CHECK((key(sum_and(1)) == key(sum_and(1))));
  CHECK(folds().size() == before);
  // The same row has another number where another one came first.
  std::string keys[2];
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const CustomFold fresh = sum_and(1234.5);
  CHECK(in_another_process([&] {
          fold(sum_and(4321.5), {leaf({3})});
          const std::string found = key(fresh);
          return ::write(ends[1], found.data(), found.size()) == static_cast<ssize_t>(found.size());
        }) == 0);
  keys[0] = key(fresh);
  keys[1].resize(keys[0].size() + 1);
  keys[1].resize(static_cast<size_t>(::read(ends[0], keys[1].data(), keys[1].size())));
  CHECK((keys[0] == keys[1]));  // bytes, which no report can show
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("[folds] a sum and a maximum of one's own are the kernels of sum and max") {
  const auto plus = [](Span s, Span v) { return std::vector{s[0] + v[0]}; };
  const auto most = [](Span s, Span v) { return std::vector{maximum(s[0], v[0])}; };
  const CustomFold sum("sum", {{"s", 0}}, plus, plus, true), max("max", {{"s", -infinity}}, most, most, true);
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{40, 300}, {5, 200000}})
    for (int64_t axis : {0, 1}) {
      const Tensor x = leaf(shape);
      const auto source = [](const Tensor& t) {
        std::string all;
        for (const auto& piece : inspect::stage(make_graph({node_of(t)}), "source", "llvm"))
          all += piece.text;
        return all;
      };
      CHECK(source(fold(sum, {x}, axis)[0]) == source(x.sum(axis)));
      CHECK(source(fold(max, {x}, axis)[0]) == source(x.max(axis)));
    }
}

TEST_CASE("[folds] own folds defined by several threads at once") {
  std::vector<std::thread> threads;
  std::vector<std::vector<std::string>> names(4);
  for (size_t t = 0; t < names.size(); t++)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; i++)
        names[t].push_back(
            print(make_graph({node_of(fold(sum_and(i + 0.25, "by_threads"), {leaf({4})})[0])})));
    });
  for (std::thread& t : threads) t.join();
  for (const auto& n : names) CHECK(n == names[0]);
}

TEST_CASE("[folds] the table holds so many own folds, and says so when it is full") {
  CHECK(in_another_process([] {
          for (size_t i = 0; i <= most_custom_folds; i++) {
            const std::string error =
                error_of([&] { fold(sum_and(static_cast<double>(i), "many"), {leaf({4})}); });
            if (error.empty()) continue;
            return error.starts_with("fold 'many': there are 1024 folds of the program's own already") &&
                   i > 900 && error_of([] { fold(sum_and(0, "many"), {leaf({5})}); }).empty();
          }
          return false;
        }) == 0);
}

TEST_CASE("[folds] an own fold has no gradient") {
  const Tensor x = leaf({3, 4});
  const std::string wanted =
      "gradient: the fold 'sum_and' is the program's own and has none; detach() what it folds";
  CHECK_THROWS_WITH(gradient(fold(sum_and(2), {x})[0], {x}), wanted);
  CHECK_THROWS_WITH(gradient(scan(sum_and(2), {x}, 1).sum(), {x}), wanted);
  CHECK_NOTHROW(gradient(fold(sum_and(2), {x.detach()})[0] + x.sum(), {x}));
}

namespace {

CustomFold with_step(FoldStep step) { return {"f", {{"a", 0}, {"b", 0, DType::I32}}, std::move(step)}; }
/// What is said when [a, b] is folded by this step.
std::string refusal(FoldStep step) {
  return error_of([&] { fold(with_step(std::move(step)), {leaf({4})}); });
}

}  // namespace

TEST_CASE("[folds] what a step may not do is told with the fold's name") {
  const Tensor array = leaf({2});
  const Scalar rate(0.5);
  const auto both = [](const Tensor& a) { return std::vector{a, Tensor::full({}, 1, DType::I32)}; };
  CHECK(refusal([&](Span s, Span) { return std::vector{s[0]}; }) ==
        "fold 'f': its step returns 1 values for 2 parts");
  CHECK(refusal([&](Span s, Span) { return std::vector{s[0], Tensor()}; }) ==
        "fold 'f': its step returns an empty Tensor for 'b'");
  CHECK(refusal([&](Span s, Span v) { return std::vector{v[0], s[1] + 1.5}; }) ==
        "fold 'f': its step makes 'b' f32, and it is i32: cast it");
  CHECK(refusal([&](Span, Span v) { return both(v[0] * array); }) ==
        "fold 'f': its step reads an array that is none of its values: f32[2]");
  CHECK(refusal([&](Span, Span v) { return both(v[0] * rate); }) ==
        "fold 'f': its step reads a Scalar, which may change: it must be one of the values");
  CHECK(refusal([&](Span, Span) { return both(Tensor::uniform({})); }) ==
        "fold 'f': its step draws random numbers");
  CHECK(
      refusal([&](Span, Span v) { return both(v[0].expand({3}).sum()); }) ==
      "fold 'f': its step has 'reshape', which makes f32[1]: it may only compute on scalars, element by element");
  CHECK(
      refusal([&](Span, Span v) { return both(v[0].unsqueeze(0)); }) ==
      "fold 'f': its step has 'reshape', which makes f32[1]: it may only compute on scalars, element by element");
  CHECK(
      refusal([&](Span s, Span v) { return std::vector{v[0], floor_div(3, s[1])}; }) ==
      "fold 'f': its step divides integers by what may be 0 or less: divide by maximum(.., 1), or by a number");
  CHECK(refusal([&](Span s, Span v) { return std::vector{v[0], floor_div(3, maximum(s[1], 1))}; }) == "");
  CHECK(refusal([&](Span, Span v) { return both(gradient(v[0] * 2, {v[0].mark("x")})[0]); }) == "");
  CHECK_THROWS_AS(fold(with_step([](Span, Span) -> std::vector<Tensor> { throw 7; }), {leaf({4})}), int);
  Tensor kept;
  CHECK(refusal([&](Span, Span v) { return kept = v[0] + 1, both(kept); }) == "");
  CHECK_THROWS_WITH(
      kept.realize(),
      "a placeholder that a fold's step was given has no value: the step can only compute with it");
  CHECK_THROWS_WITH(fold(CustomFold{"g", {{"a", 0}}, [&](Span, Span) { return std::vector{kept}; }},
                         {leaf({3}, DType::I32)}),
                    "fold 'g': its step reads a placeholder of another fold");
  CHECK_THROWS_WITH(fold(CustomFold{"g",
                                    {{"a", 0}},
                                    [](Span s, Span) { return std::vector{s[0]}; },
                                    [](Span s, Span) { return std::vector{s[0], s[0]}; }},
                         {array}),
                    "fold 'g': its join returns 2 values for 1 parts");
}

TEST_CASE("[folds] states, identities and values that are none") {
  const FoldStep same = [](Span s, Span) { return std::vector<Tensor>{s.begin(), s.end()}; };
  const auto made = [&](std::string_view name, const std::vector<StatePart>& parts) {
    return error_of([&] { fold(CustomFold{name, parts, same}, {leaf({4}, DType::I8)}); });
  };
  CHECK(made("a b", {{"x", 0}}) == "fold: 'a b' is no name for one: letters, digits and _ make one");
  CHECK(made("f", {}) == "fold 'f': its state has 0 parts; it may have 1 to 8");
  CHECK(made("f", std::vector<StatePart>(9, {"x", 0})) ==
        "fold 'f': its state has 9 parts; it may have 1 to 8");
  CHECK(made("f", {{"3", 0}}) ==
        "fold 'f': '3' is no name for a part of its state: letters, digits and _ make one");
  CHECK(made("f", {{"x", 0}, {"x", 1}}) == "fold 'f': two parts of its state are called 'x'");
  CHECK(made("f", {{"x", Tensor::full({}, 1)}}) ==
        "fold 'f': the identity of 'x' is a tensor; it must be a number");
  CHECK(made("f", {{"x", std::nan("")}}) == "fold 'f': the identity of 'x' is not a number");
  CHECK(made("f", {{"x", 0, DType::F16}}) ==
        "fold 'f': 'x' is f16: a state is kept in f32 or wider; cast what it comes to");
  CHECK(made("f", {{"x", 200}}) == "fold 'f': the identity of 'x': 200 does not fit in i8");
  CHECK(made("f", {{"x", 0.5, DType::I32}}) == "fold 'f': the identity of 'x': 0.5 is not a i32");
  CHECK(made("f", {{"x", infinity, DType::I32}}) == "fold 'f': the identity of 'x': inf is not a i32");
  CHECK(made("f", {{"x", 1e300, DType::F32}}) == "fold 'f': the identity of 'x': 1e+300 does not fit in f32");
  CHECK(made("f", {{"x", 2, DType::Bool}}) == "fold 'f': the identity of 'x': 2 does not fit in bool");
  CHECK(made("f", {{"x", infinity, DType::F64}, {"y", UINT64_MAX, DType::U64}}) == "");
  CHECK_THROWS_WITH(CustomFold("f", {{"x", 0}}, {}), "fold 'f': it has no step");
  CHECK_THROWS_WITH(CustomFold("f", {{"x", 0}}, same, {}, true),
                    "fold 'f': it is commutative, and has no join");
  const CustomFold f("f", {{"x", 0}}, same);
  CHECK_THROWS_WITH(fold(f, std::span<const Tensor>()), "fold 'f': of 0 values; it may be of 1 to 8");
  CHECK_THROWS_WITH(fold(f, {leaf({2}), leaf({3})}), Contains("fold 'f': f32[2] x f32[3]: sizes 2 and 3"));
  CHECK_THROWS_WITH(fold(f, {leaf({2})}, 1), "fold 'f': f32[2]: no axis 1");
  CustomFold from = f;
  const CustomFold to = std::move(from);
  CHECK(to.name() == "f");
  CHECK_THROWS_WITH(fold(from, {leaf({2})}), "fold: it was moved to another, and is none any more");
}
