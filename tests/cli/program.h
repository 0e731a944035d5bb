// Runs one of the project's programs as a user would.
#pragma once
#include <signal.h>
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace ultrasr::test {

/// What a program left behind.
struct Ended {
    int exit = -1;  ///< its exit code; 128 + N when signal N ended it
    std::string out;
    std::string err;
    long peak_kib = 0;  ///< largest resident memory
};

/// A program that runs in the background. Waits for it when destroyed.
class Program {
  public:
    /// name   file below $ULTRASR_BIN
    /// words  its arguments
    Program(const std::string& name, const std::vector<std::string>& words);
    ~Program();
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    void send(int signal) const { ::kill(process_, signal); }

    /// Ends after 120 s at the latest, by SIGKILL.
    Ended wait();

  private:
    pid_t process_ = -1;
    std::filesystem::path out_, err_;
    bool waited_ = false;
};

/// Runs to the end.
Ended run_program(const std::string& name, const std::vector<std::string>& words);

/// Checks that the exit code fits and stderr is one error sentence that holds every word of
/// `words`.
void check_refused(const Ended& ended, int exit, const std::vector<std::string>& words);

}  // namespace ultrasr::test
