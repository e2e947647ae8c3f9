// SPDX-License-Identifier: Apache-2.0
// Asio 1.74 needs <utility> first under g++ 12.
#include <utility>

#include "cli/admin_client.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "base/file.h"

namespace freshet::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using base::ErrorCode;
using beast::error_code;
using Local = asio::local::stream_protocol;

constexpr uint64_t kMaxAnswerBytes = 64 << 20;

struct Answer {
  unsigned status = 0;
  std::string body;
};

// One request from connecting to the answer; each step starts the next.
class Exchange {
 public:
  Exchange(const std::string& path, http::request<http::string_body> request)
      : endpoint_(path), stream_(io_), request_(std::move(request)) {
    parser_.body_limit(kMaxAnswerBytes);
  }

  // Whether it failed before or after the connection stood is told by connected().
  error_code Run(std::chrono::milliseconds deadline) {
    stream_.expires_after(deadline);
    stream_.async_connect(endpoint_, [this](const error_code& error) {
      if (!Failed(error)) Write();
    });
    io_.run();
    return error_;
  }
  bool connected() const { return connected_; }
  Answer answer() const { return {parser_.get().result_int(), parser_.get().body()}; }

 private:
  bool Failed(const error_code& error) {
    error_ = error;
    return static_cast<bool>(error);
  }
  void Write() {
    connected_ = true;
    // A server that is full answers and closes before it has read: read even if writing failed.
    http::async_write(stream_, request_, [this](const error_code& error, size_t) {
      if (!error || error == asio::error::broken_pipe || !Failed(error)) Read();
    });
  }
  void Read() {
    http::async_read(stream_, buffer_, parser_,
                     [this](const error_code& error, size_t) { error_ = error; });
  }

  asio::io_context io_{1};
  Local::endpoint endpoint_;
  beast::basic_stream<Local> stream_;
  http::request<http::string_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_{1 << 16};
  error_code error_;
  bool connected_ = false;
};

base::Result<Json> Interpret(const Answer& answer, const std::string& target) {
  Json body = Json::parse(answer.body, nullptr, false);
  if (answer.status == 200 && !body.is_discarded()) return body;
  const Json& error = At(body, "error");
  if (error.is_object()) {
    return base::Fail(CodeByName(TextAt(error, "code")), TextAt(error, "message"));
  }
  return base::Fail(
      ErrorCode::kFailed,
      fmt::format("the master answered {} with HTTP {} and no JSON", target, answer.status));
}

struct Call {
  http::verb method = http::verb::get;
  const std::string& dir;
  const std::string& socket_path;
  const std::string& target;
  std::chrono::milliseconds deadline;
  std::string body = {};
};

base::Result<Json> Ask(const Call& call) {
  if (call.socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return base::Fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: a socket's path has at most {} bytes; choose a shorter --dir",
                    call.socket_path, sizeof(sockaddr_un::sun_path) - 1));
  }
  http::request<http::string_body> request(call.method, call.target, 11);
  request.set(http::field::host, "freshet");
  request.keep_alive(false);
  if (!call.body.empty()) {
    request.set(http::field::content_type, "application/json");
    request.body() = call.body;
  }
  request.prepare_payload();
  Exchange exchange(call.socket_path, std::move(request));
  const error_code error = exchange.Run(call.deadline);
  if (!error) return Interpret(exchange.answer(), call.target);
  if (error == beast::error::timeout) {
    return base::Fail(ErrorCode::kTimeout,
                      fmt::format("the master of {} has not answered {} within {} ms; see "
                                  "{}/logs/master.log",
                                  call.dir, call.target, call.deadline.count(), call.dir));
  }
  if (!exchange.connected()) {
    return base::Fail(ErrorCode::kUnreachable,
                      fmt::format("nobody answers on {}: {}; is a cluster running in {}?",
                                  call.socket_path, error.message(), call.dir));
  }
  return base::Fail(ErrorCode::kUnreachable,
                    fmt::format("the master of {} went away while asked for {}: {}", call.dir,
                                call.target, error.message()));
}

}  // namespace

base::ErrorCode CodeByName(const std::string& name) {
  for (const ErrorCode code :
       {ErrorCode::kInvalidArgument, ErrorCode::kNotFound, ErrorCode::kConflict,
        ErrorCode::kTimeout, ErrorCode::kUnreachable, ErrorCode::kCorrupt, ErrorCode::kIo,
        ErrorCode::kUnavailable, ErrorCode::kResourceExhausted}) {
    if (base::ErrorCodeName(code) == name) return code;
  }
  return ErrorCode::kFailed;
}

AdminClient::AdminClient(std::string cluster_dir)
    : cluster_dir_(std::move(cluster_dir)),
      socket_path_(base::ShortestPath(cluster_dir_ + "/admin.sock")) {}

base::Result<Json> AdminClient::Get(const std::string& target,
                                    std::chrono::milliseconds deadline) const {
  return Ask({http::verb::get, cluster_dir_, socket_path_, target, deadline});
}

base::Result<Json> AdminClient::Post(const std::string& target,
                                     std::chrono::milliseconds deadline) const {
  return Ask({http::verb::post, cluster_dir_, socket_path_, target, deadline});
}

base::Result<Json> AdminClient::Post(const std::string& target, const Json& body,
                                     std::chrono::milliseconds deadline) const {
  return Ask({http::verb::post, cluster_dir_, socket_path_, target, deadline,
              body.dump(-1, ' ', false, Json::error_handler_t::replace)});
}

bool AdminClient::SomebodyListens() const {
  if (socket_path_.size() >= sizeof(sockaddr_un::sun_path)) return false;
  asio::io_context io(1);
  Local::socket socket(io);
  error_code error;
  socket.open({}, error);
  if (!error) socket.non_blocking(true, error);
  if (!error) socket.connect(Local::endpoint(socket_path_), error);
  // A listener whose queue is full is one all the same.
  return !error || error == asio::error::try_again || error == asio::error::would_block;
}

}  // namespace freshet::cli
