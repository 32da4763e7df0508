// SHA-256, Merkle roots and Ed25519, by OpenSSL.
#pragma once
#include <memory>

#include "swarm/bytes.h"

namespace kontor::swarm {

using Digest = Fixed<32>;
using Signature = Fixed<64>;
using PublicKey = Fixed<32>;

/// SHA-256 of the parts one after another.
Digest sha256(std::initializer_list<View> parts);
inline Digest sha256(View bytes) { return sha256({bytes}); }
/// The first eight bytes as a number: what seeds follow from.
uint64_t first_word(const Digest& digest);

/// The root of a Merkle tree over leaves (RFC 6962: a leaf is SHA-256 of 0 and its bytes, a node of 1 and its two sides, the left side
/// the greatest power of two that is less than all; of no leaves, SHA-256 of nothing).
Digest merkle_leaf(View bytes);
Digest merkle_root(std::span<const Digest> leaves);

/// A private key, and what it signs. Move-only.
class SigningKey {
 public:
  /// The key whose 32 secret bytes these are.
  explicit SigningKey(const Fixed<32>& secret);
  /// One of the system's random numbers.
  static SigningKey random();
  const PublicKey& public_key() const { return public_; }
  /// Of the parts one after another. `use` ("kontor record") keeps a signature of one kind from being one of another.
  Signature sign(std::string_view use, std::initializer_list<View> parts) const;
  const Fixed<32>& secret() const { return secret_; }

 private:
  struct Free {
    void operator()(void* key) const;
  };
  std::unique_ptr<void, Free> key_;
  PublicKey public_;
  Fixed<32> secret_;
};

bool verifies(const PublicKey& key, const Signature& signature, std::string_view use,
              std::initializer_list<View> parts);

}  // namespace kontor::swarm
