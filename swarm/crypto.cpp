// SHA-256, Merkle roots and Ed25519, by OpenSSL 3's EVP functions.
#include "swarm/crypto.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <bit>

#include "base/error.h"

namespace kontor::swarm {

namespace {

struct Context {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  Context() {
    if (!context) fail("swarm: OpenSSL has no memory for a digest");
  }
  ~Context() { EVP_MD_CTX_free(context); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
};

// Fetched once: OpenSSL 3 looks an algorithm up by its name each time otherwise.
const EVP_MD* sha() {
  static EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (!md) fail("swarm: this OpenSSL has no SHA-256");
  return md;
}

void need(int done, const char* what) {
  if (done != 1) fail("swarm: OpenSSL could not {}", what);
}

Bytes signed_bytes(std::string_view use, std::initializer_list<View> parts) {
  Writer out;
  out.number(use.size(), 1).add(view_of(use));
  for (const View& p : parts) out.add(p);
  return std::move(out.bytes);
}

}  // namespace

Digest sha256(std::initializer_list<View> parts) {
  thread_local Context reused;
  Digest out;
  need(EVP_DigestInit_ex2(reused.context, sha(), nullptr), "begin SHA-256");
  for (const View& p : parts) need(EVP_DigestUpdate(reused.context, p.data(), p.size()), "hash");
  need(EVP_DigestFinal_ex(reused.context, out.data(), nullptr), "end SHA-256");
  return out;
}

uint64_t first_word(const Digest& digest) { return Reader(digest, "digest").number(8); }

Digest merkle_leaf(View bytes) {
  const Fixed<1> mark{0};
  return sha256({mark, bytes});
}

// A tree of 2^k leaves and what is right of them, level by level: of each level an odd last one goes up as it is, which is
// RFC 6962's tree.
Digest merkle_root(std::span<const Digest> leaves) {
  if (leaves.empty()) return sha256(View());
  const Fixed<1> mark{1};
  std::vector<Digest> level(leaves.begin(), leaves.end());
  while (level.size() > 1) {
    size_t kept = 0;
    for (size_t i = 0; i < level.size(); i += 2)
      level[kept++] = i + 1 < level.size() ? sha256({mark, level[i], level[i + 1]}) : level[i];
    level.resize(kept);
  }
  return level[0];
}

void SigningKey::Free::operator()(void* key) const { EVP_PKEY_free(static_cast<EVP_PKEY*>(key)); }

SigningKey::SigningKey(const Fixed<32>& secret)
    : key_(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, secret.data(), secret.size())),
      secret_(secret) {
  if (!key_) fail("swarm: OpenSSL makes no Ed25519 key");
  size_t size = public_.size();
  need(EVP_PKEY_get_raw_public_key(static_cast<EVP_PKEY*>(key_.get()), public_.data(), &size), "make a key");
}

SigningKey SigningKey::random() {
  Fixed<32> secret;
  need(RAND_bytes(secret.data(), static_cast<int>(secret.size())), "draw random bytes");
  return SigningKey(secret);
}

Signature SigningKey::sign(std::string_view use, std::initializer_list<View> parts) const {
  const Context context;
  const Bytes bytes = signed_bytes(use, parts);
  Signature out;
  size_t size = out.size();
  auto* key = static_cast<EVP_PKEY*>(key_.get());
  need(EVP_DigestSignInit(context.context, nullptr, nullptr, nullptr, key), "begin a signature");
  need(EVP_DigestSign(context.context, out.data(), &size, bytes.data(), bytes.size()), "sign");
  return out;
}

bool verifies(const PublicKey& key, const Signature& signature, std::string_view use,
              std::initializer_list<View> parts) {
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> owned(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()), EVP_PKEY_free);
  if (!owned) return false;
  const Context context;
  const Bytes bytes = signed_bytes(use, parts);
  if (EVP_DigestVerifyInit(context.context, nullptr, nullptr, nullptr, owned.get()) != 1) return false;
  return EVP_DigestVerify(context.context, signature.data(), signature.size(), bytes.data(), bytes.size()) ==
         1;
}

}  // namespace kontor::swarm
