// JitProgram: one recorded signature of a jit function, and how a call binds it.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "runtime/binding.h"
#include "runtime/context_state.h"

namespace kontor {

class Trace;

class JitProgram {
 public:
  /// Records `run` with placeholders in place of `arguments` (realized) and schedules what it recorded.
  JitProgram(ContextState& context, std::span<const Tensor> arguments, void* function, Jit::Trace run);

  bool fits(const ContextState& context, std::span<const Ref> arguments) const;
  /// Runs the program; false if what it was recorded from has changed, so that it must be recorded anew.
  bool call(ContextState& context, std::span<const Ref> arguments, std::vector<Tensor>& results);

 private:
  enum class From : uint8_t { Argument, State, Latest, Fixed };
  // Where an input of the graph comes from at a call.
  struct Input {
    From from;
    size_t index = 0;                  // of the argument or state
    std::shared_ptr<Storage> storage;  // Latest: read by identity
    uint64_t ambiguity = 0;
    std::weak_ptr<Version> version;     // Fixed, made before the recording
    std::shared_ptr<Version> constant;  // Fixed, made by it
    DType dtype;
    std::vector<Ref> dims;
    bool is_result = false;  // the function returns it as it is
  };
  // A Tensor that the function assigns.
  struct State {
    std::weak_ptr<TensorState> state;
    size_t output;
  };
  struct Output {
    DType dtype;
    std::vector<Ref> dims;
    int state = -1;              // index of the state that it is the new value of
    bool old_is_result = false;  // the value before is returned
  };
  struct Result {
    enum Kind : uint8_t { Value, Leaf, NewState } kind;
    size_t index;  // of the output, the input, or the state
  };

  bool record_once(ContextState& context, const std::vector<Ref>& placeholders, void* function,
                   Jit::Trace run);
  void build(ContextState& context, Trace& trace, const std::vector<Ref>& placeholders,
             const std::vector<Ref>& results, int64_t first_new_id);
  void add_states(Trace& trace, const Substitution& resolved, std::vector<Ref>& nodes,
                  std::vector<Ref>& targets);
  void add_results(Trace& trace, const std::vector<Ref>& results, const Substitution& resolved,
                   std::vector<Ref>& nodes);
  void find_returned_leaves(Graph& graph, const std::vector<Ref>& results, const Substitution& resolved);
  Input input_of(const Ref& leaf, const std::vector<Ref>& placeholders, const Trace& trace,
                 int64_t first_new_id) const;
  struct Forget {
    JitProgram& program;
    ~Forget();
  };
  void check_scalars(const Graph& graph, const Trace& trace) const;
  bool shared_states() const;

  bool valid(const ContextState& context) const;
  std::vector<std::shared_ptr<TensorState>> unrealized() const;
  void execute(ContextState& context, std::span<const Ref> arguments);
  std::shared_ptr<Version> version_at(const Input& input, std::span<const Ref> arguments) const;
  void draw(ContextState& context);
  void bind_output(size_t k);
  void commit(ContextState& context, size_t k, bool called_before);
  std::vector<Tensor> collect() const;

  int64_t context_id_;
  size_t passes_ = 0;  // that the Context had
  std::vector<DType> argument_dtypes_;
  std::vector<std::vector<Ref>> argument_dims_;
  std::shared_ptr<CompiledSchedule> compiled_;
  std::vector<Input> inputs_;
  std::vector<State> states_;
  std::vector<Output> outputs_;
  std::vector<Result> results_;
  std::vector<int> targets_;  // of each output: input or -1
  std::vector<std::shared_ptr<const ScalarState>> scalars_;
  std::vector<std::pair<std::shared_ptr<void>, void (*)(void*)>> host_steps_;
  std::shared_ptr<ScalarState> random_base_;
  Ref random_blocks_;
  std::vector<std::pair<std::shared_ptr<Watch>, uint64_t>>
      watches_;        // of handles it read, and changes when recorded
  bool once_ = false;  // what it reads could not be told apart: good for one call
  bool called_ = false;

  // Filled at each call, under the context's lock; kept so that a call allocates nothing here.
  BoundInputs bound_;
  std::vector<Ref> returned_;                       // leaves of the inputs that are results
  std::vector<std::shared_ptr<TensorState>> held_;  // of the states
  std::vector<std::shared_ptr<Memory>> output_memories_;
  std::vector<bool> sole_;  // of each output: the state's old value has no other reader
  std::vector<Ref> output_leaves_;
  std::vector<void*> output_addresses_;
  std::vector<int64_t> slots_;
};

}  // namespace kontor
