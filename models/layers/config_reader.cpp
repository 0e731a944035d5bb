#include "models/layers/config_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "data/base/error.h"

namespace ultrasr {

ConfigReader::ConfigReader(const Json& config, std::string_view what)
    : config_(config), what_(what) {
    require(config.is_object(), "{} is no JSON object with a model's configuration", what);
}

const Json* ConfigReader::find(const char* key) const {
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::refuse(const char* key, const std::string& supported) const {
    fail(Fault::input, "{}: \"{}\" is {}; supported: {}", what_, key, config_.at(key).dump(),
         supported);
}

std::int64_t ConfigReader::positive(const char* key, const Json& value) const {
    constexpr std::int64_t most = 1 << 24;
    if (!value.is_number_integer() || value.get<std::int64_t>() < 1 ||
        value.get<std::int64_t>() > most) {
        refuse(key, "whole numbers of 1 and more");
    }
    return value.get<std::int64_t>();
}

bool ConfigReader::has(const char* key) const { return find(key) != nullptr; }

double ConfigReader::number(const char* key, double otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_number()) refuse(key, "numbers");
    return value->get<double>();
}

bool ConfigReader::flag(const char* key, bool otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_boolean()) refuse(key, "true, false");
    return value->get<bool>();
}

std::int64_t ConfigReader::integer(const char* key, std::int64_t otherwise) const {
    const Json* value = find(key);
    return value ? positive(key, *value) : otherwise;
}

std::vector<std::int64_t> ConfigReader::integers(const char* key,
                                                 const std::vector<std::int64_t>& otherwise) const {
    const Json* list = find(key);
    if (!list) return otherwise;
    if (!list->is_array() || list->empty()) refuse(key, "a list of whole numbers");
    std::vector<std::int64_t> values;
    for (const Json& value : *list) values.push_back(positive(key, value));
    return values;
}

std::vector<std::int64_t> ConfigReader::integers_each(const char* key, std::size_t count,
                                                      std::int64_t otherwise) const {
    const Json* value = find(key);
    if (!value) return std::vector<std::int64_t>(count, otherwise);
    if (!value->is_array()) return std::vector<std::int64_t>(count, positive(key, *value));
    if (value->size() != count) refuse(key, fmt::format("one number, or a list of {}", count));
    return integers(key, {});
}

std::vector<bool> ConfigReader::kinds(const char* key, std::size_t count, std::string_view yes,
                                      std::string_view no,
                                      const std::vector<bool>& otherwise) const {
    const Json* list = find(key);
    const std::string supported = fmt::format("a list of {} of {}, {}", count, yes, no);
    if (!list) {
        require(otherwise.size() == count, "{}: \"{}\" is missing; needed: {}", what_, key,
                supported);
        return otherwise;
    }
    if (!list->is_array() || list->size() != count) refuse(key, supported);
    std::vector<bool> kinds;
    for (const Json& value : *list) {
        if (value != yes && value != no) refuse(key, supported);
        kinds.push_back(value == yes);
    }
    return kinds;
}

void ConfigReader::demand_text(const char* key,
                               std::initializer_list<std::string_view> known) const {
    const Json* value = find(key);
    if (!value || std::any_of(known.begin(), known.end(),
                              [&](std::string_view word) { return *value == word; })) {
        return;
    }
    refuse(key, fmt::format("{}", fmt::join(known, ", ")));
}

void ConfigReader::demand_number(const char* key, double value) const {
    if (number(key, value) != value) refuse(key, fmt::format("{}", value));
}

void ConfigReader::demand_false(const char* key) const {
    const Json* value = find(key);
    if (value && *value != false) refuse(key, "false");
}

void ConfigReader::demand_nothing(const char* key) const {
    const Json* value = find(key);
    const auto nothing = [](const Json& v) { return v.is_null() || v == false; };
    if (!value || nothing(*value)) return;
    if (value->is_array() && std::all_of(value->begin(), value->end(), nothing)) return;
    refuse(key, "null");
}

}  // namespace ultrasr
