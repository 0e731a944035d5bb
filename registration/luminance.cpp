#include "registration/luminance.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/color.h"

namespace ultrasr {
namespace {

constexpr std::array weights{0.2126F, 0.7152F, 0.0722F};  // Rec. 709, linear light
constexpr int burnt_level = 252;                          // of 255, registration.md 4.6

/// Light of each level of one channel, times the channel's weight.
struct Levels8 {
    std::array<std::array<float, 256>, 3> light{};
    Levels8() {
        for (std::size_t k = 0; k < 256; ++k) {
            const float linear = linear_levels_8bit()[k];
            for (std::size_t c = 0; c < 3; ++c) light[c][k] = linear * weights[c];
        }
    }
};

/// One row of a frame: light and burnt (0 or 1).
void read_row(const Frame& frame, int y, int x0, int count, float* light, float* burnt) {
    if (frame.is_16bit()) {
        // Linear light; 252 of 255 is meant of the full scale
        const auto* from = frame.rgb.ptr<std::uint16_t>(y) + 3 * x0;
        constexpr int limit = burnt_level * 257;
        for (int i = 0; i < count; ++i, from += 3) {
            light[i] = (weights[0] * from[0] + weights[1] * from[1] + weights[2] * from[2]) *
                       (1.0F / 65535.0F);
            burnt[i] = from[0] >= limit || from[1] >= limit || from[2] >= limit ? 1.0F : 0.0F;
        }
        return;
    }
    static const Levels8 levels;
    const unsigned char* from = frame.rgb.ptr(y) + 3 * x0;
    for (int i = 0; i < count; ++i, from += 3) {
        light[i] = levels.light[0][from[0]] + levels.light[1][from[1]] + levels.light[2][from[2]];
        burnt[i] = std::max({from[0], from[1], from[2]}) >= burnt_level ? 1.0F : 0.0F;
    }
}

/// Which source samples make up each target sample of an area average, and with what share.
struct AreaTaps {
    std::vector<int> first;
    std::vector<int> count;
    std::vector<float> share;  ///< `longest` a target
    int longest = 0;

    AreaTaps(int from, int to) {
        const double factor = static_cast<double>(from) / to;
        longest = static_cast<int>(std::ceil(factor)) + 1;
        share.assign(static_cast<std::size_t>(to) * static_cast<std::size_t>(longest), 0.0F);
        for (int i = 0; i < to; ++i) {
            const double begin = i * factor;
            const double end = std::min((i + 1) * factor, static_cast<double>(from));
            const int a = static_cast<int>(begin);
            const int b = std::min(from, std::max(a + 1, static_cast<int>(std::ceil(end - 1e-9))));
            first.push_back(a);
            count.push_back(b - a);
            for (int k = a; k < b; ++k) {
                const double part = std::min(end, k + 1.0) - std::max(begin, k + 0.0);
                share[static_cast<std::size_t>(i * longest + k - a)] =
                    static_cast<float>(part / (end - begin));
            }
        }
    }
    const float* shares(int i) const { return &share[static_cast<std::size_t>(i * longest)]; }
};

void shrink_row(const float* from, const AreaTaps& taps, int count, float* to) {
    for (int i = 0; i < count; ++i) {
        const float* source = from + taps.first[static_cast<std::size_t>(i)];
        const float* share = taps.shares(i);
        float sum = 0;
        for (int k = 0; k < taps.count[static_cast<std::size_t>(i)]; ++k) {
            sum += source[k] * share[k];
        }
        to[i] = sum;
    }
}

constexpr int strip = 64;  // rows of a task; fixed, so that results do not depend on threads

template <class Action>
void over_strips(int rows, const Action& action) {
    const int strips = (rows + strip - 1) / strip;
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(0, strips,
                          [&](int i) { action(i * strip, std::min(rows, (i + 1) * strip)); });
    });
}

/// Area averages of a function of the samples.
template <class Value>
cv::Mat shrink_values(const cv::Mat& picture, PixelSize size, const Value& value) {
    const AreaTaps across(picture.cols, size.width);
    const AreaTaps down(picture.rows, size.height);
    cv::Mat result(size.height, size.width, CV_32F);
    over_strips(size.height, [&](int begin, int end) {
        std::vector<float> sum(static_cast<std::size_t>(picture.cols));
        for (int y = begin; y < end; ++y) {
            std::fill(sum.begin(), sum.end(), 0.0F);
            for (int k = 0; k < down.count[static_cast<std::size_t>(y)]; ++k) {
                const float* from = picture.ptr<float>(down.first[static_cast<std::size_t>(y)] + k);
                const float share = down.shares(y)[k];
                for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += share * value(from[i]);
            }
            shrink_row(sum.data(), across, size.width, result.ptr<float>(y));
        }
    });
    return result;
}

}  // namespace

Luminance luminance_of(const Frame& frame, const PixelRect& area) {
    if (area.x < 0 || area.y < 0 || area.width <= 0 || area.height <= 0 ||
        area.x + area.width > frame.rgb.cols || area.y + area.height > frame.rgb.rows) {
        fail(Fault::internal, "a window outside of its frame");
    }
    Luminance result{cv::Mat(area.height, area.width, CV_32F),
                     cv::Mat(area.height, area.width, CV_32F)};
    over_strips(area.height, [&](int begin, int end) {
        for (int y = begin; y < end; ++y) {
            read_row(frame, area.y + y, area.x, area.width, result.light.ptr<float>(y),
                     result.burnt.ptr<float>(y));
        }
    });
    return result;
}

Luminance shrink_luminance(const Frame& frame, PixelSize size, int burnt_shrink) {
    const int width = frame.rgb.cols;
    if (size.width > width || size.height > frame.rgb.rows || size.width < 1 || size.height < 1 ||
        strip % burnt_shrink != 0 || size.width % burnt_shrink != 0 ||
        size.height % burnt_shrink != 0) {
        fail(Fault::internal, "shrinking {}x{} to {}x{}, burnt spots by {}", width, frame.rgb.rows,
             size.width, size.height, burnt_shrink);
    }
    const AreaTaps across(width, size.width);
    const AreaTaps down(frame.rgb.rows, size.height);
    const auto groups = static_cast<std::size_t>(burnt_shrink);
    Luminance result{cv::Mat(size.height, size.width, CV_32F),
                     cv::Mat::zeros(size.height / burnt_shrink, size.width / burnt_shrink, CV_32F)};
    over_strips(size.height, [&](int begin, int end) {
        const auto n = static_cast<std::size_t>(width);
        std::vector<float> light(n), burnt(n), light_sum(n), burnt_sum(n);
        std::vector<float> burnt_row(static_cast<std::size_t>(size.width));
        const float share_of_one = 1.0F / static_cast<float>(burnt_shrink * burnt_shrink);
        int held = -1;
        for (int y = begin; y < end; ++y) {
            std::fill(light_sum.begin(), light_sum.end(), 0.0F);
            std::fill(burnt_sum.begin(), burnt_sum.end(), 0.0F);
            for (int k = 0; k < down.count[static_cast<std::size_t>(y)]; ++k) {
                const int source = down.first[static_cast<std::size_t>(y)] + k;
                if (source != held) read_row(frame, source, 0, width, light.data(), burnt.data());
                held = source;
                const float share = down.shares(y)[k];
                for (std::size_t i = 0; i < n; ++i) {
                    light_sum[i] += share * light[i];
                    burnt_sum[i] += share * burnt[i];
                }
            }
            shrink_row(light_sum.data(), across, size.width, result.light.ptr<float>(y));
            shrink_row(burnt_sum.data(), across, size.width, burnt_row.data());
            float* to = result.burnt.ptr<float>(y / burnt_shrink);
            for (std::size_t x = 0; x < burnt_row.size(); ++x) {
                to[x / groups] += share_of_one * burnt_row[x];
            }
        }
    });
    return result;
}

cv::Mat shrink_area(const cv::Mat& picture, PixelSize size) {
    return shrink_values(picture, size, [](float v) { return v; });
}

cv::Mat coded(const cv::Mat& light) {
    // A table of the curve over its argument's root, where it is smooth, read linearly
    constexpr int steps = 4096;
    static const auto table = [] {
        std::array<float, steps + 2> values{};
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double root = static_cast<double>(i) / steps;
            values[i] = static_cast<float>(std::pow(root, 2 / 2.2));
        }
        return values;
    }();
    cv::Mat result(light.rows, light.cols, CV_32F);
    over_strips(light.rows, [&](int begin, int end) {
        for (int y = begin; y < end; ++y) {
            const float* from = light.ptr<float>(y);
            float* to = result.ptr<float>(y);
            for (int x = 0; x < light.cols; ++x) {
                const float at = std::sqrt(std::clamp(from[x], 0.0F, 1.0F)) * steps;
                const int i = static_cast<int>(at);
                const float part = at - static_cast<float>(i);
                const auto k = static_cast<std::size_t>(i);
                to[x] = table[k] + part * (table[k + 1] - table[k]);
            }
        }
    });
    return result;
}

cv::Mat blurred(const cv::Mat& picture, double sigma) {
    if (sigma <= 0) return picture.clone();

    // Half a kernel, 4 sigma
    const int reach = std::max(1, static_cast<int>(std::ceil(4 * sigma)));
    std::vector<float> kernel;
    double total = 0;
    for (int i = 0; i <= reach; ++i) total += (i ? 2 : 1) * std::exp(-0.5 * i * i / sigma / sigma);
    for (int i = 0; i <= reach; ++i) {
        kernel.push_back(static_cast<float>(std::exp(-0.5 * i * i / sigma / sigma) / total));
    }

    // Along the rows into a padded copy's rows, then down, strip by strip
    const int rows = picture.rows, columns = picture.cols;
    cv::Mat across(rows, columns, CV_32F), result(rows, columns, CV_32F);
    over_strips(rows, [&](int begin, int end) {
        std::vector<float> padded(static_cast<std::size_t>(columns + 2 * reach));
        for (int y = begin; y < end; ++y) {
            const float* from = picture.ptr<float>(y);
            std::fill_n(padded.begin(), reach, from[0]);
            std::copy_n(from, columns, padded.begin() + reach);
            std::fill_n(padded.begin() + reach + columns, reach, from[columns - 1]);
            const float* centre = padded.data() + reach;
            float* to = across.ptr<float>(y);
            for (int x = 0; x < columns; ++x) to[x] = kernel[0] * centre[x];
            for (int k = 1; k <= reach; ++k) {
                const float w = kernel[static_cast<std::size_t>(k)];
                for (int x = 0; x < columns; ++x) to[x] += w * (centre[x - k] + centre[x + k]);
            }
        }
    });
    over_strips(rows, [&](int begin, int end) {
        for (int y = begin; y < end; ++y) {
            const float* middle = across.ptr<float>(y);
            float* to = result.ptr<float>(y);
            for (int x = 0; x < columns; ++x) to[x] = kernel[0] * middle[x];
            for (int k = 1; k <= reach; ++k) {
                const float* above = across.ptr<float>(std::max(0, y - k));
                const float* below = across.ptr<float>(std::min(rows - 1, y + k));
                const float w = kernel[static_cast<std::size_t>(k)];
                for (int x = 0; x < columns; ++x) to[x] += w * (above[x] + below[x]);
            }
        }
    });
    return result;
}

cv::Mat local_contrast(const cv::Mat& picture, double sigma, double floor) {
    // Take mean and mean square on a smaller copy where the Gaussian allows it
    const int factor = std::max(1, static_cast<int>(sigma / 4));
    const PixelSize small{std::max(1, (picture.cols + factor - 1) / factor),
                          std::max(1, (picture.rows + factor - 1) / factor)};
    const double fx = static_cast<double>(picture.cols) / small.width;
    const double fy = static_cast<double>(picture.rows) / small.height;
    const double own = factor > 1 ? std::sqrt(sigma * sigma / (fx * fx) - 1.0 / 12) : sigma;
    const cv::Mat mean = blurred(factor > 1 ? shrink_area(picture, small) : picture, own);
    const cv::Mat mean_square =
        blurred(shrink_values(picture, small, [](float v) { return v * v; }), own);

    // Read both between their samples
    cv::Mat result(picture.rows, picture.cols, CV_32F);
    std::vector<int> left(static_cast<std::size_t>(picture.cols));
    std::vector<float> part(static_cast<std::size_t>(picture.cols));
    for (int x = 0; x < picture.cols; ++x) {
        const double at = std::clamp((x + 0.5) / fx - 0.5, 0.0, small.width - 1.0);
        const int i = std::min(static_cast<int>(at), std::max(0, small.width - 2));
        left[static_cast<std::size_t>(x)] = i;
        part[static_cast<std::size_t>(x)] = static_cast<float>(at - i);
    }
    const auto floor_value = static_cast<float>(floor);
    over_strips(picture.rows, [&](int begin, int end) {
        std::vector<float> m(static_cast<std::size_t>(small.width) + 1);
        std::vector<float> q(static_cast<std::size_t>(small.width) + 1);
        for (int y = begin; y < end; ++y) {
            const double at = std::clamp((y + 0.5) / fy - 0.5, 0.0, small.height - 1.0);
            const int i = std::min(static_cast<int>(at), std::max(0, small.height - 2));
            const int j = std::min(i + 1, small.height - 1);
            const auto low = static_cast<float>(at - i);
            for (int x = 0; x < small.width; ++x) {
                const auto k = static_cast<std::size_t>(x);
                m[k] = mean.at<float>(i, x) + low * (mean.at<float>(j, x) - mean.at<float>(i, x));
                q[k] = mean_square.at<float>(i, x) +
                       low * (mean_square.at<float>(j, x) - mean_square.at<float>(i, x));
            }
            m[m.size() - 1] = m[m.size() - 2];
            q[q.size() - 1] = q[q.size() - 2];
            const float* from = picture.ptr<float>(y);
            float* to = result.ptr<float>(y);
            for (int x = 0; x < picture.cols; ++x) {
                const auto k = static_cast<std::size_t>(left[static_cast<std::size_t>(x)]);
                const float p = part[static_cast<std::size_t>(x)];
                const float mu = m[k] + p * (m[k + 1] - m[k]);
                const float second = q[k] + p * (q[k + 1] - q[k]);
                const float spread = std::sqrt(std::max(0.0F, second - mu * mu));
                to[x] = (from[x] - mu) / (spread + floor_value);
            }
        }
    });
    return result;
}

}  // namespace ultrasr
