// What the tests of models/ share: inputs, files, small networks with known weights.
#pragma once
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "data/base/random.h"
#include "data/image.h"
#include "data/tensor/device.h"
#include "data/tensor/named_tensors.h"
#include "models/method.h"

namespace ultrasr::test {

/// x[c][i][j] = ((37c + 11i + 7j) mod 64) / 63, 1 x 3 x n x n (peer_methods.md 8.1).
inline at::Tensor ramp(std::int64_t n) {
    at::Tensor x = at::empty({1, 3, n, n});
    float* p = x.mutable_data_ptr<float>();
    for (std::int64_t c = 0; c < 3; ++c) {
        for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j < n; ++j) {
                *p++ = static_cast<float>((37 * c + 11 * i + 7 * j) % 64) / 63.0F;
            }
        }
    }
    return x;
}

/// Uniform in [low, high).
inline at::Tensor uniform(at::IntArrayRef shape, double low, double high, std::uint64_t item) {
    at::Tensor x = at::empty(shape);
    float* p = x.mutable_data_ptr<float>();
    Rng rng(11, item);
    for (std::int64_t i = 0; i < x.numel(); ++i) {
        p[i] = static_cast<float>(low + (high - low) * rng.uniform());
    }
    return x;
}

/// Waves with a little noise, in [0,1].
inline Image picture(int width, int height) {
    Image image(PixelSize{width, height});
    Rng rng(3, 0);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            for (int c = 0; c < 3; ++c) {
                const double wave = std::sin(0.5 * x + c) * std::cos(0.33 * y - 0.1 * x);
                image.row_(y)[3 * x + c] =
                    static_cast<float>(0.5 + 0.4 * wave + 0.1 * (rng.uniform() - 0.5));
            }
        }
    }
    return image;
}

/// Default options after a change.
template <class Change>
MethodOptions with(Change&& change) {
    MethodOptions options;
    change(options);
    return options;
}

/// How the weights of a made-up network are filled.
enum class Fill {
    noise,    ///< uniform, of a size that keeps the signal's
    positive  ///< all the same and positive, biases 0: the output is not 0 exactly where the input
              ///< is seen
};

inline void add_conv(NamedTensors& weights, const std::string& key, std::int64_t in,
                     std::int64_t out, Fill fill) {
    const double size = std::sqrt(3.0 / (9.0 * static_cast<double>(in)));
    const std::uint64_t item = weights.size();
    weights[key + ".weight"] =
        fill == Fill::noise ? uniform({out, in, 3, 3}, -size, size, item)
                            : at::full({out, in, 3, 3}, 1.0 / (9.0 * static_cast<double>(in)));
    weights[key + ".bias"] =
        fill == Fill::noise ? uniform({out}, -0.1, 0.1, item + 1) : at::zeros({out});
}

/// An RRDBNet under the new names. in: 3, 12 or 48.
inline NamedTensors rrdb_weights(int blocks, std::int64_t nf, std::int64_t gc, std::int64_t in,
                                 bool two_stages, Fill fill = Fill::noise) {
    NamedTensors w;
    add_conv(w, "conv_first", in, nf, fill);
    for (int i = 0; i < blocks; ++i) {
        for (int r = 1; r <= 3; ++r) {
            for (int c = 1; c <= 5; ++c) {
                add_conv(w, fmt::format("body.{}.rdb{}.conv{}", i, r, c), nf + (c - 1) * gc,
                         c == 5 ? nf : gc, fill);
            }
        }
    }
    for (const char* key : {"conv_body", "conv_up1", "conv_up2", "conv_hr"}) {
        if (two_stages || std::string(key) != "conv_up2") add_conv(w, key, nf, nf, fill);
    }
    add_conv(w, "conv_last", nf, 3, fill);
    return w;
}

/// An SRVGGNetCompact.
inline NamedTensors srvgg_weights(int convs, std::int64_t nf, int scale, Fill fill = Fill::noise) {
    NamedTensors w;
    for (int k = 0; k <= convs + 1; ++k) {
        add_conv(w, fmt::format("body.{}", 2 * k), k == 0 ? 3 : nf,
                 k == convs + 1 ? 3 * scale * scale : nf, fill);
        if (k <= convs) w[fmt::format("body.{}.weight", 2 * k + 1)] = at::full({nf}, 0.25);
    }
    return w;
}

}  // namespace ultrasr::test
