#include "data/color.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "data/base/error.h"

namespace ultrasr {
namespace {

/// The curve over the root of the light, where it is smooth; the straight part apart.
struct EncodeTable {
    static constexpr int steps = 1 << 13;
    std::vector<float> value;
    EncodeTable() {
        for (int i = 0; i <= steps + 1; ++i) {
            const double root = static_cast<double>(i) / steps;
            value.push_back(static_cast<float>(1.055 * std::pow(root, 2 / 2.4) - 0.055));
        }
    }
};

void check_part(const Frame& frame, const PixelRect& area) {
    if (area.x < 0 || area.y < 0 || area.width < 0 || area.height < 0 ||
        area.x + area.width > frame.rgb.cols || area.y + area.height > frame.rgb.rows) {
        fail(Fault::internal, "a window outside of its frame");
    }
}

}  // namespace

double srgb_to_linear(double encoded) {
    return encoded <= 0.04045 ? encoded / 12.92 : std::pow((encoded + 0.055) / 1.055, 2.4);
}

double linear_to_srgb(double light) {
    return light <= 0.0031308 ? 12.92 * light : 1.055 * std::pow(light, 1 / 2.4) - 0.055;
}

const float* linear_levels_8bit() {
    static const auto table = [] {
        std::array<float, 256> values{};
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = static_cast<float>(srgb_to_linear(static_cast<double>(i) / 255));
        }
        return values;
    }();
    return table.data();
}

float encode_srgb(float light) {
    static const EncodeTable table;
    if (!(light > 0)) return 0;
    if (light >= 1) return 1;
    if (light <= 0.0031308F) return 12.92F * light;
    const float at = std::sqrt(light) * EncodeTable::steps;
    const int i = static_cast<int>(at);
    const auto k = static_cast<std::size_t>(i);
    return table.value[k] + (at - static_cast<float>(i)) * (table.value[k + 1] - table.value[k]);
}

cv::Mat encode_srgb(const cv::Mat& linear, int bits) {
    cv::Mat result(linear.rows, linear.cols, bits == 16 ? CV_16UC3 : CV_8UC3);
    const int n = 3 * linear.cols;
    for (int y = 0; y < linear.rows; ++y) {
        const float* from = linear.ptr<float>(y);
        if (bits == 16) {
            auto* to = result.ptr<std::uint16_t>(y);
            for (int i = 0; i < n; ++i) {
                to[i] = static_cast<std::uint16_t>(encode_srgb(from[i]) * 65535.0F + 0.5F);
            }
        } else {
            unsigned char* to = result.ptr(y);
            for (int i = 0; i < n; ++i) {
                to[i] = static_cast<unsigned char>(encode_srgb(from[i]) * 255.0F + 0.5F);
            }
        }
    }
    return result;
}

cv::Mat linear_part(const Frame& frame, const PixelRect& area) {
    check_part(frame, area);
    cv::Mat result(area.height, area.width, CV_32FC3);
    const float* levels = linear_levels_8bit();
    for (int y = 0; y < area.height; ++y) {
        float* to = result.ptr<float>(y);
        if (frame.is_16bit()) {
            const auto* from = frame.rgb.ptr<std::uint16_t>(area.y + y) + 3 * area.x;
            const bool linear = frame.encoding == Encoding::linear;
            for (int i = 0; i < 3 * area.width; ++i) {
                const float v = from[i] * (1.0F / 65535.0F);
                to[i] = linear ? v : static_cast<float>(srgb_to_linear(static_cast<double>(v)));
            }
        } else {
            const unsigned char* from = frame.rgb.ptr(area.y + y) + 3 * area.x;
            for (int i = 0; i < 3 * area.width; ++i) to[i] = levels[from[i]];
        }
    }
    return result;
}

cv::Mat encoded_part(const Frame& frame, const PixelRect& area, int bits) {
    check_part(frame, area);
    if (!frame.is_16bit() && bits == 8) {
        return frame.rgb(cv::Rect(area.x, area.y, area.width, area.height)).clone();
    }
    return encode_srgb(linear_part(frame, area), bits);
}

}  // namespace ultrasr
