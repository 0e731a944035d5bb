// Pictures by formula, whole numbers only: tests/golden/make_metrics.py makes the same ones for
// pyiqa. And a reader for the tables it writes.
#pragma once
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "data/base/error.h"
#include "data/file.h"
#include "data/image.h"

namespace ultrasr::test {

using Row = std::map<std::string, std::string>;

/// A comma-separated table without quotes; lines that begin with # are its provenance.
inline std::vector<Row> read_table(const std::filesystem::path& path) {
    const auto cells = [](const std::string& line) {
        std::vector<std::string> result(1);
        for (const char c : line) {
            if (c == ',') {
                result.emplace_back();
            } else {
                result.back() += c;
            }
        }
        return result;
    };
    std::istringstream text(read_file(path));
    std::vector<std::string> names;
    std::vector<Row> rows;
    for (std::string line; std::getline(text, line);) {
        if (line.starts_with('#')) continue;
        const auto values = cells(line);
        if (names.empty()) {
            names = values;
            continue;
        }
        require(values.size() == names.size(), "{}: {} cells in '{}'", path.string(), values.size(),
                line);
        Row row;
        for (std::size_t i = 0; i < names.size(); ++i) row[names[i]] = values[i];
        rows.push_back(row);
    }
    return rows;
}

inline std::uint32_t hash32(int x, int y, int seed) {
    std::uint32_t h = static_cast<std::uint32_t>(x) * 0x9E3779B1U +
                      static_cast<std::uint32_t>(y) * 0x85EBCA77U +
                      static_cast<std::uint32_t>(seed) * 0xC2B2AE3DU;
    h ^= h >> 15;
    h *= 0x2C1B3C6DU;
    h ^= h >> 12;
    h *= 0x297A2D39U;
    return h ^ (h >> 15);
}

/// 0..255: a hash at the corners of square cells, bilinear between.
inline int value_noise(int x, int y, int cell, int seed) {
    const int cx = x / cell, cy = y / cell, fx = x % cell, fy = y % cell;
    const auto corner = [&](int dx, int dy) {
        return static_cast<int>(hash32(cx + dx, cy + dy, seed) & 255U);
    };
    const int upper = corner(0, 0) * (cell - fx) + corner(1, 0) * fx;
    const int lower = corner(0, 1) * (cell - fx) + corner(1, 1) * fx;
    return (upper * (cell - fy) + lower * fy) / (cell * cell);
}

/// Division that rounds down, as Python's.
inline int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

/// 0..255: four octaves of grey noise and a little colour.
inline int texture(int x, int y, int channel) {
    const int grey = (8 * value_noise(x, y, 32, 1) + 5 * value_noise(x, y, 8, 2) +
                      2 * value_noise(x, y, 3, 3) + value_noise(x, y, 1, 4)) /
                     16;
    const int colour = value_noise(x, y, 16, 10 + channel);
    return std::clamp(grey + floor_div(colour - 128, 4), 0, 255);
}

/// The texture averaged over five places, with noise that grows to the right.
inline int degraded(int x, int y, int channel) {
    const int mean =
        (texture(x, y, channel) + texture(x + 1, y, channel) + texture(x, y + 1, channel) +
         texture(x + 2, y, channel) + texture(x, y + 2, channel)) /
        5;
    const int noise = static_cast<int>(hash32(x, y, 20 + channel) % 41U) - 20;
    return std::clamp(mean + floor_div(noise * (x % 256), 256), 0, 255);
}

/// Channel levels of one place, restored and HR.
struct Levels {
    int sr;
    int hr;
};

inline Levels levels_at(const std::string& kind, PixelSize size, int x, int y, int channel) {
    if (kind == "flat") return {75, 255};
    if (kind == "grey") return {degraded(x, y, 0), texture(x, y, 0)};
    const int hr = texture(x, y, channel);
    if (kind == "close") {
        return {hr < 255 && hash32(x, y, 30 + channel) % 8U == 0 ? hr + 1 : hr, hr};
    }
    if (kind == "inverted" && y >= size.height / 2) return {255 - hr, hr};
    if (kind == "flat blocks" && x < 110) return {90 + 30 * channel, hr};
    if (kind == "patches") {
        const int area = (x / 40 + 3 * (y / 56)) % 7;
        const int ramp = std::min(x / 2 + 10 * channel, 255);
        const int level = area == 1   ? 117 + 9 * channel
                          : area == 3 ? 0
                          : area == 5 ? 255
                          : area == 6 ? ramp
                                      : -1;
        if (level >= 0) return {level, level};
    }
    return {degraded(x, y, channel), hr};
}

struct PicturePair {
    Image sr;
    Image hr;
    std::int64_t sr_sum = 0;  ///< of all levels
    std::int64_t hr_sum = 0;
};

/// kind: texture, grey, close, inverted, patches, flat blocks, flat.
inline PicturePair picture(const std::string& kind, PixelSize size) {
    PicturePair pair{Image(size), Image(size)};
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            for (int channel = 0; channel < 3; ++channel) {
                const auto [sr, hr] = levels_at(kind, size, x, y, channel);
                pair.sr.row_(y)[3 * x + channel] = static_cast<float>(sr) / 255.0F;
                pair.hr.row_(y)[3 * x + channel] = static_cast<float>(hr) / 255.0F;
                pair.sr_sum += sr;
                pair.hr_sum += hr;
            }
        }
    }
    return pair;
}

/// A picture of one colour, levels 0..255.
inline Image flat(PixelSize size, int r, int g, int b) {
    Image image(size);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            image.row_(y)[3 * x] = static_cast<float>(r) / 255.0F;
            image.row_(y)[3 * x + 1] = static_cast<float>(g) / 255.0F;
            image.row_(y)[3 * x + 2] = static_cast<float>(b) / 255.0F;
        }
    }
    return image;
}

}  // namespace ultrasr::test
