// MANIQA: a network's scores of crops, averaged over their tokens, as pyiqa computes it.
#pragma once
#include <span>

#include "data/base/fwd.h"
#include "metrics/maniqa_crops.h"
#include "metrics/nets/maniqa_net.h"

namespace ultrasr {

/// The score of one picture; maniqa.cpp's metric wraps it.
///
/// rgb      1 x 3 x H x W, [0,1], float32, on the network's device
/// crops    as maniqa_crops() places them, in the picture enlarged by maniqa_enlargement(); each
///          kind of equal crops is computed once
/// returns  the mean of the tokens' scores under their weights, all crops together; >= 0, higher
///          is better
/// Source: metrics.md 10.
double maniqa_score(const ManiqaNet& net, const at::Tensor& rgb, std::span<const CropCorner> crops);

}  // namespace ultrasr
