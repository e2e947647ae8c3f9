// SPDX-License-Identifier: Apache-2.0
// Asio 1.74 needs <utility> first under g++ 12.
#include <utility>

#include "master/admin_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>

#include "master/admin_target.h"

namespace freshet::master {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using base::ErrorCode;
using beast::error_code;
using Local = asio::local::stream_protocol;
using Executor = asio::thread_pool::executor_type;

constexpr int kListenBacklog = 128;
constexpr std::chrono::milliseconds kAcceptRetry{100};

int HttpStatusFor(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return 400;
    case ErrorCode::kNotFound: return 404;
    case ErrorCode::kConflict: return 409;
    case ErrorCode::kTimeout: return 504;
    case ErrorCode::kUnreachable: return 502;
    case ErrorCode::kUnavailable:
    case ErrorCode::kResourceExhausted: return 503;
    case ErrorCode::kFailed:
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo: return 500;
  }
  return 500;
}

AdminResponse ErrorResponse(int status, ErrorCode code, const std::string& message) {
  AdminResponse response = master::ErrorResponse(base::Error{code, message});
  response.status = status;
  return response;
}

// What is said to a client whose bytes are not the request we can take.
AdminResponse ResponseToBadRequest(const error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return ErrorResponse(431, ErrorCode::kInvalidArgument, "the request's header is too long");
  }
  if (error == http::error::body_limit) {
    return ErrorResponse(413, ErrorCode::kInvalidArgument, "the request's body is too long");
  }
  return ErrorResponse(400, ErrorCode::kInvalidArgument, "not an HTTP request: " + error.message());
}

// Somebody may answer on the socket file: true if so, error if the file is none of ours.
base::Result<bool> SomebodyAnswers(const std::string& path) {
  struct stat info = {};
  if (::lstat(path.c_str(), &info) != 0) return false;
  if (!S_ISSOCK(info.st_mode)) {
    return base::Fail(ErrorCode::kConflict,
                      fmt::format("{} exists and is no socket; move it away", path));
  }
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return base::Fail(ErrorCode::kIo, "cannot make a socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const bool connected =
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int error = errno;
  ::close(fd);
  // Anything but a refusal (say, a full backlog) means that a process holds it.
  return connected || (error != ECONNREFUSED && error != ENOENT);
}

// Lets replies from any thread reach the server's thread as long as it is there.
class ReplyGate {
 public:
  explicit ReplyGate(Executor executor) : executor_(std::move(executor)) {}
  void Post(std::function<void()> callback) {
    const std::lock_guard lock(mutex_);
    if (executor_) asio::post(*executor_, std::move(callback));
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    executor_.reset();
  }

 private:
  std::mutex mutex_;
  std::optional<Executor> executor_;  // guarded by mutex_
};

}  // namespace

AdminResponse ErrorResponse(const base::Error& error) {
  const nlohmann::json body = {
      {"error", {{"code", base::ErrorCodeName(error.code)}, {"message", error.message}}}};
  return {HttpStatusFor(error.code),
          body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

// The listening side. Everything but construction and Stop happens on the pool's one thread.
class AdminServer::Core {
 public:
  Core(AdminServerOptions options, AdminHandler handler);
  ~Core() { Stop(); }

  base::Result<> Listen();
  void Stop();

  const AdminServerOptions& options() const { return options_; }
  const std::shared_ptr<ReplyGate>& gate() const { return gate_; }
  void Handle(AdminRequest request, AdminReply reply) {
    handler_(std::move(request), std::move(reply));
  }
  uint64_t NextReadOrder() { return ++read_order_; }
  void Forget(Session& session) { sessions_.erase(&session); }

 private:
  void Accept();
  void OnAccept(const error_code& error, Local::socket socket);
  void MakeRoom();
  void CloseAll();

  const AdminServerOptions options_;
  const AdminHandler handler_;
  asio::thread_pool pool_{1};
  std::shared_ptr<ReplyGate> gate_;
  Local::acceptor acceptor_;
  asio::steady_timer accept_retry_;
  std::set<Session*> sessions_;
  uint64_t read_order_ = 0;
  bool bound_ = false;
  bool stopped_ = false;
};

// One connection. Kept alive by its pending operation; closing it ends that.
class AdminServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Local::socket socket, Core& core)
      : core_(core),
        stream_(std::move(socket)),
        deadline_(stream_.get_executor()),
        buffer_(core.options().max_header_bytes + 1024) {}

  void Read();
  void Close();
  // Refuses the connection without reading anything.
  void Refuse();
  // When it began to wait for a request, in an order of all connections; none: the brain's turn.
  std::optional<uint64_t> reading_since() const { return reading_since_; }

 private:
  void OnRead(const error_code& error);
  void Dispatch();
  void Answer(uint64_t request, AdminResponse response);
  void Write(AdminResponse response, bool keep_alive);

  Core& core_;
  beast::basic_stream<Local> stream_;
  asio::steady_timer deadline_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  std::optional<uint64_t> reading_since_;
  uint64_t last_request_ = 0;
  uint64_t awaited_request_ = 0;  // 0: none
};

void AdminServer::Session::Read() {
  reading_since_ = core_.NextReadOrder();
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(core_.options().max_header_bytes));
  parser_->body_limit(core_.options().max_body_bytes);
  stream_.expires_after(core_.options().idle_timeout);
  http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](const error_code& error, size_t) { self->OnRead(error); });
}

void AdminServer::Session::OnRead(const error_code& error) {
  reading_since_.reset();
  if (!error) return Dispatch();
  const bool is_http = error.category() == make_error_code(http::error::end_of_stream).category();
  const bool ended = error == http::error::end_of_stream || error == http::error::partial_message;
  if (is_http && !ended) return Write(ResponseToBadRequest(error), false);
  Close();
}

void AdminServer::Session::Dispatch() {
  const auto& request = parser_->get();
  if (request.method() != http::verb::get && request.method() != http::verb::post) {
    return Write(ErrorResponse(405, ErrorCode::kInvalidArgument, "only GET and POST are served"),
                 false);
  }
  const std::string_view target(request.target().data(), request.target().size());
  base::Result<AdminTarget> parsed = ParseAdminTarget(target);
  if (!parsed) return Write(master::ErrorResponse(parsed.error()), request.keep_alive());
  AdminRequest out{.method = std::string(request.method_string()),
                   .path = std::move(parsed->path),
                   .query = std::move(parsed->query),
                   .body = request.body()};
  const uint64_t id = ++last_request_;
  awaited_request_ = id;
  stream_.expires_never();
  deadline_.expires_after(core_.options().request_deadline);
  deadline_.async_wait([self = shared_from_this(), id](const error_code& error) {
    if (error) return;
    self->Answer(id, ErrorResponse(504, ErrorCode::kTimeout,
                                   "the master has not answered in time; it may still act"));
  });
  // Nothing but weak references leave this thread: the connection is destroyed here.
  core_.Handle(std::move(out),
               [gate = core_.gate(), weak = weak_from_this(), id](AdminResponse response) {
                 gate->Post([weak, id, response = std::move(response)]() mutable {
                   if (const std::shared_ptr<Session> self = weak.lock())
                     self->Answer(id, std::move(response));
                 });
               });
}

void AdminServer::Session::Answer(uint64_t request, AdminResponse response) {
  if (awaited_request_ != request) return;
  awaited_request_ = 0;
  const std::shared_ptr<Session> self = shared_from_this();  // the timer may be the last owner
  deadline_.cancel();
  Write(std::move(response), parser_->get().keep_alive());
}

void AdminServer::Session::Write(AdminResponse response, bool keep_alive) {
  response_ = {};
  response_.result(static_cast<unsigned>(response.status));
  response_.version(11);
  response_.keep_alive(keep_alive);
  response_.set(http::field::content_type, response.content_type);
  response_.body() = std::move(response.body);
  if (response_.body().empty() || response_.body().back() != '\n') response_.body() += '\n';
  response_.prepare_payload();
  stream_.expires_after(core_.options().idle_timeout);
  http::async_write(stream_, response_,
                    [self = shared_from_this(), keep_alive](const error_code& error, size_t) {
                      if (error || !keep_alive) return self->Close();
                      self->Read();
                    });
}

void AdminServer::Session::Close() {
  awaited_request_ = 0;
  reading_since_.reset();
  deadline_.cancel();
  error_code ignored;
  stream_.socket().shutdown(Local::socket::shutdown_both, ignored);
  stream_.close();
  core_.Forget(*this);
}

void AdminServer::Session::Refuse() {
  Write(ErrorResponse(503, ErrorCode::kResourceExhausted,
                      "all connections to the master are busy; try again"),
        false);
}

AdminServer::Core::Core(AdminServerOptions options, AdminHandler handler)
    : options_(std::move(options)),
      handler_(std::move(handler)),
      gate_(std::make_shared<ReplyGate>(pool_.get_executor())),
      acceptor_(pool_.get_executor()),
      accept_retry_(pool_.get_executor()) {}

base::Result<> AdminServer::Core::Listen() {
  const std::string& path = options_.socket_path;
  if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
    return base::Fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: a socket's path has at most {} bytes; choose a shorter --dir", path,
                    sizeof(sockaddr_un::sun_path) - 1));
  }
  base::Result<bool> taken = SomebodyAnswers(path);
  if (!taken) return tl::unexpected(taken.error());
  if (*taken) {
    return base::Fail(ErrorCode::kConflict, fmt::format("a master already answers on {}", path));
  }
  ::unlink(path.c_str());
  error_code error;
  acceptor_.open(Local(), error);
  // The mode is given before the file exists: nobody can connect in between.
  if (!error && ::fchmod(acceptor_.native_handle(), 0600) != 0) {
    error.assign(errno, boost::system::generic_category());
  }
  if (!error) acceptor_.bind(Local::endpoint(path), error);
  if (!error) bound_ = true;
  if (!error) acceptor_.listen(kListenBacklog, error);
  if (error) {
    return base::Fail(ErrorCode::kIo,
                      fmt::format("cannot listen on {}: {}", path, error.message()));
  }
  asio::post(pool_, [this] { Accept(); });
  return {};
}

void AdminServer::Core::Stop() {
  if (stopped_) return;
  stopped_ = true;
  gate_->Close();
  asio::post(pool_, [this] { CloseAll(); });
  // Every pending operation was cancelled, so this returns at once.
  pool_.join();
  if (bound_) ::unlink(options_.socket_path.c_str());
}

void AdminServer::Core::CloseAll() {
  error_code ignored;
  acceptor_.close(ignored);
  accept_retry_.cancel();
  while (!sessions_.empty()) (*sessions_.begin())->Close();
}

void AdminServer::Core::Accept() {
  acceptor_.async_accept([this](const error_code& error, Local::socket socket) {
    OnAccept(error, std::move(socket));
  });
}

void AdminServer::Core::OnAccept(const error_code& error, Local::socket socket) {
  if (!acceptor_.is_open()) return;
  if (error) {
    // Out of descriptors, most likely: they come back.
    accept_retry_.expires_after(kAcceptRetry);
    accept_retry_.async_wait([this](const error_code& stopped) {
      if (!stopped && acceptor_.is_open()) Accept();
    });
    return;
  }
  MakeRoom();
  const bool full = sessions_.size() >= options_.max_connections;
  const auto session = std::make_shared<Session>(std::move(socket), *this);
  sessions_.insert(session.get());
  if (full) {
    session->Refuse();
  } else {
    session->Read();
  }
  Accept();
}

void AdminServer::Core::MakeRoom() {
  if (sessions_.size() < options_.max_connections) return;
  Session* longest = nullptr;
  for (Session* session : sessions_) {
    if (!session->reading_since()) continue;
    if (longest == nullptr || *session->reading_since() < *longest->reading_since()) {
      longest = session;
    }
  }
  if (longest != nullptr) longest->Close();
}

AdminServer::AdminServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}

AdminServer::~AdminServer() = default;

base::Result<std::unique_ptr<AdminServer>> AdminServer::Start(AdminServerOptions options,
                                                              AdminHandler handler) {
  auto core = std::make_unique<Core>(std::move(options), std::move(handler));
  if (base::Result<> listening = core->Listen(); !listening) {
    return tl::unexpected(listening.error());
  }
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(core)));
}

}  // namespace freshet::master
