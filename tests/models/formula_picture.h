// Pictures by formula and float arrays as tests/golden/make_pictures.py writes them.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "data/image.h"
#include "tests/test.h"

namespace ultrasr::test {

/// The picture of a name there: waves0, waves1, ..., checks, flat.
inline Image formula_picture(const std::string& kind, PixelSize size) {
    const int k = kind.starts_with("waves") ? std::stoi(kind.substr(5)) : 0;
    Image image(size);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            for (int c = 0; c < 3; ++c) {
                const int wave = 37 * c + 11 * y + 7 * x + (3 + 2 * c) * x * y + 5 * x * x +
                                 k * (x + 2 * y + 29);
                const int level = kind == "checks" ? (x / 3 + y / 2 + c) % 2 * 255
                                  : kind == "flat" ? 100 + 7 * c
                                                   : wave % 256;
                image.row_(y)[3 * x + c] = static_cast<float>(level) / 255.0F;
            }
        }
    }
    return image;
}

inline Json golden_json(const std::string& name) {
    const auto path = golden(name);
    return parse_json(read_file(path), path.string());
}

inline PixelSize size_from(const Json& pair) { return {pair.at(0), pair.at(1)}; }

inline std::vector<std::uint8_t> bytes_from_hex(const std::string& hex) {
    std::vector<std::uint8_t> bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes.push_back(static_cast<std::uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

/// Of float32 in little endian.
inline std::vector<float> floats_from_hex(const std::string& hex) {
    const auto bytes = bytes_from_hex(hex);
    std::vector<float> values;
    for (std::size_t i = 0; i + 3 < bytes.size(); i += 4) {
        std::uint32_t bits = 0;
        for (std::size_t k = 4; k-- > 0;) bits = bits << 8 | bytes[i + k];
        values.push_back(std::bit_cast<float>(bits));
    }
    return values;
}

/// All values, row by row, R G B interleaved.
inline std::vector<float> values_of(const Image& image) {
    std::vector<float> values;
    for (int y = 0; y < image.height(); ++y) {
        values.insert(values.end(), image.row(y), image.row(y) + 3 * image.width());
    }
    return values;
}

inline bool equal_bits(const Image& a, const Image& b) {
    return a.size() == b.size() && values_of(a) == values_of(b);
}

}  // namespace ultrasr::test
