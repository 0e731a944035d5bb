#include "degradation/record.h"

#include <array>
#include <set>
#include <fmt/format.h>

#include "data/base/error.h"
#include "degradation/json_fields.h"

namespace ultrasr {
namespace {

Json steps_json(const std::vector<NamedStep>& steps, const Json& measured) {
    Json list = Json::array();
    for (const NamedStep& step : steps) {
        Json entry{{"name", step.name}, {"step", step.kind}, {"params", step.step->params()}};
        if (measured.contains(step.name)) entry["measured"] = measured[step.name];
        list.push_back(std::move(entry));
    }
    return list;
}

/// Poisson vals that came from the picture are given when the record is replayed.
Json replayed_params(const Json& entry) {
    Json params = entry.at("params");
    if (entry.at("step") == "poisson_noise" && params.contains("vals") &&
        params["vals"].is_string() && entry.contains("measured")) {
        params["vals"] = entry["measured"].at("vals");
    }
    return params;
}

std::uint64_t whole_number(const Json& object, const char* key) {
    const Json& value = object.at(key);
    require(value.is_number_integer() && value >= 0, "'{}' is a whole number from 0 up, not {}",
            key, dump_json_line(value));
    return value.get<std::uint64_t>();
}

const Json& list_at(const Json& object, const char* key) {
    const Json& value = object.at(key);
    require(value.is_array(), "'{}' is a list, not {}", key, dump_json_line(value));
    return value;
}

std::uint64_t stream_id_of(const Json& record) {
    const auto text = record.at("stream_id").get<std::string>();
    require(!text.empty() && text.size() <= 12 &&
                text.find_first_not_of("0123456789abcdef") == std::string::npos,
            "'stream_id' is twelve hexadecimal digits, not '{}'", text);
    return std::stoull(text, nullptr, 16);
}

Tier tier_of(const Json& record) {
    const auto word = record.at("tier").get<std::string>();
    require(word == "exact" || word == "fast", "'tier' is exact or fast, not '{}'", word);
    return word == "fast" ? Tier::fast : Tier::exact;
}

std::vector<NamedStep> steps_of(const Json& object, const char* key, Tier tier) {
    std::vector<NamedStep> steps;
    for (const Json& entry : list_at(object, key)) {
        const std::string name = entry.at("name").get<std::string>();
        steps.push_back(while_doing("step " + name, [&] {
            return named_step(name, entry.at("step").get<std::string>(), replayed_params(entry),
                              tier);
        }));
    }
    return steps;
}

PixelSize size_of(const Json& height_width) {
    return {height_width.at(1).get<int>(), height_width.at(0).get<int>()};
}

Json json_of(PixelSize size) { return {size.height, size.width}; }

/// Calls `visit(prefix, step entry)` for all steps: "" for the shared ones, "x8" ... for levels.
template <class Record, class Visit>
void visit_steps(Record& record, Visit&& visit) {
    for (auto& entry : record["shared"]) visit(std::string(), entry);
    for (auto& level : record["levels"]) {
        const auto name = level["name"].template get<std::string>();
        for (auto& entry : level["steps"]) visit(name, entry);
        for (auto& entry : level["back"]) visit(name, entry);
    }
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> short_names{
    {{"jpeg1_q", "stage1.jpeg.quality"},
     {"jpeg2_q", "final.jpeg.quality"},
     {"sigma1", "stage1.noise.sigma"},
     {"sigma2", "stage2.noise.sigma"},
     {"scale1", "stage1.noise.scale"},
     {"scale2", "stage2.noise.scale"},
     {"resize1", "stage1.resize.ratio"}}};

/// The value below a step's params by "kernel.sigma_x"; null when there is none.
Json* parameter(Json& params, std::string_view path) {
    Json* at = &params;
    while (!path.empty()) {
        const std::size_t dot = path.find('.');
        const std::string key(path.substr(0, dot));
        if (!at->is_object() || !at->contains(key)) return nullptr;
        at = &(*at)[key];
        path = dot == std::string_view::npos ? "" : path.substr(dot + 1);
    }
    return at;
}

void list_parameters(const std::string& prefix, const Json& params, std::set<std::string>& names) {
    for (const auto& [key, value] : params.items()) {
        if (value.is_object()) {
            list_parameters(prefix + "." + key, value, names);
        } else {
            names.insert(prefix + "." + key);
        }
    }
}

std::string words_of(const Json& params) {
    std::string words;
    for (const auto& [key, value] : params.items()) {
        if (key == "field" || key == "level") continue;
        words += words.empty() ? "" : ", ";
        if (value.is_object()) {
            words += words_of(value);
        } else if (value.is_number_float()) {
            words += fmt::format("{} {:.4g}", key, value.get<double>());
        } else if (value.is_string()) {
            words += fmt::format("{} {}", key, value.get<std::string>());
        } else {
            words += fmt::format("{} {}", key, dump_json_line(value));
        }
    }
    return words;
}

}  // namespace

Json record_of(const Plan& plan, const Degraded& result) {
    Json record;
    record["seed"] = plan.stream.seed;
    record["stream_id"] = fmt::format("{:012x}", plan.stream.id);
    record["variant"] = plan.stream.variant;
    record["gt"] = json_of(plan.gt);
    record["couple"] = couple_name(plan.couple);
    record["tier"] = plan.tier == Tier::exact ? "exact" : "fast";
    record["draws"] = plan.draws;
    record["shared"] = steps_json(plan.shared, result.measured);
    Json levels = Json::array();
    for (std::size_t i = 0; i < plan.levels.size(); ++i) {
        const LevelPlan& level = plan.levels[i];
        Json entry;
        entry["name"] = level_name(level);
        entry["scale"] = level.scale;
        entry["scale_effective"] = {static_cast<double>(plan.gt.height) / level.lr.height,
                                    static_cast<double>(plan.gt.width) / level.lr.width};
        entry["preset"] = level.preset;
        entry["level"] = level.level;
        entry["lr"] = json_of(level.lr);
        if (level.input >= 0) entry["input"] = level.input;
        entry["draws"] = level.draws;
        entry["steps"] = steps_json(level.steps, result.levels[i].measured);
        entry["back"] = steps_json(level.back, result.levels[i].measured);
        levels.push_back(std::move(entry));
    }
    record["levels"] = std::move(levels);
    return record;
}

Plan plan_from_record(const Json& record) {
    std::string id = "?";
    try {
        if (record.contains("id")) id = record["id"].get<std::string>();
        Plan plan;
        plan.stream.seed = whole_number(record, "seed");
        plan.stream.id = stream_id_of(record);
        plan.stream.variant = static_cast<std::uint32_t>(whole_number(record, "variant"));
        plan.gt = size_of(record.at("gt"));
        plan.couple = couple(record.at("couple").get<std::string>());
        plan.tier = tier_of(record);
        plan.draws = record.at("draws");
        plan.shared = steps_of(record, "shared", plan.tier);
        for (const Json& entry : list_at(record, "levels")) {
            LevelPlan level;
            level.scale = static_cast<int>(whole_number(entry, "scale"));
            level.preset = entry.at("preset").get<std::string>();
            level.level = static_cast<std::uint32_t>(whole_number(entry, "level"));
            level.lr = size_of(entry.at("lr"));
            level.input = entry.value("input", -1);
            require(level.input < static_cast<int>(plan.levels.size()),
                    "a level is made from one that comes later");
            level.draws = entry.at("draws");
            level.steps = steps_of(entry, "steps", plan.tier);
            level.back = steps_of(entry, "back", plan.tier);
            plan.levels.push_back(std::move(level));
        }
        return plan;
    } catch (const Error& error) {
        fail(Fault::input, "record {}: {}", id, error.sentence());
    } catch (const std::exception& error) {  // a field is missing or of another kind
        fail(Fault::input, "record {} is not one of ultrasr-degrade: {}", id, error.what());
    }
}

void override_parameter_(Json& record, std::string_view assignment) {
    const std::size_t equals = assignment.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == assignment.size()) {
        fail(Fault::usage, "--override takes NAME=VALUE, not '{}'", assignment);
    }
    std::string name(assignment.substr(0, equals));
    const std::string text(assignment.substr(equals + 1));
    for (const auto& [alias, full] : short_names) {
        if (name == alias) name = full;
    }
    Json value = Json::parse(text, nullptr, false);
    if (value.is_discarded()) value = text;

    bool found = false;
    std::set<std::string> known;
    visit_steps(record, [&](const std::string& level, Json& entry) {
        const std::string step = entry["name"].get<std::string>();
        list_parameters(step, entry["params"], known);
        std::string_view wanted = name;
        if (!level.empty() && wanted.starts_with(level + "."))
            wanted.remove_prefix(level.size() + 1);
        if (!wanted.starts_with(step + ".")) return;
        wanted.remove_prefix(step.size() + 1);
        if (entry["step"] == "poisson_noise" && wanted == "vals") entry.erase("measured");
        if (Json* at = parameter(entry["params"], wanted)) {
            *at = value;
            found = true;
        }
    });
    if (found) return;
    std::string list;
    for (const std::string& entry : known) list += (list.empty() ? "" : ", ") + entry;
    fail(Fault::usage, "record {} has no parameter '{}'; it has: {}", record.value("id", "?"), name,
         list);
}

std::string explained(const Json& record) {
    std::string text = fmt::format(
        "{}  {}  GT {} x {}, seed {}, variant {}, {}, tier {}\n", record.value("id", "?"),
        record.value("source", ""), record["gt"][1].get<int>(), record["gt"][0].get<int>(),
        record["seed"].get<std::uint64_t>(), record["variant"].get<int>(),
        record["couple"].get<std::string>(), record["tier"].get<std::string>());
    std::string last = "shared";
    visit_steps(record, [&](const std::string& level, const Json& entry) {
        if (!level.empty() && level != last) {
            text += fmt::format("  {}:\n", level);
            last = level;
        }
        text += fmt::format("  {}{:<16} {}: {}", level.empty() ? "" : "  ",
                            entry["name"].get<std::string>(), entry["step"].get<std::string>(),
                            words_of(entry["params"]));
        if (entry.contains("measured")) text += "  (" + words_of(entry["measured"]) + ")";
        text += "\n";
    });
    return text;
}

}  // namespace ultrasr
