// How hard a level is, in two numbers.
#pragma once
#include "degradation/steps/planar.h"

namespace ultrasr {

struct Severity {
    double psnr = 0;             ///< dB, of LR brought to GT's size by bicubic interpolation, RGB
    double gradient_energy = 0;  ///< mean square difference of neighbours in LR, [0,1] values
};

/// lr, gt  3 planes in [0,1]
Severity severity_of(const Planar& lr, const Planar& gt);

}  // namespace ultrasr
