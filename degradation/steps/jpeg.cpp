#include "degradation/steps/jpeg.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "data/base/error.h"
#include "data/image_io.h"
#include "degradation/steps/jpeg_pixel.h"

namespace ultrasr {

// T.81 Annex K, table K.1 transposed, and table K.2 (symmetric)
const std::array<float, 64> diff_jpeg_luma{
    16, 12, 14, 14, 18,  24,  49,  72,  11, 12, 13, 17, 22,  35,  64,  92,
    10, 14, 16, 22, 37,  55,  78,  95,  16, 19, 24, 29, 56,  64,  87,  98,
    24, 26, 40, 51, 68,  81,  103, 112, 40, 58, 57, 87, 109, 104, 121, 100,
    51, 60, 69, 80, 103, 113, 120, 103, 61, 55, 56, 62, 77,  92,  101, 99};
const std::array<float, 64> diff_jpeg_chroma = [] {
    std::array<float, 64> table;
    table.fill(99);
    constexpr float corner[4][4] = {
        {17, 18, 24, 47}, {18, 21, 26, 66}, {24, 26, 56, 99}, {47, 66, 99, 99}};
    for (std::size_t v = 0; v < 4; ++v) {
        for (std::size_t u = 0; u < 4; ++u) table[v * 8 + u] = corner[v][u];
    }
    return table;
}();

namespace {

constexpr int tile = 16;

/// Eight rows of eight; a vector holds the columns of a row.
struct Block {
    Lanes row[8];
};

Block transposed(const Block& block) {
    alignas(32) float from[8][8], to[8][8];
    for (int v = 0; v < 8; ++v) store(from[v], block.row[v]);
    for (int v = 0; v < 8; ++v) {
        for (int u = 0; u < 8; ++u) to[u][v] = from[v][u];
    }
    Block out;
    for (int u = 0; u < 8; ++u) load(out.row[u], to[u]);
    return out;
}

/// There and back through the quantiser. steps: transposed, [horizontal][vertical].
void compress_(float* values, int stride, const float* steps) {
    Block block;
    for (int v = 0; v < 8; ++v) {
        block.row[v] = loaded<Lanes>(values + v * stride) - Lanes(128.0F);
    }
    dct8_(block.row);
    block = transposed(block);
    dct8_(block.row);
    for (int u = 0; u < 8; ++u) {
        block.row[u] = quantised(block.row[u], loaded<Lanes>(steps + 8 * u));
    }
    idct8_(block.row);
    block = transposed(block);
    idct8_(block.row);
    for (int v = 0; v < 8; ++v) store(values + v * stride, block.row[v] + Lanes(128.0F));
}

/// One tile of 16 x 16 pixels: 255 R, G, B in, R, G, B in [0,1] out.
void compress_tile_(float rgb[3][tile * tile], const float* luma, const float* chroma) {
    alignas(32) float y[tile * tile], cb[tile * tile], cr[tile * tile];
    for (int i = 0; i < tile * tile; i += lanes) {
        Lanes Y, Cb, Cr;
        ycbcr_of_rgb(loaded<Lanes>(rgb[0] + i), loaded<Lanes>(rgb[1] + i),
                     loaded<Lanes>(rgb[2] + i), Y, Cb, Cr);
        store(y + i, Y);
        store(cb + i, Cb);
        store(cr + i, Cr);
    }
    for (const int corner : {0, 8, 8 * tile, 8 * tile + 8}) compress_(y + corner, tile, luma);
    for (float* full : {cb, cr}) {
        alignas(32) float half[64];
        for (int v = 0; v < 8; ++v) {
            for (int u = 0; u < 8; ++u) {
                const float* at = full + 2 * v * tile + 2 * u;
                half[8 * v + u] = (at[0] + at[1] + at[tile] + at[tile + 1]) * 0.25F;
            }
        }
        compress_(half, 8, chroma);
        for (int v = 0; v < tile; ++v) {
            for (int u = 0; u < tile; ++u) full[v * tile + u] = half[v / 2 * 8 + u / 2];
        }
    }
    for (int i = 0; i < tile * tile; i += lanes) {
        Lanes r, g, b;
        rgb_of_ycbcr(loaded<Lanes>(y + i), loaded<Lanes>(cb + i), loaded<Lanes>(cr + i), r, g, b);
        store(rgb[0] + i, r);
        store(rgb[1] + i, g);
        store(rgb[2] + i, b);
    }
}

void check(const Planar& picture, double quality) {
    require(picture.channels() == 3, "JPEG takes three planes, not {}", picture.channels());
    require(quality > 0 && quality <= 100, "a JPEG quality lies above 0 and up to 100, not at {}",
            quality);
}

}  // namespace

Planar diff_jpeg(const Planar& picture, double quality, JpegPadding padding) {
    check(picture, quality);
    const float factor = quality_factor(static_cast<float>(std::min(quality, most_jpeg_quality)));
    alignas(32) float luma[64], chroma[64];
    for (std::size_t v = 0; v < 8; ++v) {
        for (std::size_t u = 0; u < 8; ++u) {
            luma[u * 8 + v] = diff_jpeg_luma[v * 8 + u] * factor;
            chroma[u * 8 + v] = diff_jpeg_chroma[v * 8 + u] * factor;
        }
    }
    const int w = picture.width(), h = picture.height();
    Planar out(3, h, w);
    alignas(32) float rgb[3][tile * tile];
    for (int y0 = 0; y0 < h; y0 += tile) {
        const int rows = std::min(tile, h - y0);
        for (int x0 = 0; x0 < w; x0 += tile) {
            const int columns = std::min(tile, w - x0);
            for (int c = 0; c < 3; ++c) {
                if (padding == JpegPadding::zero && (rows < tile || columns < tile)) {
                    std::memset(rgb[c], 0, sizeof rgb[c]);
                }
                const int all = padding == JpegPadding::zero ? rows : tile;
                for (int y = 0; y < all; ++y) {
                    const float* from = picture.row(c, y0 + std::min(y, rows - 1)) + x0;
                    float* to = rgb[c] + y * tile;
                    for (int x = 0; x < columns; ++x) to[x] = from[x] * 255.0F;
                    if (padding == JpegPadding::zero) continue;
                    for (int x = columns; x < tile; ++x) to[x] = to[columns - 1];
                }
            }
            compress_tile_(rgb, luma, chroma);
            for (int c = 0; c < 3; ++c) {
                for (int y = 0; y < rows; ++y) {
                    std::memcpy(out.row_(c, y0 + y) + x0, rgb[c] + y * tile,
                                static_cast<std::size_t>(columns) * sizeof(float));
                }
            }
        }
    }
    return out;
}

Planar turbo_jpeg(const Planar& picture, double quality) {
    check(picture, quality);
    const int rounded = std::clamp(static_cast<int>(std::nearbyint(quality)), 1, 100);
    const std::string file = encode_jpeg(rgb8_of_planar(picture), rounded, true);
    return planar_of_rgb(decode_rgb8(file, "the compressed picture"));
}

}  // namespace ultrasr
