// Does a finished run still hold what it promised?
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "data/base/fwd.h"
#include "data/base/json.h"

namespace ultrasr {

/// One accepted pair as it is on disk.
struct VerifiedPair {
    std::string scene;
    int scale = 0;
    double error = 0;      ///< LR px, re-estimated from the delivered pixels; NaN: not possible
    double sigma_est = 0;  ///< what the record says
};

struct Verification {
    std::vector<VerifiedPair> pairs;
    std::vector<std::string> faults;  ///< one sentence each
    std::string sentence() const;     ///< the faults in one
    std::string text() const;         ///< the figures, for people
    Json json() const;
};

/// Checks SHA-256 of every delivered file, LR x s = HR, HDF5 against PNG, and re-estimates each
/// pair's registration: an affine map is refined on the pixels of LR and HR as a run would
/// between frames; its distance from the lattice is the error. A pair off by more than 0.1 LR px
/// and 3 sigma_est is a fault.
///
/// throws Error(input) when `out` holds no manifest
Verification verify_output(const std::filesystem::path& out, int threads, Progress& progress);

}  // namespace ultrasr
