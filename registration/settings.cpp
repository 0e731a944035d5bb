#include "registration/settings.h"

#include <nlohmann/json.hpp>

#include "data/file.h"

namespace ultrasr {

Json settings_to_json(const RegisterSettings& s) {
    Json limits = Json::object();
    for (const auto& [name, value] : s.limits) limits[name] = value;
    Json focal = Json::object();
    for (const auto& [file, mm] : s.focal_mm) focal[file] = mm;
    return Json{
        {"brightness", s.brightness == Brightness::basis ? "basis" : "gain"},
        {"crop", name_of(s.crop)},
        {"focal", focal},
        {"gap_s", s.gap_s},
        {"keep_rejected", s.keep_rejected},
        {"limits", limits},
        {"model", name_of(s.model)},
        {"near", s.near},
        {"norm", name_of(s.norm)},
        {"photometric", name_of(s.photometric)},
        {"prefer", s.prefer_jpeg ? "jpeg" : "raw"},
        {"qa", s.qa ? "all" : "none"},
        {"refine", s.refine_pixels ? "pixels" : "points"},
        {"scales", s.scales},
        {"seed", s.seed},
        {"session_k", s.session_k},
        {"strict", s.strict},
        {"warp", s.warp_lr ? "lr" : "hr"},
        {"windows", s.windows},
    };
}

std::string settings_hash(const RegisterSettings& settings) {
    return sha256(dump_json_line(settings_to_json(settings)));
}

}  // namespace ultrasr
