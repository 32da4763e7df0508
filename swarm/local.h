// The transport `local`: processes of one machine over a Unix socket, which only this user can open. Frames: length 4 (of what follows), kind 1, bytes.
#pragma once
#include <chrono>
#include <map>

#include "base/descriptor.h"
#include "swarm/transport.h"

namespace kontor::swarm {

enum class Frame : uint8_t { Report = 1, From, Record, Want, Blob };

/// Bytes of a socket, cut into frames. A frame that is longer than the reader allows ends the connection: nothing is kept for it. What came
/// before an end still counts: frames are cut before the socket is closed, and who can't be written to any more is read to the end.
class Pipe {
 public:
  Pipe(Descriptor socket, size_t longest) : socket_(std::move(socket)), longest_(longest) {}
  int fd() const { return socket_.get(); }
  bool open() const { return socket_.valid(); }
  void close();
  /// Nothing can be sent any more; receive() has the rest, and closes.
  bool ended() const { return open() && ended_; }
  /// Queues a frame; what the other side does not read for too long ends the connection.
  void send(Frame kind, View bytes);
  void flush();
  bool waiting() const { return sent_ < out_.size(); }
  /// Reads what is there, and calls `with` for each whole frame.
  template <class F>
  void receive(F&& with) {
    const bool more = fill();
    for (Bytes frame; open() && cut(frame);) with(static_cast<Frame>(frame[0]), View(frame).subspan(1));
    if (!more) close();
  }

 private:
  Descriptor socket_;
  size_t longest_;
  Bytes in_, out_;
  size_t read_ = 0, sent_ = 0;  // of in_ and out_, how much is done
  bool ended_ = false;
  void end();
  bool fill();  ///< false: nothing will come after this
  bool cut(Bytes& frame);
};

/// The sequencer's end.
class LocalHub final : public Transport {
 public:
  /// Listens at `path`; a socket that nobody listens at any more is replaced. Throws Error with the system's reason.
  explicit LocalHub(std::string path);
  ~LocalHub() override;
  void report(uint32_t worker, View bytes) override;
  void publish(View record) override;
  std::vector<Bytes> reports(uint64_t until) override;  ///< returns as soon as some came, and at a signal
  std::vector<Bytes> records(size_t follower, uint64_t until) override;
  Digest put(View blob) override;
  std::optional<Bytes> blob(const Digest& digest) override;
  uint64_t now() const override;
  size_t hosts() const { return hosts_.size(); }
  /// Waits, until then at most, until what was published is sent to all hosts that asked for it: what a socket has taken is read though
  /// this side is gone. Returns whether it is. Reports that come meanwhile are kept.
  bool deliver(uint64_t until);

 private:
  struct Peer {
    Pipe pipe;
    size_t next = SIZE_MAX;  // the record that it has not had; none before it asked
  };
  std::string path_;
  Descriptor listener_;
  std::vector<Peer> hosts_;
  std::vector<Bytes> published_, came_;
  std::map<size_t, size_t> read_;
  std::map<Digest, Bytes> blobs_;

  /// Waits for sockets, until then at most, and does what they are ready for. Returns whether no signal ended the wait.
  bool serve(uint64_t until);
  void admit();
  void hear(Peer& peer);
  /// The next piece of what it has not had, once the piece before is out: a long history is not kept again for each who asks.
  void feed(Peer& peer);
  bool is_behind(const Peer& peer) const { return peer.pipe.waiting() || peer.next < published_.size(); }
};

/// A host's end.
class LocalLink final : public Transport {
 public:
  /// Records come from step `from` on. Throws Error with the system's reason where nobody listens.
  explicit LocalLink(const std::string& path, uint32_t from = 0);
  void report(uint32_t worker, View bytes) override;
  void publish(View record) override;  ///< throws Error: hosts do not
  std::vector<Bytes> reports(uint64_t) override { return {}; }
  /// Returns as soon as some came, and at a signal. Throws Error when the connection ends.
  std::vector<Bytes> records(size_t follower, uint64_t until) override;
  Digest put(View blob) override;
  std::optional<Bytes> blob(const Digest& digest) override;  ///< waits for ten seconds at most
  uint64_t now() const override;

 private:
  std::string path_;
  Pipe pipe_;
  std::vector<Bytes> came_;
  std::map<Digest, Bytes> blobs_;
  bool wait(uint64_t until);  ///< whether no signal ended it
};

}  // namespace kontor::swarm
