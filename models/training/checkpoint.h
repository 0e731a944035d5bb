// A training run's state on the disk: written so that there is always a whole one to go on from.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/tensor/named_tensors.h"

namespace ultrasr {

/// What a run needs to go on.
struct TrainingCheckpoint {
    std::string stage;      ///< a word of a-z, 0-9, - and _
    std::int64_t step = 0;  ///< steps done, >= 0
    NamedTensors tensors;   ///< weights, moments, averages: comes back bit for bit
    Json state;             ///< the rest; numbers come back bit for bit (json_number for NaN)
};

/// Writes FOLDER/step_<stage>_<step, 8 digits>.safetensors and, after it, the .json that holds its
/// size and SHA-256. Only both together count, so a kill at any moment leaves the earlier ones as
/// they were. Then removes what is older than the newest `keep` of this stage; pairs of later steps
/// (damaged ones, since this run started below them) stay until they are reached again. A pair of
/// the same step is replaced, file by file.
///
/// keep    >= 1
/// throws  Error(storage) on a full disk or a folder that is not writable: nothing was removed
///         then; Error(internal) on another stage name, a negative step or keep < 1
void write_checkpoint(const std::filesystem::path& folder, const TrainingCheckpoint& checkpoint,
                      int keep);

/// Removes what write_checkpoint() of that step removes, for the case that it was killed before it
/// came to that.
void remove_old_checkpoints(const std::filesystem::path& folder, std::string_view stage,
                            std::int64_t step, int keep);

/// The whole pair with the highest step of that stage, its tensors on the CPU and free to be
/// written into. Half or damaged ones are skipped with a warning each. Empty where there is none,
/// or no folder.
///
/// throws  Error(internal) on a stage that cannot be one
std::optional<TrainingCheckpoint> newest_checkpoint(const std::filesystem::path& folder,
                                                    std::string_view stage);

}  // namespace ultrasr
