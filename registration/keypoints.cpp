#include "registration/keypoints.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <opencv2/features2d.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "registration/luminance.h"

namespace ultrasr {
namespace {

constexpr std::array kinds{
    std::pair{Normalisation::local, std::string_view("local")},
    std::pair{Normalisation::none, std::string_view("none")},
    std::pair{Normalisation::meanstd, std::string_view("meanstd")},
    std::pair{Normalisation::hist, std::string_view("hist")},
    std::pair{Normalisation::clahe, std::string_view("clahe")},
};

constexpr double contrast_sigma = 12;  // LR pixels, registration.md 4.3
constexpr float ratio = 0.8F;          // Lowe 2004, sec. 7.1
constexpr double largest_turn = 20;    // degrees
constexpr int length = 128;            // of a descriptor

cv::Mat to_8bit(const cv::Mat& picture, double factor, double offset) {
    cv::Mat result;
    picture.convertTo(result, CV_8U, factor, offset);
    return result;
}

cv::Mat local_8bit(const cv::Mat& picture) {
    // 128 + 45 (Y - mean) / (spread + 3) with Y of 255
    return to_8bit(local_contrast(picture, contrast_sigma, 3.0 / 255), 45, 128);
}

cv::Mat clahe_8bit(const cv::Mat& picture) {
    cv::Mat result;
    cv::createCLAHE(2.0, {8, 8})->apply(to_8bit(picture, 255, 0), result);
    return result;
}

/// The tele picture with the grey levels' frequencies of the wide one.
cv::Mat with_histogram_of(const cv::Mat& wide, const cv::Mat& tele) {
    const auto cumulative = [](const cv::Mat& picture) {
        std::array<double, 256> sum{};
        for (int y = 0; y < picture.rows; ++y) {
            for (int x = 0; x < picture.cols; ++x) sum[picture.at<unsigned char>(y, x)] += 1;
        }
        for (std::size_t i = 1; i < 256; ++i) sum[i] += sum[i - 1];
        for (double& value : sum) value /= static_cast<double>(picture.total());
        return sum;
    };
    const auto target = cumulative(wide), source = cumulative(tele);
    cv::Mat table(1, 256, CV_8U);
    for (int i = 0; i < 256; ++i) {
        const auto at = std::lower_bound(target.begin(), target.end(),
                                         source[static_cast<std::size_t>(i)] - 1e-12);
        table.at<unsigned char>(i) =
            static_cast<unsigned char>(std::min<std::ptrdiff_t>(255, at - target.begin()));
    }
    cv::Mat result;
    cv::LUT(tele, table, result);
    return result;
}

struct Keypoints {
    std::vector<cv::KeyPoint> points;
    cv::Mat descriptors;  ///< CV_32F, one row each, rooted: unit length
};

constexpr int most_features = 4000;     // registration.md 4.4
constexpr int most_pixels = 1'300'000;  // of one SIFT call, 60 bytes of pyramid a pixel and octave
constexpr int overlap = 48;             // of neighbouring tiles, pixels

/// Keypoints of one tile, those in its core only.
void detect_tile(const cv::Mat& picture, const cv::Rect& core, int features, Keypoints& found) {
    const cv::Rect tile = cv::Rect(core.x - overlap, core.y - overlap, core.width + 2 * overlap,
                                   core.height + 2 * overlap) &
                          cv::Rect(0, 0, picture.cols, picture.rows);
    const auto sift = cv::SIFT::create(features, 3, 0.01, 12, 1.6);
    std::vector<cv::KeyPoint> points;
    cv::Mat descriptors;
    sift->detectAndCompute(picture(tile), cv::noArray(), points, descriptors);
    for (std::size_t i = 0; i < points.size(); ++i) {
        cv::KeyPoint point = points[i];
        point.pt.x += static_cast<float>(tile.x);
        point.pt.y += static_cast<float>(tile.y);
        const float right = static_cast<float>(core.x + core.width) - 0.5F;
        const float below = static_cast<float>(core.y + core.height) - 0.5F;
        if (point.pt.x < static_cast<float>(core.x) - 0.5F || point.pt.x >= right ||
            point.pt.y < static_cast<float>(core.y) - 0.5F || point.pt.y >= below) {
            continue;
        }
        found.points.push_back(point);
        found.descriptors.push_back(descriptors.row(static_cast<int>(i)));
    }
}

Keypoints detect(const cv::Mat& picture, int enlarge) {
    cv::Mat input = picture;
    if (enlarge > 1) {
        cv::resize(picture, input, {}, enlarge, enlarge, cv::INTER_CUBIC);
    }

    // Large pictures in tiles, so that the pyramids stay small
    int across = 1, down = 1;
    while (static_cast<double>(input.cols) / across * input.rows / down > most_pixels) {
        ++(input.cols / across >= input.rows / down ? across : down);
    }
    Keypoints found;
    for (int row = 0; row < down; ++row) {
        for (int column = 0; column < across; ++column) {
            const int x0 = input.cols * column / across, x1 = input.cols * (column + 1) / across;
            const int y0 = input.rows * row / down, y1 = input.rows * (row + 1) / down;
            detect_tile(input, {x0, y0, x1 - x0, y1 - y0},
                        std::max(500, most_features / (across * down)), found);
        }
    }
    for (int i = 0; i < found.descriptors.rows; ++i) {
        float* d = found.descriptors.ptr<float>(i);
        float sum = 0;
        for (int k = 0; k < length; ++k) sum += d[k];
        const float over = sum > 0 ? 1 / sum : 0;
        for (int k = 0; k < length; ++k) d[k] = std::sqrt(d[k] * over);
    }
    for (cv::KeyPoint& point : found.points) {
        point.pt.x = static_cast<float>((point.pt.x + 0.5) / enlarge - 0.5);
        point.pt.y = static_cast<float>((point.pt.y + 0.5) / enlarge - 0.5);
    }
    return found;
}

/// The two nearest of the other picture, by inner product (descriptors have unit length).
struct Nearest {
    int index = -1;
    float best = -1;
    float second = -1;
    void offer(int i, float product) {
        if (product > best) {
            second = best;
            best = product;
            index = i;
        } else if (product > second) {
            second = product;
        }
    }
    /// Lowe's ratio of the distances sqrt(2 - 2 product).
    bool distinct() const {
        return index >= 0 && second > -1 && (1 - best) < ratio * ratio * (1 - second);
    }
};

float inner_product(const float* a, const float* b) {
    typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
    Lanes sum0{}, sum1{};
    for (int k = 0; k < length; k += 16) {
        sum0 += *reinterpret_cast<const Lanes*>(a + k) * *reinterpret_cast<const Lanes*>(b + k);
        sum1 +=
            *reinterpret_cast<const Lanes*>(a + k + 8) * *reinterpret_cast<const Lanes*>(b + k + 8);
    }
    sum0 += sum1;
    return ((sum0[0] + sum0[4]) + (sum0[1] + sum0[5])) +
           ((sum0[2] + sum0[6]) + (sum0[3] + sum0[7]));
}

double turn_between(float a, float b) {
    const double turn = std::abs(std::remainder(static_cast<double>(a) - b, 360.0));
    return turn;
}

}  // namespace

Normalisation normalisation(std::string_view name) {
    for (const auto& [kind, known] : kinds) {
        if (known == name) return kind;
    }
    fail(Fault::usage, "unknown normalisation '{}'; known: local, none, meanstd, hist, clahe",
         name);
}

std::string_view name_of(Normalisation kind) {
    for (const auto& [known, name] : kinds) {
        if (known == kind) return name;
    }
    return "";
}

NormalisedPair normalise(const cv::Mat& wide, const cv::Mat& tele, Normalisation kind) {
    switch (kind) {
        case Normalisation::local:
            return {local_8bit(wide), local_8bit(tele)};
        case Normalisation::clahe:
            return {clahe_8bit(wide), clahe_8bit(tele)};
        case Normalisation::none:
            return {to_8bit(wide, 255, 0), to_8bit(tele, 255, 0)};
        case Normalisation::hist: {
            const cv::Mat target = to_8bit(wide, 255, 0);
            return {target, with_histogram_of(target, to_8bit(tele, 255, 0))};
        }
        case Normalisation::meanstd: {
            cv::Scalar wide_mean, wide_spread, tele_mean, tele_spread;
            cv::meanStdDev(wide, wide_mean, wide_spread);
            cv::meanStdDev(tele, tele_mean, tele_spread);
            const double gain = wide_spread[0] / std::max(tele_spread[0], 1e-6);
            return {to_8bit(wide, 255, 0),
                    to_8bit(tele, 255 * gain, 255 * (wide_mean[0] - gain * tele_mean[0]))};
        }
    }
    return {};
}

KeypointMatches match_keypoints(const NormalisedPair& pair, int enlarge) {
    KeypointMatches result;
    // One after the other: SIFT's pyramids of both at once would be the peak of a pair's memory
    const Keypoints wide = detect(pair.wide, enlarge);
    const Keypoints tele = detect(pair.tele, enlarge);
    const int n = wide.descriptors.rows, m = tele.descriptors.rows;
    result.wide_keypoints = n;
    result.tele_keypoints = m;
    if (n < 2 || m < 2) return result;

    // Compare all with all, a strip of wide keypoints a task; join the strips in order
    constexpr int strip = 256;
    const int strips = (n + strip - 1) / strip;
    std::vector<Nearest> of_wide(static_cast<std::size_t>(n));
    std::vector<std::vector<Nearest>> parts(static_cast<std::size_t>(strips));
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(0, strips, [&](int s) {
            std::vector<Nearest>& of_tele = parts[static_cast<std::size_t>(s)];
            of_tele.resize(static_cast<std::size_t>(m));
            const int end = std::min(n, (s + 1) * strip);
            constexpr int tile = 32;  // tele descriptors that stay in the nearest cache
            for (int j0 = 0; j0 < m; j0 += tile) {
                for (int i = s * strip; i < end; ++i) {
                    const float* a = wide.descriptors.ptr<float>(i);
                    for (int j = j0; j < std::min(m, j0 + tile); ++j) {
                        const float product = inner_product(a, tele.descriptors.ptr<float>(j));
                        of_wide[static_cast<std::size_t>(i)].offer(j, product);
                        of_tele[static_cast<std::size_t>(j)].offer(i, product);
                    }
                }
            }
        });
    });
    std::vector<Nearest> of_tele(static_cast<std::size_t>(m));
    for (const auto& part : parts) {
        for (std::size_t j = 0; j < of_tele.size(); ++j) {
            if (part[j].index < 0) continue;
            of_tele[j].offer(part[j].index, part[j].best);
            if (part[j].second > -1) of_tele[j].offer(-1, part[j].second);
        }
    }

    // Keep distinct mutual pairs that the prior allows
    for (int i = 0; i < n; ++i) {
        const Nearest& near = of_wide[static_cast<std::size_t>(i)];
        if (!near.distinct()) continue;
        if (of_tele[static_cast<std::size_t>(near.index)].index != i) continue;
        const cv::KeyPoint& a = wide.points[static_cast<std::size_t>(i)];
        const cv::KeyPoint& b = tele.points[static_cast<std::size_t>(near.index)];
        if (turn_between(a.angle, b.angle) > largest_turn) continue;
        const double size_ratio = static_cast<double>(a.size) / b.size;
        if (size_ratio < 0.67 || size_ratio > 1.5) continue;
        result.matches.push_back({{a.pt.x, a.pt.y}, {b.pt.x, b.pt.y}});
    }
    return result;
}

}  // namespace ultrasr
