// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <system_error>

#include <fmt/format.h>

namespace freshet::base {
namespace {

// A file descriptor that closes itself; -1 is none.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { Close(); }
  Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd& operator=(Fd&&) = delete;
  int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

std::string Reason(int error) { return std::generic_category().message(error); }

// Takes `fd` and gives one above the standard descriptors, which no dup2 of the child overwrites;
// -1 stays -1 with errno kept.
Fd AboveStandard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return Fd(fd);
  const Fd low(fd);
  return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

Result<Fd> OpenOutput(const std::string& path) {
  if (path.empty()) return Fd();
  Fd fd = AboveStandard(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (fd.get() < 0) {
    return Fail(ErrorCode::kIo, fmt::format("cannot write {}: {}", path, Reason(errno)));
  }
  return fd;
}

std::vector<std::string> MergedEnvironment(const std::vector<std::string>& additions) {
  std::map<std::string, std::string> merged;
  const auto put = [&merged](const std::string& entry) {
    merged[entry.substr(0, entry.find('='))] = entry;
  };
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) put(*entry);
  for (const std::string& entry : additions) put(entry);
  std::vector<std::string> out;
  for (auto& [name, entry] : merged) out.push_back(std::move(entry));
  return out;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& string : strings) out.push_back(string.data());
  out.push_back(nullptr);
  return out;
}

// Everything the child needs, made before the fork: after it only async-signal-safe calls are allowed.
struct ChildPlan {
  const char* path;
  char* const* argv;
  char* const* envp;
  int null_fd;
  int stdout_fd;
  int stderr_fd;
  int error_fd;
  int parent_death_signal;
  ProcessGroup group;
  pid_t parent;
};

void MarkAllCloseOnExec() {
#ifdef SYS_close_range
  constexpr unsigned kCloseRangeCloexec = 1u << 2;
  if (::syscall(SYS_close_range, 3u, ~0u, kCloseRangeCloexec) == 0) return;
#endif
  const long limit = ::sysconf(_SC_OPEN_MAX);
  for (int fd = 3; fd < limit && fd < 65536; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void ResetSignals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool SetUpChild(const ChildPlan& plan) {
  if (plan.group == ProcessGroup::kOwn && ::setpgid(0, 0) != 0) return false;
  if (plan.group == ProcessGroup::kOwnSession && ::setsid() < 0) return false;
  if (plan.parent_death_signal != 0) {
    if (::prctl(PR_SET_PDEATHSIG, plan.parent_death_signal) != 0) return false;
    // The parent may have died before the line above took effect.
    if (::getppid() != plan.parent) ::_exit(127);
  }
  if (::dup2(plan.null_fd, STDIN_FILENO) < 0) return false;
  if (plan.stdout_fd >= 0 && ::dup2(plan.stdout_fd, STDOUT_FILENO) < 0) return false;
  if (plan.stderr_fd >= 0 && ::dup2(plan.stderr_fd, STDERR_FILENO) < 0) return false;
  MarkAllCloseOnExec();
  ResetSignals();
  return true;
}

[[noreturn]] void RunChild(const ChildPlan& plan) {
  if (SetUpChild(plan)) ::execve(plan.path, plan.argv, plan.envp);
  const int error = errno;
  // If this write fails too, the parent sees an exit with code 127 later.
  [[maybe_unused]] const ssize_t written = ::write(plan.error_fd, &error, sizeof(error));
  ::_exit(127);
}

int SignalOf(OnParentDeath choice) {
  switch (choice) {
    case OnParentDeath::kLive: return 0;
    case OnParentDeath::kTerminate: return SIGTERM;
    case OnParentDeath::kKill: return SIGKILL;
  }
  return 0;
}

// Forks; returns the child's pid once exec has succeeded.
Result<ProcessId> Fork(const ChildPlan& plan, Fd& error_read, Fd& error_write) {
  // No handler of ours may run in the child before it has reset them.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) RunChild(plan);
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    return Fail(ErrorCode::kIo, fmt::format("cannot start {}: {}", plan.path, Reason(fork_error)));
  }
  error_write.Close();
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(error_read.get(), &error, sizeof(error));
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(sizeof(error))) return pid;
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  const bool missing = error == ENOENT || error == ENOTDIR;
  return Fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
              fmt::format("cannot start {}: {}", plan.path, Reason(error)));
}

ExitedProcess FromStatus(pid_t pid, int status) {
  if (WIFSIGNALED(status)) return {pid, 128 + WTERMSIG(status), WTERMSIG(status)};
  return {pid, WEXITSTATUS(status), 0};
}

}  // namespace

Result<ProcessId> SpawnProcess(const SpawnOptions& options) {
  Result<Fd> stdout_fd = OpenOutput(options.stdout_file);
  if (!stdout_fd) return tl::unexpected(stdout_fd.error());
  Result<Fd> stderr_fd = OpenOutput(options.stderr_file);
  if (!stderr_fd) return tl::unexpected(stderr_fd.error());
  const Fd null_fd = AboveStandard(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int pipe_fds[2];
  if (null_fd.get() < 0 || ::pipe2(pipe_fds, O_CLOEXEC) != 0) {
    return Fail(ErrorCode::kIo, fmt::format("cannot start {}: {}", options.path, Reason(errno)));
  }
  Fd error_read = AboveStandard(pipe_fds[0]);
  Fd error_write = AboveStandard(pipe_fds[1]);
  std::vector<std::string> argv = {options.path};
  argv.insert(argv.end(), options.args.begin(), options.args.end());
  std::vector<std::string> environment = MergedEnvironment(options.environment);
  const std::vector<char*> argv_pointers = Pointers(argv);
  const std::vector<char*> environment_pointers = Pointers(environment);
  const ChildPlan plan = {.path = options.path.c_str(),
                          .argv = argv_pointers.data(),
                          .envp = environment_pointers.data(),
                          .null_fd = null_fd.get(),
                          .stdout_fd = stdout_fd->get(),
                          .stderr_fd = stderr_fd->get(),
                          .error_fd = error_write.get(),
                          .parent_death_signal = SignalOf(options.on_parent_death),
                          .group = options.group,
                          .parent = ::getpid()};
  return Fork(plan, error_read, error_write);
}

Error ReplaceProcess(const std::string& path, std::vector<std::string> args) {
  std::vector<char*> words = {const_cast<char*>(path.c_str())};
  for (std::string& arg : args) words.push_back(arg.data());
  words.push_back(nullptr);
  ::execv(path.c_str(), words.data());
  const int error = errno;
  return {error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
          fmt::format("cannot run {}: {}", path, std::generic_category().message(error))};
}

Result<> SignalProcess(ProcessId pid, int signal) {
  // 0 and negative numbers mean groups to kill(2): never ours to signal.
  if (pid > 0 && ::kill(static_cast<pid_t>(pid), signal) == 0) return {};
  if (pid <= 0 || errno == ESRCH) {
    return Fail(ErrorCode::kNotFound, fmt::format("no process {}", pid));
  }
  return Fail(ErrorCode::kIo, fmt::format("cannot signal process {}: {}", pid, Reason(errno)));
}

std::string DescribeExit(const ExitedProcess& exited) {
  return exited.signal != 0 ? fmt::format("signal {}", exited.signal)
                            : fmt::format("exit {}", exited.code);
}

std::optional<ExitedProcess> ReapProcess(ProcessId pid) {
  int status = 0;
  pid_t got = 0;
  do {
    got = ::waitpid(static_cast<pid_t>(pid), &status, WNOHANG);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return std::nullopt;
  if (got < 0) return ExitedProcess{pid, 127, 0};
  return FromStatus(got, status);
}

Result<std::string> ExecutableDirectory() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    return Fail(ErrorCode::kIo, fmt::format("cannot read /proc/self/exe: {}", error.message()));
  }
  return self.parent_path().string();
}

}  // namespace freshet::base
