// MUSIQ: a transformer over patches of three versions of the picture, as pyiqa computes it.
#pragma once
#include "data/base/fwd.h"
#include "metrics/nets/musiq_net.h"

namespace ultrasr {

/// The score of one picture; musiq.cpp's metrics wrap it.
///
/// rgb      1 x 3 x H x W, [0,1], float32, on the network's device
/// returns  about 0 ... 100, for AVA's weights 1 ... 10; higher is better
/// throws   Error(input) when a side is 448 times the other or more
/// Source: metrics.md 7.
double musiq_score(const MusiqNet& net, const at::Tensor& rgb);

}  // namespace ultrasr
