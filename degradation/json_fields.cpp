#include "degradation/json_fields.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "data/base/error.h"

namespace ultrasr {

JsonFields::JsonFields(const Json& object, std::string what)
    : object_(object), what_(std::move(what)) {
    require(object.is_object(), "{}: parameters are an object of names and values, not {}", what_,
            object.type_name());
}

const Json* JsonFields::find(std::string_view key) {
    asked_.emplace(key);
    const auto found = object_.find(std::string(key));
    return found == object_.end() ? nullptr : &*found;
}

void JsonFields::wrong(std::string_view key, std::string_view wanted) const {
    const auto found = object_.find(std::string(key));
    if (found == object_.end()) fail(Fault::input, "{}: '{}' is missing", what_, key);
    fail(Fault::input, "{}: '{}' is {}, not {}", what_, key, wanted, dump_json_line(*found));
}

bool JsonFields::has(std::string_view key) const { return object_.contains(std::string(key)); }

double JsonFields::number(std::string_view key) {
    const Json* value = find(key);
    if (!value || !value->is_number() || !std::isfinite(value->get<double>())) {
        wrong(key, "a number");
    }
    return value->get<double>();
}

double JsonFields::number(std::string_view key, double otherwise) {
    return find(key) ? number(key) : otherwise;
}

int JsonFields::integer(std::string_view key) {
    const double value = number(key);
    if (value != std::floor(value) || std::abs(value) > 1e9) wrong(key, "a whole number");
    return static_cast<int>(value);
}

int JsonFields::integer(std::string_view key, int otherwise) {
    return find(key) ? integer(key) : otherwise;
}

bool JsonFields::flag(std::string_view key, bool otherwise) {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_boolean()) wrong(key, "true or false");
    return value->get<bool>();
}

std::string JsonFields::text(std::string_view key) {
    const Json* value = find(key);
    if (!value || !value->is_string()) wrong(key, "a word");
    return value->get<std::string>();
}

std::string JsonFields::text(std::string_view key, std::string otherwise) {
    return find(key) ? text(key) : otherwise;
}

std::vector<double> JsonFields::numbers(std::string_view key) {
    const Json* value = find(key);
    if (!value || !value->is_array()) wrong(key, "a list of numbers");
    std::vector<double> out;
    for (const Json& item : *value) {
        if (!item.is_number() || !std::isfinite(item.get<double>())) {
            wrong(key, "a list of numbers");
        }
        out.push_back(item.get<double>());
    }
    return out;
}

PixelSize JsonFields::size(std::string_view key) {
    const Json* value = find(key);
    const auto is_side = [](const Json& side) {
        return side.is_number() && side.get<double>() >= 1 && side.get<double>() <= 65536 &&
               side.get<double>() == std::floor(side.get<double>());
    };
    if (!value || !value->is_array() || value->size() != 2 || !is_side((*value)[0]) ||
        !is_side((*value)[1])) {
        wrong(key, "[height, width], whole numbers from 1 to 65536");
    }
    return {static_cast<int>((*value)[1].get<double>()),
            static_cast<int>((*value)[0].get<double>())};
}

const Json& JsonFields::value(std::string_view key) {
    const Json* found = find(key);
    if (!found) wrong(key, "there");
    return *found;
}

void JsonFields::done() const {
    for (const auto& [key, value] : object_.items()) {
        if (asked_.contains(key)) continue;
        std::string known;
        for (const std::string& name : asked_) known += (known.empty() ? "" : ", ") + name;
        fail(Fault::input, "{}: unknown key '{}'; known: {}", what_, key, known);
    }
}

}  // namespace ultrasr
