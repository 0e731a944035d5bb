#include "models/training/run_log.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/log.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

Json json_of(const NamedNumbers& numbers) {
    Json object = Json::object();
    for (const auto& [name, value] : numbers) object[name] = json_number(value);
    return object;
}

/// Calls take(line, number from 1) for every line that ends in a newline.
template <class Take>
void each_whole_line(std::string_view text, Take&& take) {
    std::size_t number = 0;
    for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string_view::npos;
         begin = end + 1) {
        take(text.substr(begin, end - begin), ++number);
    }
}

LogLine parse_line(std::string_view text, const fs::path& path, std::size_t number) {
    const std::string what = fmt::format("{}, line {}", path.string(), number);
    return log_line_of(parse_json(text, what), what);
}

/// Takes the stage's lines after `first_step` out of the file. Gives the path back.
const fs::path& cut_repeated(const fs::path& path, const std::string& stage,
                             std::int64_t first_step) {
    if (!fs::exists(path)) return path;
    const std::string text = read_file(path);
    std::string kept;
    std::size_t whole = 0;  // bytes of whole lines; LineLog cuts what follows them
    each_whole_line(text, [&](std::string_view line, std::size_t number) {
        whole += line.size() + 1;
        try {
            const LogLine old = parse_line(line, path, number);
            if (old.stage == stage && old.step > first_step) return;
        } catch (const Error& error) {
            warn("{}; the line is dropped, nothing else is lost", error.sentence());
            return;
        }
        kept.append(line).push_back('\n');
    });
    if (kept.size() != whole) write_file(path, kept);
    return path;
}

std::string duration(double seconds) {
    const auto whole = static_cast<std::int64_t>(std::llround(seconds));
    const std::int64_t minutes = (whole + 30) / 60, hours = minutes / 60;
    if (whole < 100) return fmt::format("{} s", whole);
    if (minutes < 60) return fmt::format("{} min", minutes);
    if (hours < 48) return fmt::format("{} h {} min", hours, minutes % 60);
    return fmt::format("{} d {} h", hours / 24, hours % 24);
}

/// So many significant digits; no exponent between 0.0001 and a million.
std::string short_number(double value, int digits) {
    const double size = std::abs(value);
    return size >= std::pow(10.0, digits) && size < 1e6 ? fmt::format("{:.0f}", value)
                                                        : fmt::format("{:.{}g}", value, digits);
}

}  // namespace

Json json_of(const LogLine& line) {
    Json object{{"stage", line.stage},
                {"step", line.step},
                {"steps", line.steps},
                {"losses", json_of(line.losses)}};
    const auto add = [&](const char* name, const std::optional<double>& value) {
        if (value) object[name] = json_number(*value);
    };
    add("gradient_norm", line.gradient_norm);
    add("learning_rate", line.learning_rate);
    object["skipped"] = line.skipped;
    for (const auto& [name, value] : line.more) {
        const bool reserved = object.contains(name) || name == "gradient_norm" ||
                              name == "learning_rate" || name == "images_per_second" ||
                              name == "wait_share" || name == "memory_mb";
        if (reserved) fail(Fault::internal, "a log line has two numbers called {}", name);
        object[name] = json_number(value);
    }
    add("images_per_second", line.images_per_second);
    add("wait_share", line.wait_share);
    if (line.memory_mb) object["memory_mb"] = *line.memory_mb;
    return object;
}

LogLine log_line_of(const Json& object, std::string_view what) {
    LogLine line;
    const auto whole = [&](const Json& value, const char* name) {
        require(value.is_number_integer(), "{}: \"{}\" is no whole number", what, name);
        return value.get<std::int64_t>();
    };
    const auto needed = [&](const char* name) -> const Json& {
        require(object.is_object() && object.contains(name),
                "{}: not a line of a training log, \"{}\" is missing", what, name);
        return object.at(name);
    };
    const auto number = [&](const std::string& name, const Json& value) {
        return while_doing(fmt::format("{}: \"{}\"", what, name),
                           [&] { return number_from_json(value); });
    };
    const Json& stage = needed("stage");
    require(stage.is_string(), "{}: \"stage\" is no text", what);
    line.stage = stage.get<std::string>();
    line.step = whole(needed("step"), "step");
    line.steps = whole(needed("steps"), "steps");
    const Json& losses = needed("losses");
    require(losses.is_object(), "{}: \"losses\" is no object", what);
    for (const auto& [name, value] : losses.items()) {
        line.losses.emplace_back(name, number(name, value));
    }
    for (const auto& [name, value] : object.items()) {
        if (name == "stage" || name == "step" || name == "steps" || name == "losses") continue;
        if (name == "gradient_norm") {
            line.gradient_norm = number(name, value);
        } else if (name == "learning_rate") {
            line.learning_rate = number(name, value);
        } else if (name == "images_per_second") {
            line.images_per_second = number(name, value);
        } else if (name == "wait_share") {
            line.wait_share = number(name, value);
        } else if (name == "memory_mb") {
            line.memory_mb = whole(value, "memory_mb");
        } else if (name == "skipped") {
            line.skipped = whole(value, "skipped");
        } else {
            line.more.emplace_back(name, number(name, value));
        }
    }
    return line;
}

RunLog::RunLog(const fs::path& path, const std::string& stage, std::int64_t first_step)
    : log_(cut_repeated(path, stage, first_step)) {}

void RunLog::append(const LogLine& line) { log_.append(dump_json_line(json_of(line))); }

std::vector<LogLine> read_log(const fs::path& path) {
    std::vector<LogLine> lines;
    each_whole_line(read_file(path), [&](std::string_view line, std::size_t number) {
        lines.push_back(parse_line(line, path, number));
    });
    return lines;
}

std::string progress_note(const LogLine& line) {
    std::string text;
    const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "  ") + part; };
    if (!line.losses.empty()) {
        std::string loss;
        for (std::size_t i = 0; i < line.losses.size(); ++i) {
            const auto& [name, value] = line.losses[i];
            loss += (i == 0 ? "" : i == 1 ? " (" : " ") + name + " " + short_number(value, 3);
        }
        add(line.losses.size() > 1 ? loss + ")" : loss);
    }
    if (line.gradient_norm) add("grad " + short_number(*line.gradient_norm, 2));
    if (line.images_per_second) add(short_number(*line.images_per_second, 3) + " images/s");
    if (line.wait_share) add(fmt::format("wait {:.0f} %", 100.0 * *line.wait_share));
    if (line.skipped > 0) {
        add(fmt::format("{} step{} skipped", line.skipped, line.skipped == 1 ? "" : "s"));
    }
    return text;
}

std::string progress_line(const LogLine& line, double seconds_left) {
    std::string text = fmt::format("{} {}/{}", line.stage, line.step, line.steps);
    if (const std::string note = progress_note(line); !note.empty()) text += "  " + note;
    // Beyond 10 years nobody waits, and the number fits no integer
    if (seconds_left >= 0 && seconds_left < 3.2e8) text += "  " + duration(seconds_left) + " left";
    return text;
}

}  // namespace ultrasr
