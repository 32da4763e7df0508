// Unix sockets: one thread, poll, bounded buffers.
#include "swarm/local.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"

namespace kontor::swarm {

namespace {

constexpr size_t longest_report = 1024,
                 longest_record = size_t{1} << 20;  // bytes of a frame, by who reads it
constexpr size_t most_queued = size_t{16} << 20;    // for a peer that does not read
constexpr size_t piece = size_t{1} << 20;           // of the history, that is queued at once
constexpr size_t most_hosts = 1000;
constexpr uint64_t patience = 10'000;  // ms for a blob

uint64_t clock_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un out{};
  out.sun_family = AF_UNIX;
  if (path.size() >= sizeof out.sun_path)
    fail("{}: a socket's path has {} letters at most", path, sizeof out.sun_path - 1);
  std::copy(path.begin(), path.end(), out.sun_path);
  return out;
}

Descriptor socket_for(const std::string& path) {
  Descriptor out(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out.valid()) fail("{}: cannot make a socket: {}", path, reason(errno));
  return out;
}

int connect_to(const Descriptor& socket, const sockaddr_un& address) {
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

Pipe connected(const std::string& path) {
  const sockaddr_un address = address_of(path);
  Descriptor socket = socket_for(path);
  if (connect_to(socket, address) != 0) fail("{}: nobody answers: {}", path, reason(errno));
  return {std::move(socket), longest_record};
}

}  // namespace

void Pipe::close() {
  socket_.close();
  in_.clear(), out_.clear(), read_ = sent_ = 0;
}

void Pipe::end() {
  ended_ = true;
  out_.clear(), sent_ = 0;
}

void Pipe::send(Frame kind, View bytes) {
  if (!open() || ended_) return;
  if (out_.size() - sent_ > most_queued) return end();
  if (sent_ > most_queued / 2)
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent_)), sent_ = 0;
  Writer frame;
  frame.number(bytes.size() + 1, 4).number(static_cast<uint8_t>(kind), 1).add(bytes);
  out_.insert(out_.end(), frame.bytes.begin(), frame.bytes.end());
  flush();
}

void Pipe::flush() {
  while (open() && sent_ < out_.size()) {
    const ssize_t n = ::send(fd(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n <= 0) return end();
    sent_ += static_cast<size_t>(n);
  }
  out_.clear(), sent_ = 0;
}

bool Pipe::fill() {
  uint8_t some[1 << 16];
  in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(std::exchange(read_, 0)));
  while (open() && in_.size() <= 4 * longest_) {
    const ssize_t n = ::recv(fd(), some, sizeof some, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return !ended_ && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (n == 0) return false;
    in_.insert(in_.end(), some, some + n);
  }
  return true;
}

bool Pipe::cut(Bytes& frame) {
  const View rest = View(in_).subspan(read_);
  if (rest.size() < 4) return false;
  const size_t length = Reader(rest, "frame").number(4);
  if (length == 0 || length > longest_) return close(), false;
  if (rest.size() < 4 + length) return false;
  const View bytes = rest.subspan(4, length);
  frame.assign(bytes.begin(), bytes.end());
  read_ += 4 + length;
  return true;
}

LocalHub::LocalHub(std::string path) : path_(std::move(path)), listener_(socket_for(path_)) {
  const sockaddr_un address = address_of(path_);
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) fail("{}: there is something that is no socket", path_);
    if (connect_to(socket_for(path_), address) == 0) fail("{}: another sequencer listens there", path_);
    ::unlink(path_.c_str());
  }
  const mode_t before = ::umask(0177);
  const int bound = ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(listener_.get(), 128) != 0) fail("{}: cannot listen: {}", path_, reason(errno));
}

LocalHub::~LocalHub() { ::unlink(path_.c_str()); }

void LocalHub::admit() {
  for (;;) {
    Descriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    if (hosts_.size() < most_hosts) hosts_.push_back({Pipe(std::move(socket), longest_report)});
  }
}

void LocalHub::feed(Peer& peer) {
  if (peer.pipe.waiting()) return;
  for (size_t bytes = 0; peer.next < published_.size() && bytes < piece; ++peer.next) {
    bytes += published_[peer.next].size();
    peer.pipe.send(Frame::Record, published_[peer.next]);
  }
}

void LocalHub::hear(Peer& peer) {
  peer.pipe.receive([&](Frame kind, View bytes) {
    if (kind == Frame::Report) return came_.emplace_back(bytes.begin(), bytes.end()), void();
    if (kind == Frame::From && bytes.size() == 4) peer.next = Reader(bytes, "frame").number(4);
    else if (const auto it = kind == Frame::Want && bytes.size() == 32
                                 ? blobs_.find(Reader(bytes, "frame").fixed<32>())
                                 : blobs_.end();
             it != blobs_.end())
      peer.pipe.send(Frame::Blob, it->second);
    else peer.pipe.close();
  });
  feed(peer);
}

bool LocalHub::serve(uint64_t until) {
  std::vector<pollfd> all{{listener_.get(), POLLIN, 0}};
  for (const Peer& p : hosts_)
    all.push_back({p.pipe.fd(), static_cast<short>(POLLIN | (is_behind(p) ? POLLOUT : 0)), 0});
  const uint64_t time = clock_ms();
  const int left = time >= until ? 0 : static_cast<int>(std::min<uint64_t>(until - time, 1000));
  if (::poll(all.data(), all.size(), left) < 0) {
    if (errno == EINTR) return false;
    fail("{}: cannot wait: {}", path_, reason(errno));
  }
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (all[i + 1].revents & POLLOUT) hosts_[i].pipe.flush(), feed(hosts_[i]);
    if (all[i + 1].revents & ~POLLOUT || hosts_[i].pipe.ended()) hear(hosts_[i]);
  }
  admit();
  std::erase_if(hosts_, [](const Peer& p) { return !p.pipe.open(); });
  return true;
}

std::vector<Bytes> LocalHub::reports(uint64_t until) {
  bool over = false;
  while (came_.empty() && !over) {
    over = clock_ms() >= until;
    if (!serve(until)) break;
  }
  return std::exchange(came_, {});
}

bool LocalHub::deliver(uint64_t until) {
  serve(0);  // who has just come has its question in the socket
  serve(0);
  while (std::any_of(hosts_.begin(), hosts_.end(), [&](const Peer& p) { return is_behind(p); })) {
    if (clock_ms() >= until || !serve(until)) return false;
  }
  return true;
}

void LocalHub::report(uint32_t, View bytes) { came_.emplace_back(bytes.begin(), bytes.end()); }

void LocalHub::publish(View record) {
  published_.emplace_back(record.begin(), record.end());
  for (Peer& p : hosts_) feed(p);
}

std::vector<Bytes> LocalHub::records(size_t follower, uint64_t) {
  size_t& had = read_[follower];
  std::vector<Bytes> out(published_.begin() + static_cast<std::ptrdiff_t>(had), published_.end());
  had = published_.size();
  return out;
}

Digest LocalHub::put(View blob) {
  if (blob.size() >= longest_record)
    fail("local: a blob of {} bytes; {} at most", blob.size(), longest_record - 1);
  const Digest digest = sha256(blob);
  blobs_[digest] = Bytes(blob.begin(), blob.end());
  return digest;
}

std::optional<Bytes> LocalHub::blob(const Digest& digest) {
  const auto it = blobs_.find(digest);
  return it == blobs_.end() ? std::nullopt : std::optional(it->second);
}

uint64_t LocalHub::now() const { return clock_ms(); }

LocalLink::LocalLink(const std::string& path, uint32_t from) : path_(path), pipe_(connected(path)) {
  pipe_.send(Frame::From, Writer().number(from, 4).bytes);
}

bool LocalLink::wait(uint64_t until) {
  const uint64_t time = clock_ms();
  pollfd one{pipe_.fd(), static_cast<short>(POLLIN | (pipe_.waiting() ? POLLOUT : 0)), 0};
  const int left = time >= until ? 0 : static_cast<int>(std::min<uint64_t>(until - time, 1000));
  if (pipe_.open() && ::poll(&one, 1, left) < 0 && errno == EINTR) return false;
  pipe_.flush();
  pipe_.receive([&](Frame kind, View bytes) {
    if (kind == Frame::Record) came_.emplace_back(bytes.begin(), bytes.end());
    if (kind == Frame::Blob) blobs_[sha256(bytes)] = Bytes(bytes.begin(), bytes.end());
  });
  if (!pipe_.open() && came_.empty()) fail("{}: the sequencer has gone", path_);
  return true;
}

void LocalLink::report(uint32_t, View bytes) { pipe_.send(Frame::Report, bytes); }
void LocalLink::publish(View) { fail("local: a host publishes no records"); }

std::vector<Bytes> LocalLink::records(size_t, uint64_t until) {
  while (wait(until) && came_.empty() && clock_ms() < until) {}
  return std::exchange(came_, {});
}

Digest LocalLink::put(View blob) { return sha256(blob); }

std::optional<Bytes> LocalLink::blob(const Digest& digest) {
  pipe_.send(Frame::Want, digest);
  const uint64_t until = clock_ms() + patience;
  while (!blobs_.count(digest) && clock_ms() < until && wait(until)) {}
  const auto it = blobs_.find(digest);
  return it == blobs_.end() ? std::nullopt : std::optional(it->second);
}

uint64_t LocalLink::now() const { return clock_ms(); }

}  // namespace kontor::swarm
