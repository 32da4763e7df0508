// Storage: what stands behind Buffer leaves. A Storage is an identity; each value it took is a Version with its memory.
#pragma once
#include <memory>

#include "graph/node.h"
#include "runtime/device.h"

namespace kontor {

struct Version;

/// The identity that assign() keeps. Guarded by the runtime's lock, as Version is.
struct Storage {
  int64_t id = fresh_id();
  int64_t last_version = 0;
  std::weak_ptr<Version> latest;
  /// How often it was not certain which Tensor goes on as this Storage (copies were assigned to): a jit function that
  /// reads it by identity then records anew.
  uint64_t ambiguity = 0;
};

/// One value of a Storage: the payload of Buffer (id, version). It is pending (definition), or realized (memory), or
/// taken: its memory went to a later version, which happens only when nobody can read this one any more.
struct Version {
  std::shared_ptr<Storage> storage;
  int64_t number = 0;
  std::shared_ptr<Memory> memory;
  Ref definition;                 ///< what it will hold; null once realized
  std::weak_ptr<Version> before;  ///< the version that an assign replaced
  bool placeholder = false;       ///< an argument of a jit function while it is recorded

  Version() = default;
  Version(const Version&) = delete;
  Version& operator=(const Version&) = delete;
  ~Version();
  bool pending() const { return static_cast<bool>(definition); }
};

/// A new Storage with its first version.
std::shared_ptr<Version> make_version();
/// The version after `version` of the same Storage, which becomes the latest.
std::shared_ptr<Version> next_version(const std::shared_ptr<Version>& version);
/// The Buffer leaf of a version (the same one as long as it lives).
Ref leaf_of(const std::shared_ptr<Version>& version, DType dtype, const std::vector<Ref>& dims);
/// The version behind a Buffer leaf.
Version& version_of(const Node& buffer);
std::shared_ptr<Version> share_version(const Node& buffer);
/// Where what was recorded goes on below a node: its sources; below a leaf, the definition of a pending one.
std::span<const Ref> recorded_below(const Node& node);
/// The node without pending leaves, given what lies below it: a pending leaf is what defines it.
Ref resolved(const Node& node, const Substitution& done);

}  // namespace kontor
