#include "data/base/cli.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "version.h"

namespace ultrasr {
namespace {

constexpr int exit_interrupted = 130;  // 128 + SIGINT

// ---- --config: TOML by CLI11 itself, JSON by the class below ----

std::string config_text(const Json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
    return dump_json_line(value);
}

/// Turns {"threads": 2, "score": {"csv": "a.csv"}} into CLI11's items; else reads TOML.
class JsonOrToml : public CLI::ConfigTOML {
  public:
    std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
        const std::string text{std::istreambuf_iterator<char>(input), {}};
        const auto first = text.find_first_not_of(" \t\r\n");
        if (first == std::string::npos || text[first] != '{') {
            std::istringstream again(text);
            return CLI::ConfigTOML::from_config(again);
        }
        std::vector<CLI::ConfigItem> found;
        collect(parse_json(text, "the --config file"), {}, found);
        return found;
    }

  private:
    static void collect(const Json& object, const std::vector<std::string>& parents,
                        std::vector<CLI::ConfigItem>& found) {
        for (const auto& [key, value] : object.items()) {
            if (value.is_object()) {
                auto inner = parents;
                inner.push_back(key);
                found.push_back({inner, "++", {}});  // CLI11's mark: enter the sub-command
                collect(value, inner, found);
                found.push_back({inner, "--", {}});
                continue;
            }
            CLI::ConfigItem item{parents, key, {}};
            if (value.is_array()) {
                for (const Json& element : value) item.inputs.push_back(config_text(element));
            } else {
                item.inputs.push_back(config_text(value));
            }
            found.push_back(std::move(item));
        }
    }
};

// ---- progress on stderr ----

std::string duration(double seconds) {
    if (seconds < 10) return fmt::format("{:.1f} s", seconds);
    if (seconds < 100) return fmt::format("{:.0f} s", seconds);
    if (seconds < 6000) return fmt::format("{:.0f} min", seconds / 60);
    return fmt::format("{:.1f} h", seconds / 3600);
}

/// Draws a bar with rate and remaining time on a terminal, a line every ten seconds elsewhere.
class ProgressPrinter {
  public:
    void operator()(const Progress::Step& step) {
        using namespace std::chrono;
        const auto now = steady_clock::now();
        if (step.what != what_ || step.done < first_done_) {
            what_ = step.what;
            first_done_ = step.done;
            started_ = shown_ = now;
        }
        const double since_shown =
            duration_cast<std::chrono::duration<double>>(now - shown_).count();
        const bool finished = step.done >= step.total;
        if (terminal_ ? (since_shown < 0.1 && !finished) : since_shown < 10.0) return;
        shown_ = now;
        if (terminal_ && finished) return write_status_line("");

        // Say how far, how fast and how long still
        const double elapsed = duration_cast<std::chrono::duration<double>>(now - started_).count();
        const double worked = static_cast<double>(step.done - first_done_);
        std::string text = fmt::format("{} {}/{}", step.what, step.done, step.total);
        if (worked > 0 && elapsed > 0) {
            const double rate = worked / elapsed;
            const double left = static_cast<double>(step.total - step.done) / rate;
            text += rate >= 1 ? fmt::format(", {:.1f}/s", rate)
                              : fmt::format(", {} each", duration(1 / rate));
            text += fmt::format(", {} left", duration(left));
        }
        if (!step.note.empty()) text += fmt::format("  {}", step.note);
        if (!terminal_) return info("{}", text);
        constexpr std::size_t bar_width = 24;
        const std::size_t filled = step.total ? bar_width * step.done / step.total : 0;
        std::string line = fmt::format("[{}{}] {}", std::string(filled, '#'),
                                       std::string(bar_width - filled, '.'), text);
        winsize window{};  // a line that wraps could not be overwritten
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1) {
            line.resize(std::min<std::size_t>(line.size(), window.ws_col - 1U));
        }
        write_status_line(line);
    }

  private:
    bool terminal_ = isatty(STDERR_FILENO) != 0;
    std::string what_;
    std::size_t first_done_ = 0;
    std::chrono::steady_clock::time_point started_, shown_;
};

// ---- signals ----

extern "C" void on_signal(int) {
    static volatile std::sig_atomic_t seen = 0;
    if (seen) _exit(exit_interrupted);  // the second Ctrl-C does not wait
    seen = 1;
    Progress::interrupt();
}

void catch_signals() {
    struct sigaction action {};
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    // A file that may not grow further (ulimit -f) is a full disk, not a sudden end
    std::signal(SIGXFSZ, SIG_IGN);
}

// ---- options ----

const CLI::App& innermost(const CLI::App& app) {
    const auto chosen = app.get_subcommands();
    return chosen.empty() ? app : innermost(*chosen.front());
}

/// "ultrasr-bench score", as far as the command line went.
std::string full_name(const CLI::App& app) {
    const CLI::App& last = innermost(app);
    return &last == &app ? app.get_name() : app.get_name() + " " + last.get_name();
}

/// Long names of every option that could stand here, the parents' included.
std::string known_options(const CLI::App& app) {
    std::string names;
    for (const CLI::App* level = &innermost(app); level; level = level->get_parent()) {
        for (const CLI::Option* option : level->get_options()) {
            for (const std::string& name : option->get_lnames()) {
                names += (names.empty() ? "--" : ", --") + name;
            }
        }
    }
    return names;
}

void add_common_options(CLI::App& app, CommonOptions& options) {
    const std::string group = "Common";
    app.add_flag("--json", options.json, "print one JSON object on stdout")->group(group);
    app.add_flag("--quiet", options.quiet, "no remarks and no progress on stderr")->group(group);
    app.add_option("--threads", options.threads, "CPU threads; 0 = all")
        ->check(CLI::Range(0, 4096))
        ->capture_default_str()
        ->group(group);
    app.add_option("--seed", options.seed, "seed of everything random")
        ->capture_default_str()
        ->group(group);
    app.add_option("--device", options.device, "cpu, cuda or cuda:N")
        ->capture_default_str()
        ->check([](const std::string& text) -> std::string {
            if (text == "cpu" || text == "cuda") return {};
            if (text.starts_with("cuda:") && text.size() > 5 && text.size() < 9 &&
                text.find_first_not_of("0123456789", 5) == std::string::npos) {
                return {};
            }
            return fmt::format("--device takes cpu, cuda or cuda:N, not {}", text);
        })
        ->group(group);
    app.set_version_flag("--version", std::string(version_text))->group(group);
    if (app.get_option_no_throw("--config")) return;  // the program reads it in its own way
    app.set_config("--config", "", "JSON or TOML file of options, keys = long names", false)
        ->group(group);
    app.config_formatter(std::make_shared<JsonOrToml>());
    app.allow_config_extras(CLI::config_extras_mode::error);
}

void print_failure(const CommonOptions& options, int code, std::string_view sentence) {
    write_status_line("");
    write_log_line("error: ", sentence);
    if (!options.json) return;
    const Json object{{"error", sentence}, {"exit", code}};
    fmt::print("{}", dump_json(object));
}

}  // namespace

int run_tool(CLI::App& app, int argc, char** argv, CommonOptions& options,
             const std::function<Answer(Progress&)>& work) {
    catch_signals();
    add_common_options(app, options);
    for (CLI::App* sub : app.get_subcommands({})) sub->fallthrough();
    try {
        try {
            app.parse(argc, argv);
        } catch (const CLI::CallForHelp& help) {
            return app.exit(help);
        } catch (const CLI::CallForVersion& version) {
            return app.exit(version);
        } catch (const CLI::ExtrasError&) {
            fail(Fault::usage, "{} means nothing here; known are {}",
                 fmt::join(app.remaining(true), " "), known_options(app));
        } catch (const CLI::ConfigError& error) {
            fail(Fault::usage, "--config: {}; known keys: {}", error.what(), known_options(app));
        } catch (const CLI::FileError& error) {
            fail(Fault::input, "{}", error.what());
        } catch (const CLI::Error& error) {
            fail(Fault::usage, "{}; {} --help explains", error.what(), full_name(app));
        }
        if (options.threads == 0) {
            options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
        }
        set_quiet(options.quiet);
        Progress progress{options.quiet ? Progress::Sink{} : Progress::Sink{ProgressPrinter{}}};
        const Answer answer = work(progress);
        write_status_line("");
        const std::string text =
            options.json ? (answer.object ? dump_json(answer.object()) : "{}\n") : answer.text;
        std::fwrite(text.data(), 1, text.size(), stdout);
        if (std::fflush(stdout) != 0) fail(Fault::storage, "cannot write the result to stdout");
        return 0;
    } catch (const Interrupted&) {
        print_failure(options, exit_interrupted, "interrupted; the same command goes on from here");
        return exit_interrupted;
    } catch (...) {
        const Error error = current_error();
        const int code = static_cast<int>(error.fault());
        std::string text = error.what();
        if (error.fault() == Fault::internal) {
            text += "; this is a bug, please report it with the command and this line";
        }
        print_failure(options, code, text);
        return code;
    }
}

void require_cpu(const CommonOptions& options, std::string_view program) {
    if (options.device == "cpu") return;
    fail(Fault::device, "{} runs on the CPU only; leave --device {} out", program, options.device);
}

void add_word_option(CLI::App& app, const std::string& name, const std::vector<std::string>& words,
                     const std::string& now, const std::string& help,
                     const std::function<void(const std::string&)>& take) {
    const std::string list = fmt::format("{}", fmt::join(words, "|"));
    app.add_option_function<std::string>(
           name,
           [words, name, list, take](const std::string& word) {
               if (std::find(words.begin(), words.end(), word) == words.end()) {
                   throw CLI::ValidationError(name, "takes " + list + ", not " + word);
               }
               take(word);
           },
           help)
        ->type_name(list)
        ->default_str(now);
}

Json resolved_options(const CLI::App& app) {
    Json result = Json::object();
    for (const CLI::Option* option : app.get_options()) {
        if (option->get_lnames().empty() && option->get_positional()) continue;
        const std::string name = option->get_single_name();
        if (name == "help" || name == "version" || name == "config") continue;
        if (option->count() > 0) {
            const auto& values = option->results();
            result[name] = values.size() == 1 ? Json(values.front()) : Json(values);
        } else if (!option->get_default_str().empty()) {
            result[name] = option->get_default_str();
        }
    }
    for (const CLI::App* sub : app.get_subcommands()) {
        result[sub->get_name()] = resolved_options(*sub);
    }
    return result;
}

std::string portable_command_line(int argc, char** argv, const std::vector<std::string>& without) {
    std::string line;
    for (int i = 0; i < argc; ++i) {
        const std::string argument = argv[i];
        const std::string name = argument.substr(0, argument.find('='));
        if (std::find(without.begin(), without.end(), name) != without.end()) {
            // Its value is the next argument, unless it stands behind "=" or it is a flag
            if (name == argument && i + 1 < argc && argv[i + 1][0] != '-') ++i;
            continue;
        }
        // Cut "/a/b/c" to "c", also after "=", ":" or ","
        std::string out;
        std::size_t at = 0;
        while (at < argument.size()) {
            const bool starts =
                argument[at] == '/' &&
                (at == 0 || std::string_view("=:,").find(argument[at - 1]) != std::string::npos);
            if (!starts) {
                out += argument[at++];
                continue;
            }
            const std::size_t end = std::min(argument.find_first_of(",@", at), argument.size());
            std::string path = argument.substr(at, end - at);
            while (path.size() > 1 && path.back() == '/') path.pop_back();
            out += path.substr(path.rfind('/') + 1);
            at = end;
        }
        if (i == 0) out = out.substr(out.rfind('/') + 1);
        line += (i ? " " : "") + out;
    }
    return line;
}

ToolVersion tool_version() { return {ultrasr::version_number, ultrasr::version_commit}; }

}  // namespace ultrasr
