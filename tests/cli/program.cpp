#include "tests/cli/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "tests/test.h"

namespace ultrasr::test {
namespace {

std::filesystem::path temporary_file() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ultrasr-out-XXXXXX").string();
    const int descriptor = ::mkstemp(pattern.data());
    if (descriptor < 0) throw std::runtime_error("no temporary file");
    ::close(descriptor);
    return pattern;
}

std::string take_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    std::filesystem::remove(path);
    return text;
}

}  // namespace

Program::Program(const std::string& name, const std::vector<std::string>& words)
    : out_(temporary_file()), err_(temporary_file()) {
    const char* folder = std::getenv("ULTRASR_BIN");
    if (!folder) throw std::runtime_error("set ULTRASR_BIN to the folder of the programs");
    const std::string path = (std::filesystem::path(folder) / name).string();
    std::vector<std::string> all{path};
    all.insert(all.end(), words.begin(), words.end());
    std::vector<char*> argv;
    for (std::string& word : all) argv.push_back(word.data());
    argv.push_back(nullptr);
    process_ = ::fork();
    if (process_ < 0) throw std::runtime_error("fork failed");
    if (process_ == 0) {
        ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
        ::dup2(::open(out_.c_str(), O_WRONLY), STDOUT_FILENO);
        ::dup2(::open(err_.c_str(), O_WRONLY), STDERR_FILENO);
        ::execv(path.c_str(), argv.data());
        ::_exit(127);
    }
}

Program::~Program() {
    if (!waited_) wait();
}

Ended Program::wait() {
    using namespace std::chrono;
    const auto deadline = steady_clock::now() + seconds(120);
    int status = 0;
    struct rusage usage {};
    while (::wait4(process_, &status, WNOHANG, &usage) == 0) {
        if (steady_clock::now() > deadline) ::kill(process_, SIGKILL);
        std::this_thread::sleep_for(milliseconds(2));
    }
    waited_ = true;
    Ended ended;
    ended.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ended.peak_kib = usage.ru_maxrss;
    ended.out = take_file(out_);
    ended.err = take_file(err_);
    return ended;
}

Ended run_program(const std::string& name, const std::vector<std::string>& words) {
    return Program(name, words).wait();
}

void check_refused(const Ended& ended, int exit, const std::vector<std::string>& words) {
    CAPTURE(ended.err);
    CHECK(ended.exit == exit);
    const std::string mark = "error: ";
    const std::size_t first = ended.err.find(mark);
    CHECK(first != std::string::npos);
    CHECK(first == ended.err.rfind(mark));
    CHECK(ended.err.find("terminate called") == std::string::npos);
    CHECK(ended.err.find("this is a bug") == std::string::npos);
    for (const std::string& word : words) {
        CAPTURE(word);
        CHECK(ended.err.find(word) != std::string::npos);
    }
}

}  // namespace ultrasr::test
