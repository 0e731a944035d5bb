// Settings as data options, and batches as parts on the networks' device.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "models/training/data.h"
#include "models/training/learning_stages.h"
#include "models/training/settings.h"

namespace ultrasr {

/// The first sample of those that no step draws.
constexpr std::uint64_t validation_samples = std::uint64_t{1} << 40;

/// Stages draw pictures of their own: the seed depends on the stage's name.
TrainingDataOptions data_options(const TrainSettings& settings, const StageSettings& stage,
                                 std::string_view name, const c10::Device& device);

/// Pictures from, from + 1, ... of a batch whose first is sample `first`.
MicroBatch part_of(const TrainingBatch& batch, std::uint64_t first, std::int64_t step,
                   std::int64_t from, std::int64_t count, const c10::Device& device);

/// The middles of settings.validation's pairs, LR enlarged by the bicubic kernel in the place of
/// every level. Empty without such a set, and for stages that take HR alone.
///
/// throws Error(input) when no pair is as large as a patch
std::optional<MicroBatch> validation_pairs(const TrainSettings& settings, std::int64_t patch,
                                           std::size_t levels, const c10::Device& device);

}  // namespace ultrasr
