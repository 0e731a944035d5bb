// Every intermediate of a run as tensors, to look into a chain or to compare it with another.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "degradation/pipeline.h"

namespace ultrasr {

/// Collects what run_plan shows and writes <name>.safetensors: float32, [3, H, W], named
/// "stage1.blur", "x8.stage2.noise" ..., the record in the metadata.
class StepDump {
  public:
    /// folder  empty: collects nothing, writes nothing
    explicit StepDump(std::filesystem::path folder) : folder_(std::move(folder)) {}

    /// For run_plan; valid as long as this. A second run replaces what the first showed.
    StepWatch watch();
    /// throws Error(storage)
    void write(const std::string& name, const Json& record) const;

  private:
    std::filesystem::path folder_;
    std::vector<std::pair<std::string, Planar>> pictures_;
};

}  // namespace ultrasr
