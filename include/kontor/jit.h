// Context (device, caches, threads, random numbers, passes) and jit, which records a function once and replays it.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <kontor/tensor.h>

namespace kontor::inline v0 {

struct ContextState;

/// What a Context did so far: what a test or a user asks to see that nothing was compiled again.
struct Counters {
  uint64_t schedules = 0;       ///< graphs for which there was no finished schedule in memory
  uint64_t schedule_loads = 0;  ///< of these, whose schedule was taken from the disk cache
  uint64_t compiles = 0;        ///< kernels compiled by a device compiler
  uint64_t loads = 0;           ///< kernels taken from the disk cache
  uint64_t launches = 0;        ///< kernels run
  uint64_t replays = 0;         ///< graphs run from a schedule made before
  double schedule_seconds = 0;  ///< spent in scheduling, rendering, compiling and loading
  double render_seconds = 0, compile_seconds = 0, load_seconds = 0;
  uint64_t live_bytes = 0, peak_bytes = 0;  ///< device memory in use, and at most so far
  uint64_t temporary_bytes = 0;  ///< the most that the temporaries of one schedule take (planned, so far)
};

struct ContextOptions {
  std::string device =
      {};           ///< "llvm", "opencl", "cuda", "interp"; empty: KONTOR_DEVICE, else the first that opens
  int threads = 0;  ///< 0: KONTOR_THREADS, else one a core
  uint64_t seed = 0;
  /// Bytes that the temporaries of one graph may take: axes such as samples are run in pieces so that they do (results
  /// have the same bits). 0: KONTOR_MEMORY_BUDGET, else 32 MiB where that can be reached. Where a budget that was asked
  /// for cannot be kept, realizing throws Error that names both numbers.
  int64_t memory_budget = 0;
  /// "strict": the order of arithmetic of docs/numerics.md, with the same bits everywhere; "fast": sums of products of bf16 in
  /// the order of the machine's instructions for them, where it has some. Empty: KONTOR_NUMERICS, else strict.
  std::string numerics = {};
};

/// How a value of a graph is computed, as `kontor dump --stage graph` prints it.
struct KONTOR_API Operation {
  std::string_view op;           ///< "add", "reduce", "call", "buffer", ...
  std::string name;              ///< of a call ("softmax"), a mark, a fold ("sum"); else ""
  std::vector<int64_t> numbers;  ///< what else it is given: axes, bits of a constant
  std::vector<Tensor>
      inputs;  ///< of a call: its body, written on its arguments, and these; then extents and positions
};
/// Throws Error if the Tensor is empty.
KONTOR_API Operation operation(const Tensor& value);

/// A transform over a graph: what its outputs become, in order, each with its dtype and shape. It records operations on Tensors, and can
/// neither read, realize or assign them nor make them of memory or of random numbers.
using Pass = std::function<std::vector<Tensor>(std::span<const Tensor> outputs)>;
/// `value` as it was recorded, and the operation on what its inputs have become. Returns what stands in its place, of the same dtype
/// and shape; an empty Tensor: the operation as it is now.
using MapValue = std::function<Tensor(const Tensor& value, const Operation& now)>;
/// Makes a graph anew, inputs before what is computed from them, each value once; extents and positions (i64 of rank 0) stay. Throws
/// Error where a value becomes one of another dtype or shape.
KONTOR_API std::vector<Tensor> map_values(std::span<const Tensor> outputs, const MapValue& change);

/// Owns a device, its caches, thread pool, memory, and the state of random numbers. There is a default one. Every
/// operation uses the current Context of its thread. May be used from several threads.
class KONTOR_API Context {
 public:
  explicit Context(const ContextOptions& options = {});
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// The thread's current Context: the innermost Context::Use, else the default one, which is made on first use.
  static Context& current();
  /// Options of the default Context; throws Error if it was made already with others.
  static void set_default(const ContextOptions& options);
  /// Makes a Context current for this thread while it lives.
  class KONTOR_API Use {
   public:
    explicit Use(Context& context);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Context* before_;
  };

  std::string device() const;
  int threads() const;
  /// Starts random numbers anew: the same seed and the same draws give the same numbers.
  void seed(uint64_t seed);
  uint64_t seed() const;
  /// How many blocks of random numbers were drawn: with the seed, all there is to store in a checkpoint.
  uint64_t random_counter() const;
  void set_random_counter(uint64_t counter);
  /// Has every graph that is scheduled from now on go through `pass` first, behind those added before: what was scheduled already is
  /// scheduled again. `KONTOR_DUMP=passes` writes the graph after each by its name. The pass must give the same for the same graph.
  /// Throws Error for a name that is empty or taken. What the pass throws, and what is wrong with what it returns, is an Error of
  /// the realize or jit call whose graph it is, which names the pass; that computes nothing.
  void add_pass(const std::string& name, Pass pass);
  Counters counters() const;
  /// What went wrong without stopping anything, each told once: a kernel cache that cannot be read or written.
  std::vector<std::string> take_warnings();
  /// The default Context if it was made, else null.
  static Context* default_if_made();
  /// Waits for all launches; throws Error if a kernel met an index out of range or a division by zero.
  void synchronise();

  ContextState& state() { return *state_; }  ///< for the runtime only

 private:
  std::unique_ptr<ContextState> state_;
};

/// Calls advance(state) now; or, while a jit function is recorded, before each call of that function. For what must
/// happen on the host at each step, as setting a Scalar.
KONTOR_API void at_each_call(std::shared_ptr<void> state, void (*advance)(void* state));

/// A function that is recorded once for each signature (dtypes, ranks, static dimensions) and then replayed. What may
/// change between calls: the inputs, Scalars, Variables, and Tensors of the world outside. Several threads may call one: it is
/// recorded by one of them at a time.
///
/// A replay does what the function would do if it ran. Tensors outside of it are read and assigned as variables:
/// - between calls, `w.assign(v)` is seen by the next call at no cost; `w = v` is seen too, and the function is recorded
///   again (nothing is compiled again, where its graph is the same);
/// - inside, `w.assign(v)` is done at each call, and a copy (`Tensor h = w;`) is the function's own;
/// - inside, `w = v`, `w += v`, or leaving a value of this call in a Tensor outside throws Error: a replay would not repeat it.
/// C++ code that is no operation on Tensors (an if on a flag, a loop's count) runs when the function is recorded only.
class KONTOR_API Jit {
 public:
  using Trace = std::vector<Tensor> (*)(void* function, std::span<const Tensor> inputs);
  Jit(std::shared_ptr<void> function, Trace trace);
  std::vector<Tensor> operator()(std::span<const Tensor> inputs);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// A jit function of N Tensors that returns what F returns: a Tensor, a vector of Tensors, or nothing.
template <class F>
class JitOf {
 public:
  explicit JitOf(F f) : shared_(std::make_shared<Shared>(std::move(f))) {}

  template <class... T>
    requires(std::is_convertible_v<T, Tensor> && ...)
  auto operator()(const T&... inputs) {
    using Result = std::invoke_result_t<F&, const std::conditional_t<true, Tensor, T>&...>;
    std::vector<Tensor> all{Tensor(inputs)...};
    std::vector<Tensor> out = with_trace(sizeof...(T), &trace<Result, sizeof...(T)>)(all);
    if constexpr (std::is_same_v<Result, Tensor>) return out.at(0);
    else if constexpr (!std::is_void_v<Result>) return out;
  }

 private:
  template <class Result, size_t N>
  static std::vector<Tensor> trace(void* function, std::span<const Tensor> in) {
    return call<Result>(*static_cast<F*>(function), in, std::make_index_sequence<N>());
  }
  template <class Result, size_t... I>
  static std::vector<Tensor> call(F& f, [[maybe_unused]] std::span<const Tensor> in,
                                  std::index_sequence<I...>) {
    if constexpr (std::is_void_v<Result>) return f(in[I]...), std::vector<Tensor>{};
    else if constexpr (std::is_same_v<Result, Tensor>) return {f(in[I]...)};
    else return f(in[I]...);
  }

  struct Shared {
    explicit Shared(F f) : function(std::make_shared<F>(std::move(f))) {}
    std::shared_ptr<F> function;
    std::mutex mutex;
    std::map<size_t, Jit> jits;  // by the number of inputs, made at the first call
  };

  Jit with_trace(size_t inputs, Jit::Trace record) {
    std::lock_guard lock(shared_->mutex);
    return shared_->jits.try_emplace(inputs, shared_->function, record).first->second;
  }

  std::shared_ptr<Shared> shared_;
};

/// f takes a span of Tensors and returns a vector of Tensors, or takes Tensors one by one.
template <class F>
auto jit(F f) {
  if constexpr (std::is_invocable_v<F&, std::span<const Tensor>>) {
    Jit::Trace trace = [](void* function, std::span<const Tensor> in) -> std::vector<Tensor> {
      return (*static_cast<F*>(function))(in);
    };
    return Jit(std::make_shared<F>(std::move(f)), trace);
  } else {
    return JitOf<F>(std::move(f));
  }
}

}  // namespace kontor::inline v0
