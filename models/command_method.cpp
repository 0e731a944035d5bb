// Some other program, run once a picture.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "models/method.h"

extern char** environ;

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// Splits at blanks; '...' and "..." hold blanks together. No variables, no wildcards, no shell.
std::vector<std::string> split_words(const std::string& text) {
    std::vector<std::string> words;
    std::string word;
    bool inside = false;
    char quote = 0;
    for (const char c : text) {
        if (quote) {
            if (c == quote) {
                quote = 0;
            } else {
                word += c;
            }
        } else if (c == '\'' || c == '"') {
            quote = c;
            inside = true;
        } else if (c == ' ' || c == '\t') {
            if (inside) words.push_back(std::exchange(word, {}));
            inside = false;
        } else {
            word += c;
            inside = true;
        }
    }
    if (quote) fail(Fault::usage, "a quote is not closed in command:{}", text);
    if (inside) words.push_back(word);
    return words;
}

void replace_all(std::string& text, std::string_view from, const std::string& to) {
    for (std::size_t at = text.find(from); at != std::string::npos;
         at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

/// A new folder that goes away with the object.
class WorkFolder {
  public:
    WorkFolder() {
        std::string pattern = (fs::temp_directory_path() / "ultrasr-command-XXXXXX").string();
        if (!::mkdtemp(pattern.data())) {
            fail(Fault::storage, "cannot make a folder like {}: {}", pattern,
                 std::generic_category().message(errno));
        }
        path_ = pattern;
    }
    ~WorkFolder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    WorkFolder(const WorkFolder&) = delete;
    WorkFolder& operator=(const WorkFolder&) = delete;
    const fs::path& path() const { return path_; }

  private:
    fs::path path_;
};

/// A started program in a process group of its own; killed with it unless it ended.
class Child {
  public:
    Child(const std::vector<std::string>& words, const fs::path& log) {
        std::vector<char*> argv;
        for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
        argv.push_back(nullptr);
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                         0600);
        posix_spawn_file_actions_adddup2(&files, 1, 2);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
        const int code = ::posix_spawnp(&pid_, argv[0], &files, &attributes, argv.data(), environ);
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attributes);
        if (code != 0) {
            pid_ = -1;
            fail(Fault::input, "cannot start {}: {}", words[0],
                 std::generic_category().message(code));
        }
    }
    ~Child() {
        if (pid_ < 0) return;
        ::kill(-pid_, SIGKILL);
        while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    /// True with the status once the program has ended.
    bool ended(int& status) {
        if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
        pid_ = -1;
        return true;
    }

  private:
    pid_t pid_ = -1;
};

/// The last 400 bytes of what the program wrote, on one line.
std::string last_words(const fs::path& log) {
    std::error_code ignored;
    if (!fs::exists(log, ignored)) return "it wrote nothing";
    std::string text = read_file(log);
    if (text.size() > 400) text = "..." + text.substr(text.size() - 400);
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text.empty() ? "it wrote nothing" : "it wrote: " + text;
}

class CommandMethod final : public Method {
  public:
    CommandMethod(const std::string& text, int timeout_s)
        : words_(split_words(text)), timeout_s_(timeout_s) {
        const auto names = [&](std::string_view hole) {
            return text.find(hole) != std::string::npos;
        };
        if (words_.empty() || !names("{in}") || !names("{out}")) {
            fail(Fault::usage,
                 "command: needs a program and the words {{in}} and {{out}}, for example "
                 "command:\"mysr -i {{in}} -o {{out}} -s {{scale}}\"");
        }
    }

    Image restore(const Image& lr, const RestoreRequest& request) const override {
        const WorkFolder work;
        const fs::path in = work.path() / "in.png";
        const fs::path out = work.path() / "out.png";
        const fs::path log = work.path() / "log.txt";
        write_png(in, lr);
        std::vector<std::string> words = words_;
        for (std::string& word : words) {
            replace_all(word, "{in}", in.string());
            replace_all(word, "{out}", out.string());
            replace_all(word, "{scale}", fmt::format("{}", request.scale.ratio));
        }

        // Run it, watching the clock and the user
        using Clock = std::chrono::steady_clock;
        const auto deadline = Clock::now() + std::chrono::seconds(timeout_s_);
        Child child(words, log);
        int status = 0;
        while (!child.ended(status)) {
            Progress::throw_if_interrupted();
            require(Clock::now() < deadline, "{} did not end within {} s on {}: {}", words_[0],
                    timeout_s_, request.stem, last_words(log));
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "{} failed on {} ({} {}): {}",
                words_[0], request.stem, WIFEXITED(status) ? "exit" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), last_words(log));
        require(fs::exists(out), "{} left no result for {}: {}", words_[0], request.stem,
                last_words(log));
        Image image = read_image(out).image;
        require(image.size() == request.target,
                "{} made {} x {} pixels of {}, {} x {} are needed; check its scale", words_[0],
                image.width(), image.height(), request.stem, request.target.width,
                request.target.height);
        return image;
    }

    Provenance provenance() const override {
        std::string line;  // without folders
        for (const std::string& word : words_) {
            line += (line.empty() ? "" : " ") +
                    (word.starts_with('/') ? fs::path(word).filename().string() : word);
        }
        return {.kind = "command",
                .weights = {},
                .scale_policy = "",
                .device = "",
                .dtype = "",
                .rounding = "as the program writes",
                .settings = {{"command", line}, {"timeout", fmt::format("{} s", timeout_s_)}}};
    }

    /// Its wall time holds start-up and model loading.
    bool timeless() const override { return true; }

  private:
    std::vector<std::string> words_;
    int timeout_s_;
};

}  // namespace

extern const MethodInfo command_method;
const MethodInfo command_method{
    .name = "command",
    .title = "Other program",
    .source = "command:PROGRAM ... {in} {out} {scale}, started without a shell once a picture",
    .prefix = true,
    .weight_files = {},
    .options = {},
    .make = [](const MethodOptions& o, const std::string& text) -> MethodPtr {
        return std::make_unique<CommandMethod>(text, o.command_timeout_s);
    }};

}  // namespace ultrasr
