// Making versions and their leaves; letting go of long chains of pending ones without recursion.
#include "runtime/storage.h"

#include "graph/recording.h"

namespace kontor {

// A definition may read the version before, whose definition reads the one before that: they die one after another.
Version::~Version() {
  if (!definition) return;
  thread_local std::vector<Ref>* dying = nullptr;
  if (dying != nullptr) {
    dying->push_back(std::move(definition));
    return;
  }
  std::vector<Ref> list;
  dying = &list;
  list.push_back(std::move(definition));
  while (!list.empty()) {
    Ref last = std::move(list.back());
    list.pop_back();
    last = Ref();
  }
  dying = nullptr;
}

std::shared_ptr<Version> make_version() {
  auto version = std::make_shared<Version>();
  version->storage = std::make_shared<Storage>();
  version->storage->latest = version;
  return version;
}

std::shared_ptr<Version> next_version(const std::shared_ptr<Version>& version) {
  auto next = std::make_shared<Version>();
  next->storage = version->storage;
  next->number = ++version->storage->last_version;
  next->before = version;
  version->storage->latest = next;
  return next;
}

Ref leaf_of(const std::shared_ptr<Version>& version, DType dtype, const std::vector<Ref>& dims) {
  return buffer_leaf(dtype, dims, version, version->storage->id, version->number);
}

Version& version_of(const Node& buffer) {
  return *static_cast<Version*>(const_cast<void*>(buffer.arg.payload.get()));
}

std::shared_ptr<Version> share_version(const Node& buffer) {
  return std::static_pointer_cast<Version>(std::const_pointer_cast<void>(buffer.arg.payload));
}

std::span<const Ref> recorded_below(const Node& node) {
  if (node.op != Op::Buffer) return node.src;
  const Version& version = version_of(node);
  return version.pending() ? std::span(&version.definition, 1) : std::span<const Ref>();
}

Ref resolved(const Node& node, const Substitution& done) {
  if (node.op != Op::Buffer) return with_sources(node, sources_in(done, node));
  const Version& version = version_of(node);
  return version.pending() ? done.at(version.definition.get()) : Ref(&node);
}

}  // namespace kontor
