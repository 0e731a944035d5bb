// The arithmetic of unsharp masking at one pixel. Source: degradation.md 1.5.
#pragma once
#include "degradation/steps/lanes.h"

namespace ultrasr {

/// 1 where the residual counts as an edge.
template <class V>
ULTRASR_HOST_DEVICE V usm_mask(V picture, V blurred, float threshold) {
    return exceeds((picture - blurred) * V(255.0F), threshold);
}

/// The sharpened picture where the softened mask is 1, the picture itself where it is 0.
template <class V>
ULTRASR_HOST_DEVICE V usm_mix(V picture, V blurred, V soft, float weight) {
    const V sharp = clamp(picture + V(weight) * (picture - blurred), 0.0F, 1.0F);
    return soft * sharp + (V(1.0F) - soft) * picture;
}

}  // namespace ultrasr
