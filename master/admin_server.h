// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"

namespace freshet::master {

struct AdminRequest {
  std::string method;                             // "GET" or "POST"
  std::string path;                               // "/v1/status"; percent-decoded
  std::map<std::string, std::string> query = {};  // decoded; the last of equal names
  std::string body = {};
};

struct AdminResponse {
  int status = 200;  // of HTTP
  std::string body;
  std::string content_type = "application/json";
};

// {"error":{"code":"not found","message":".."}} with the HTTP status that fits the code.
AdminResponse ErrorResponse(const base::Error& error);

// Any thread may call it, once; later calls and calls after the server's end do nothing.
using AdminReply = std::function<void(AdminResponse)>;
// Runs on the server's thread and must not block: it hands the request over to the brain's loop.
using AdminHandler = std::function<void(AdminRequest, AdminReply)>;

struct AdminServerOptions {
  std::string socket_path;  // its directory exists
  size_t max_connections = 64;
  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = 1 << 20;
  // To send one request, from the connection's or the last answer's time on; to take one answer.
  std::chrono::milliseconds idle_timeout{10'000};
  // For the brain to answer; then the client gets 504.
  std::chrono::milliseconds request_deadline{120'000};
};

// HTTP and JSON on a UNIX socket of mode 0600, on one thread of its own. One that comes when all
// connections are taken ends the one that has been silent longest, so silent clients starve nobody;
// if all await the brain it gets 503. The end of the server ends its thread and removes the socket.
class AdminServer {
 public:
  // A socket file nobody answers on is replaced. kConflict: somebody answers, or the file is no
  // socket; kInvalidArgument: the path is too long for a socket; kIo: anything else.
  static base::Result<std::unique_ptr<AdminServer>> Start(AdminServerOptions options,
                                                          AdminHandler handler);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

 private:
  class Core;
  class Session;
  explicit AdminServer(std::unique_ptr<Core> core);

  std::unique_ptr<Core> core_;
};

}  // namespace freshet::master
