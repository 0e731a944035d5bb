// The blur kernels of second-order degradation: six bell shapes and the sinc low pass.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"

namespace ultrasr {

enum class KernelType {
    iso,
    aniso,
    generalized_iso,
    generalized_aniso,
    plateau_iso,
    plateau_aniso,
    sinc,
    pulse,  ///< leaves the picture as it is
};

/// throws Error(usage) that lists the known ones
KernelType kernel_type(std::string_view name);
std::string_view kernel_type_name(KernelType type);

/// What a kernel is made of. Lengths in pixels, angles in radians.
struct KernelSpec {
    KernelType type = KernelType::pulse;
    int size = 1;         ///< K, odd, 1 to 81
    double sigma_x = 1;   ///< bell shapes
    double sigma_y = 1;   ///< aniso types; equal to sigma_x else
    double rotation = 0;  ///< aniso types
    double beta = 1;      ///< generalized: exponent of the Gaussian's; plateau: of the slope
    double omega = 3;     ///< sinc: cut-off, (0, pi]

    /// Only what the type uses.
    Json json() const;
    /// throws Error(input) that names the key
    static KernelSpec from_json(const Json& params);
};

/// One row of a kernel's taps that are worth visiting: columns first ... last.
struct TapRow {
    int first = 0, last = -1;  ///< from the kernel's left column; last < first: none
};

/// A kernel to correlate with: size x size float32, row-major, of any content.
struct BlurKernel {
    int size = 1;
    std::vector<float> taps{1.0F};
    std::vector<TapRow> rows{{0, 0}};
    /// Equal to its mirror image about the middle row: rows are added in pairs before they are
    /// multiplied, which halves the work.
    bool folds = false;
    /// Not empty: the kernel is the outer product of this with itself (isotropic Gaussian).
    std::vector<float> separable;

    bool is_pulse() const { return size == 1 && taps[0] == 1.0F; }
    std::uint64_t hash() const;  ///< of size and taps: FNV-1a, 64 bits
};

/// How exactly a kernel is applied; see degradation.md 4.3.
enum class Tier {
    exact,  ///< taps that sum up to less than 2^-25 are left out: half a rounding of white
    fast,   ///< up to 1e-6 are left out
};

/// Computes a kernel in double, cast to float32 at the end, sum 1.
///
/// spec     checked: throws Error(input) for a size or parameter outside of its range
/// Source: Wang et al. 2021 (Real-ESRGAN), sec. 3; Liu et al. 2020, generalised and plateau-shaped
/// Gaussians; formulas in degradation.md 1.3.
BlurKernel make_kernel(const KernelSpec& spec, Tier tier = Tier::exact);

/// The same from given values, size x size: finds what can be left out and whether it folds.
BlurKernel make_kernel(int size, std::vector<float> taps, Tier tier = Tier::exact);

}  // namespace ultrasr
