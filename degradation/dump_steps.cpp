#include "degradation/dump_steps.h"

#include <algorithm>

#include "data/weights/safetensors.h"

namespace ultrasr {

StepWatch StepDump::watch() {
    if (folder_.empty()) return {};
    return [this](const std::string& name, const Planar& picture) {
        const auto same = [&](const auto& entry) { return entry.first == name; };
        const auto found = std::find_if(pictures_.begin(), pictures_.end(), same);
        if (found == pictures_.end()) {
            pictures_.emplace_back(name, picture);
        } else {
            found->second = picture;
        }
    };
}

void StepDump::write(const std::string& name, const Json& record) const {
    if (folder_.empty()) return;
    std::vector<TensorView> tensors;
    for (const auto& [step, picture] : pictures_) {
        tensors.push_back({step,
                           Dtype::f32,
                           {picture.channels(), picture.height(), picture.width()},
                           std::as_bytes(std::span(picture.data(), picture.values()))});
    }
    write_safetensors(folder_ / (name + ".safetensors"), tensors,
                      {{"record", dump_json_line(record)}});
}

}  // namespace ultrasr
