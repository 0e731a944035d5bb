// Real-ESRGAN-style option files (yml) as presets.
#pragma once
#include <filesystem>

#include "degradation/preset.h"

namespace ultrasr {

/// Finds the degradation's keys anywhere in the file (Real-ESRGAN spreads them over the top level
/// and datasets.train; StableSR over `degradation`), over the preset realesrgan without USM.
///
/// returns  notices name keys of the degradation that nothing uses (blur_kernel_size: the
///          references never read it, T9), and what was found twice
/// throws   Error(input) for no yml, none of the keys, or values out of range
ImportedPreset preset_from_yaml(const std::filesystem::path& path);

}  // namespace ultrasr
