// FID's reference statistics as a file, so that a large HR set is looked at once.
#pragma once
#include <filesystem>
#include <string>

#include "metrics/frechet.h"

namespace ultrasr {

/// What the statistics were made with.
struct FidStats {
    FeatureStatistics statistics;
    std::string network_sha256;   ///< of pt_inception-2015-12-05-6726825d.pth
    std::string pictures_sha256;  ///< of the picture files, name by name
};

/// Safetensors: `mean` [2048] and `covariance` [2048, 2048], float64, with count and hashes as
/// metadata (format "ultrasr-fid-stats", version 1). throws Error(storage).
void write_fid_stats(const std::filesystem::path& path, const FidStats& stats);

/// throws Error(input) when the file is no such statistics
FidStats read_fid_stats(const std::filesystem::path& path);

}  // namespace ultrasr
