// SPDX-License-Identifier: Apache-2.0
#include "master/admin_server.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <utility>
#include <vector>

#include "master/admin_target.h"

namespace freshet::master {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

// A client made of a plain socket, so that it can misbehave. Every wait ends after 20 s.
class Client {
 public:
  explicit Client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    const timeval limit = {.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  // False when the server has closed its side.
  bool Send(const std::string& bytes) const {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }
  // One answer: header and body.
  std::string Receive() {
    size_t header = std::string::npos;
    while ((header = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!More()) return TakeAll();
    }
    const size_t field = buffer_.find("Content-Length: ");
    const size_t length = field < header ? std::stoul(buffer_.substr(field + 16)) : 0;
    while (buffer_.size() < header + 4 + length) {
      if (!More()) return TakeAll();
    }
    std::string out = buffer_.substr(0, header + 4 + length);
    buffer_.erase(0, out.size());
    return out;
  }
  // True once the server has ended the connection and nothing is left to read.
  bool AtEnd() { return buffer_.empty() && !More(); }

 private:
  bool More() {
    char chunk[65536];
    const ssize_t n = ::recv(fd_, chunk, sizeof(chunk), 0);
    if (n > 0) buffer_.append(chunk, static_cast<size_t>(n));
    return n > 0;
  }
  std::string TakeAll() { return std::exchange(buffer_, {}); }

  int fd_;
  bool connected_ = false;
  std::string buffer_;
};

int StatusOf(const std::string& answer) {
  return answer.rfind("HTTP/1.1 ", 0) == 0 ? std::stoi(answer.substr(9)) : 0;
}
std::string BodyOf(const std::string& answer) {
  const size_t header = answer.find("\r\n\r\n");
  return header == std::string::npos ? "" : answer.substr(header + 4);
}

// A brain that echoes, except for the requests to /hold, which it keeps.
class Brain {
 public:
  AdminHandler Handler() {
    return [this](AdminRequest request, AdminReply reply) {
      if (request.path == "/hold") {
        const std::lock_guard lock(mutex_);
        held_.push_back(std::move(reply));
        changed_.notify_all();
        return;
      }
      std::string text = request.method + " " + request.path;
      for (const auto& [name, value] : request.query) text += " " + name + "=" + value;
      if (!request.body.empty()) text += " [" + std::to_string(request.body.size()) + "]";
      reply({200, text});
    };
  }
  std::vector<AdminReply> AwaitHeld(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return held_.size() >= count; });
    return held_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<AdminReply> held_;
};

class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "admin_test.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    options_.socket_path = dir_ + "/admin.sock";
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(dir_);
  }
  void Start() {
    auto server = AdminServer::Start(options_, brain_.Handler());
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  std::string Ask(const std::string& target) const {
    Client client(options_.socket_path);
    // A server that is full answers and closes before it has read, so sending may fail; the answer is
    // there all the same.
    client.Send("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n");
    return client.Receive();
  }

  std::string dir_;
  AdminServerOptions options_;
  Brain brain_;
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, AnswersGetAndPostOnOneConnection) {
  Start();
  Client client(options_.socket_path);
  ASSERT_TRUE(client.Send("GET /v1/events?since=7&node=ps%2D0 HTTP/1.1\r\nHost: x\r\n\r\n"));
  std::string answer = client.Receive();
  EXPECT_EQ(StatusOf(answer), 200);
  EXPECT_NE(answer.find("Content-Type: application/json"), std::string::npos);
  EXPECT_EQ(BodyOf(answer), "GET /v1/events node=ps-0 since=7\n");
  ASSERT_TRUE(client.Send("POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"));
  EXPECT_EQ(BodyOf(client.Receive()), "POST /v1/stop [2]\n");
  ASSERT_TRUE(client.Send("GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  EXPECT_EQ(BodyOf(client.Receive()), "GET /last\n");
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(AdminServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  Client client(options_.socket_path);
  std::string requests;
  for (int i = 0; i < 50; ++i) {
    requests += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  }
  ASSERT_TRUE(client.Send(requests));
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(BodyOf(client.Receive()), "GET /" + std::to_string(i) + "\n");
  }
}

TEST_F(AdminServerTest, SocketIsForItsOwnerOnlyAndGoesWithTheServer) {
  Start();
  struct stat info = {};
  ASSERT_EQ(::stat(options_.socket_path.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  server_.reset();
  EXPECT_FALSE(fs::exists(options_.socket_path));
}

TEST_F(AdminServerTest, LiveSocketIsAConflictAndStaleOneIsReplaced) {
  Start();
  const auto second = AdminServer::Start(options_, brain_.Handler());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, base::ErrorCode::kConflict);
  EXPECT_EQ(StatusOf(Ask("/still-there")), 200);

  options_.socket_path = dir_ + "/stale.sock";
  const int stale = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  options_.socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(stale, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ::close(stale);
  ASSERT_TRUE(fs::exists(options_.socket_path));
  Start();
  EXPECT_EQ(StatusOf(Ask("/replaced")), 200);
}

TEST_F(AdminServerTest, PathsThatCannotBeSocketsAreErrors) {
  options_.socket_path = dir_ + "/plain";
  std::ofstream(options_.socket_path) << "precious";
  EXPECT_EQ(AdminServer::Start(options_, brain_.Handler()).error().code,
            base::ErrorCode::kConflict);
  EXPECT_EQ(fs::file_size(options_.socket_path), 8u);
  options_.socket_path = dir_ + "/" + std::string(120, 'x');
  EXPECT_EQ(AdminServer::Start(options_, brain_.Handler()).error().code,
            base::ErrorCode::kInvalidArgument);
  options_.socket_path = dir_ + "/no/such/dir.sock";
  EXPECT_EQ(AdminServer::Start(options_, brain_.Handler()).error().code, base::ErrorCode::kIo);
}

TEST_F(AdminServerTest, GarbageIsRefusedAndOthersAreServed) {
  Start();
  for (const std::string& garbage :
       {std::string("nonsense\r\n\r\n"), std::string("\x16\x03\x01\x02\x00\x01\x00", 7),
        std::string(1000, '\0'), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"),
        std::string("GET nothing HTTP/1.1\r\n\r\n"), std::string("GET /%zz HTTP/1.1\r\n\r\n")}) {
    Client client(options_.socket_path);
    ASSERT_TRUE(client.Send(garbage));
    EXPECT_EQ(StatusOf(client.Receive()), 400) << garbage.substr(0, 40);
  }
  EXPECT_EQ(StatusOf(Ask("/after")), 200);
  Client other(options_.socket_path);
  ASSERT_TRUE(other.Send("DELETE /v1/status HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(StatusOf(other.Receive()), 405);
}

TEST_F(AdminServerTest, OversizedHeaderAndBodyAreRefused) {
  Start();
  {
    Client client(options_.socket_path);
    static_cast<void>(client.Send("GET / HTTP/1.1\r\nX: " + std::string(64 << 10, 'x')));
    EXPECT_EQ(StatusOf(client.Receive()), 431);
  }
  {
    Client client(options_.socket_path);
    ASSERT_TRUE(client.Send("POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n"));
    EXPECT_EQ(StatusOf(client.Receive()), 413);
  }
  {
    Client client(options_.socket_path);
    ASSERT_TRUE(client.Send("POST /whole HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n" +
                            std::string(1 << 20, 'b')));
    EXPECT_EQ(BodyOf(client.Receive()), "POST /whole [1048576]\n");
  }
}

TEST_F(AdminServerTest, SlowAndSilentClientsAreEndedInTime) {
  options_.idle_timeout = milliseconds(100);
  Start();
  Client silent(options_.socket_path);
  Client half(options_.socket_path);
  ASSERT_TRUE(half.Send("GET /v1/sta"));
  Client idle(options_.socket_path);
  ASSERT_TRUE(idle.Send("GET /once HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(StatusOf(idle.Receive()), 200);
  EXPECT_TRUE(silent.AtEnd());
  EXPECT_TRUE(half.AtEnd());
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_EQ(StatusOf(Ask("/after")), 200);
}

TEST_F(AdminServerTest, ManySilentClientsStarveNobody) {
  Start();
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 200; ++i) {
    silent.push_back(std::make_unique<Client>(options_.socket_path));
    ASSERT_TRUE(silent.back()->connected());
    static_cast<void>(silent.back()->Send("GET"));
    if (i % 20 == 0) {
      EXPECT_EQ(StatusOf(Ask("/between")), 200);
    }
  }
  EXPECT_EQ(StatusOf(Ask("/after")), 200);
  EXPECT_TRUE(silent.front()->AtEnd());
  // The last ones have their connection still.
  ASSERT_TRUE(silent.back()->Send(" /late HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(BodyOf(silent.back()->Receive()), "GET /late\n");
}

TEST_F(AdminServerTest, ConnectionsThatAwaitTheBrainAreKeptAndOthersGet503) {
  options_.max_connections = 3;
  Start();
  std::vector<std::unique_ptr<Client>> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(std::make_unique<Client>(options_.socket_path));
    ASSERT_TRUE(waiting.back()->Send("GET /hold HTTP/1.1\r\n\r\n"));
  }
  const std::vector<AdminReply> replies = brain_.AwaitHeld(3);
  ASSERT_EQ(replies.size(), 3u);
  EXPECT_EQ(StatusOf(Ask("/one-too-many")), 503);
  for (const AdminReply& reply : replies) reply({200, "{}"});
  for (const auto& client : waiting) EXPECT_EQ(StatusOf(client->Receive()), 200);
  EXPECT_EQ(StatusOf(Ask("/again")), 200);
}

TEST_F(AdminServerTest, BrainThatDoesNotAnswerBecomes504AndItsLateAnswerIsDropped) {
  options_.request_deadline = milliseconds(50);
  Start();
  Client client(options_.socket_path);
  ASSERT_TRUE(client.Send("GET /hold HTTP/1.1\r\n\r\n"));
  const std::string answer = client.Receive();
  EXPECT_EQ(StatusOf(answer), 504);
  EXPECT_NE(BodyOf(answer).find("\"code\":\"timeout\""), std::string::npos);
  brain_.AwaitHeld(1).at(0)({200, "too late"});
  ASSERT_TRUE(client.Send("GET /next HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(BodyOf(client.Receive()), "GET /next\n");
}

TEST_F(AdminServerTest, AnswersAfterTheClientOrTheServerLeftAreHarmless) {
  Start();
  {
    Client gone(options_.socket_path);
    ASSERT_TRUE(gone.Send("GET /hold HTTP/1.1\r\n\r\n"));
    ASSERT_EQ(brain_.AwaitHeld(1).size(), 1u);
  }
  Client client(options_.socket_path);
  ASSERT_TRUE(client.Send("GET /hold HTTP/1.1\r\n\r\n"));
  const std::vector<AdminReply> replies = brain_.AwaitHeld(2);
  ASSERT_EQ(replies.size(), 2u);
  replies[0]({200, "nobody reads this"});
  EXPECT_EQ(StatusOf(Ask("/alive")), 200);
  server_.reset();
  replies[1]({200, "nor this"});
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(AdminServerTest, LargeAnswersArriveWhole) {
  auto server = AdminServer::Start(options_, [](AdminRequest, AdminReply reply) {
    reply({200, std::string(8 << 20, 'z')});
  });
  ASSERT_TRUE(server);
  EXPECT_EQ(BodyOf(Ask("/big")).size(), (8u << 20) + 1);
}

TEST(AdminErrorResponse, CodeAndMessageAreJson) {
  const AdminResponse response =
      ErrorResponse({base::ErrorCode::kConflict, "a \"quoted\"\nname \xff"});
  EXPECT_EQ(response.status, 409);
  EXPECT_EQ(
      response.body,
      "{\"error\":{\"code\":\"conflict\",\"message\":\"a \\\"quoted\\\"\\nname \xEF\xBF\xBD\"}}");
  EXPECT_EQ(ErrorResponse({base::ErrorCode::kNotFound, ""}).status, 404);
  EXPECT_EQ(ErrorResponse({base::ErrorCode::kTimeout, ""}).status, 504);
  EXPECT_EQ(ErrorResponse({base::ErrorCode::kInvalidArgument, ""}).status, 400);
  EXPECT_EQ(ErrorResponse({base::ErrorCode::kUnavailable, ""}).status, 503);
  EXPECT_EQ(ErrorResponse({base::ErrorCode::kIo, ""}).status, 500);
}

TEST(AdminTarget, PathAndQueryAreDecoded) {
  const auto target = ParseAdminTarget("/a%20b?x=1&&y&x=2&z=%3D");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->path, "/a b");
  EXPECT_EQ(target->query, (std::map<std::string, std::string>{{"x", "2"}, {"y", ""}, {"z", "="}}));
  EXPECT_TRUE(ParseAdminTarget("/?")->query.empty());
  for (const char* bad : {"", "a", "/%", "/%4", "/%4g", "/?a=%", "http://x/"}) {
    EXPECT_FALSE(ParseAdminTarget(bad)) << bad;
  }
  std::string many = "/?";
  for (int i = 0; i < 65; ++i) many += "a&";
  EXPECT_FALSE(ParseAdminTarget(many));
}

}  // namespace
}  // namespace freshet::master
