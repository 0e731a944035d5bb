#include "data/base/json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/base/error.h"

namespace ultrasr {

Json parse_json(std::string_view text, std::string_view name) {
    try {
        return Json::parse(text, nullptr, true, true);
    } catch (const nlohmann::json::exception& error) {
        fail(Fault::input, "{} is not valid JSON: {}", name, error.what());
    }
}

std::string dump_json(const Json& value) {
    return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string dump_json_line(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json json_number(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
    return value;
}

double number_from_json(const Json& value) {
    if (value.is_number()) return value.get<double>();
    if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (value == "inf") return std::numeric_limits<double>::infinity();
    if (value == "-inf") return -std::numeric_limits<double>::infinity();
    fail(Fault::input, "expected a number, found {}", dump_json_line(value));
}

}  // namespace ultrasr
