// The orders of steps that are not Real-ESRGAN's: BSRGAN's shuffles and the one-order face set.
#pragma once
#include "degradation/draws.h"
#include "degradation/plan.h"

namespace ultrasr {

/// Adds the steps of one level down to its LR size, rounding included, for every pipeline but
/// second_order.
///
/// input    size of the picture that the steps start from
/// Source: Zhang et al. 2021 (BSRGAN), Chen et al. 2022 (FeMaSR), degradation.md 2.1; the face set
/// of StableSR and OSEDiff, degradation.md 2.
void add_shuffled(Draws& draws, const Preset& preset, PixelSize input, LevelPlan& level, Tier tier);

}  // namespace ultrasr
