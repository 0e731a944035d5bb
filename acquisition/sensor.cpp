#include "acquisition/sensor.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <opencv2/core.hpp>
#include <opencv2/core/hal/hal.hpp>

#include "acquisition/gaussian_noise.h"
#include "data/color.h"

namespace ultrasr {
namespace {

constexpr int curve_steps = 8192;

std::array<float, 2 * sharpening_reach + 1> sharpening_kernel(double sigma) {
    std::array<float, 2 * sharpening_reach + 1> kernel{};
    double sum = 0;
    for (int k = -sharpening_reach; k <= sharpening_reach; ++k) {
        sum += std::exp(-0.5 * k * k / (sigma * sigma));
    }
    for (int k = -sharpening_reach; k <= sharpening_reach; ++k) {
        kernel[static_cast<std::size_t>(k + sharpening_reach)] =
            static_cast<float>(std::exp(-0.5 * k * k / (sigma * sigma)) / sum);
    }
    return kernel;
}

/// What an unsharp mask adds to each channel: amount x (luma - blurred luma), border rows left out.
cv::Mat unsharp_addition(const LightPlanes& coded, const PictureLook& look) {
    const int width = coded[0].cols, rows = coded[0].rows - 2 * sharpening_reach;
    const auto kernel = sharpening_kernel(look.sharpening_sigma_px);
    cv::Mat luma(coded[0].rows, width, CV_32F);
    for (int y = 0; y < luma.rows; ++y) {
        const float *r = coded[0].ptr<float>(y), *g = coded[1].ptr<float>(y),
                    *b = coded[2].ptr<float>(y);
        float* to = luma.ptr<float>(y);
        for (int x = 0; x < width; ++x) to[x] = 0.299F * r[x] + 0.587F * g[x] + 0.114F * b[x];
    }
    const auto amount = static_cast<float>(look.sharpening);
    cv::Mat addition(rows, width, CV_32F);
    std::vector<float> line(static_cast<std::size_t>(width + 2 * sharpening_reach));
    for (int y = 0; y < rows; ++y) {
        // Blur down, then across with the borders repeated
        std::fill(line.begin(), line.end(), 0.0F);
        float* middle = line.data() + sharpening_reach;
        for (std::size_t k = 0; k < kernel.size(); ++k) {
            const float* from = luma.ptr<float>(y + static_cast<int>(k));
            for (int x = 0; x < width; ++x) middle[x] += kernel[k] * from[x];
        }
        std::fill(line.data(), middle, middle[0]);
        std::fill(middle + width, line.data() + line.size(), middle[width - 1]);
        float* to = addition.ptr<float>(y);
        std::fill(to, to + width, 0.0F);
        for (std::size_t k = 0; k < kernel.size(); ++k) {
            const float* from = line.data() + k;
            for (int x = 0; x < width; ++x) to[x] -= amount * kernel[k] * from[x];
        }
        const float* sharp = luma.ptr<float>(y + sharpening_reach);
        for (int x = 0; x < width; ++x) to[x] += amount * sharp[x];
    }
    return addition;
}

}  // namespace

double ToneCurve::exact(const PictureLook& look, double light) {
    const double coded = std::pow(linear_to_srgb(std::clamp(light, 0.0, 1.0)), look.tone_exponent);
    const double turn = 2 * std::numbers::pi;
    return coded - look.s_curve * std::sin(turn * coded) / turn;
}

ToneCurve::ToneCurve(const PictureLook& look) {
    for (int i = 0; i <= curve_steps + 1; ++i) {
        const double root = std::min(1.0, static_cast<double>(i) / curve_steps);
        table_.push_back(static_cast<float>(exact(look, root * root)));
    }
}

void ToneCurve::apply(const float* light, float* coded, int n) const {
    for (int i = 0; i < n; ++i) coded[i] = std::min(1.0F, std::max(0.0F, light[i]));
    cv::hal::sqrt32f(coded, coded, n);
    const float* table = table_.data();
    for (int i = 0; i < n; ++i) {
        const float at = coded[i] * static_cast<float>(curve_steps);
        const int step = static_cast<int>(at);
        const float low = table[step];
        coded[i] = low + (table[step + 1] - low) * (at - static_cast<float>(step));
    }
}

void expose_(LightPlanes& light, int first_row, const CameraTruth& camera,
             const Exposure& exposure) {
    const int width = light[0].cols;
    const auto n = static_cast<std::size_t>(width);
    const PixelPoint centre = camera.principal_point();
    const double h = camera.half_diagonal();
    std::vector<float> loss(n), deviation(n), noise(n);
    const auto gain = static_cast<float>(exposure.gain);
    const auto floor = static_cast<float>(exposure.noise_floor);
    const bool noisy = exposure.noise_floor > 0 || exposure.noise_slope[0] > 0 ||
                       exposure.noise_slope[1] > 0 || exposure.noise_slope[2] > 0;
    for (int row = 0; row < light[0].rows; ++row) {
        // Gain and vignette
        const double y = (first_row + row - centre.y) / h;
        for (int x = 0; x < width; ++x) {
            const double u = (x - centre.x) / h;
            loss[static_cast<std::size_t>(x)] =
                gain * static_cast<float>(1 - exposure.vignette * (u * u + y * y));
        }
        for (std::size_t c = 0; c < 3; ++c) {
            float* signal = light[c].ptr<float>(row);
            for (std::size_t x = 0; x < n; ++x) signal[x] *= loss[x];
            if (!noisy) continue;
            // Noise: rows above the frame too, so that they get numbers of their own
            const auto slope = static_cast<float>(exposure.noise_slope[c]);
            for (std::size_t x = 0; x < n; ++x) {
                deviation[x] = slope * std::max(0.0F, signal[x]) + floor;
            }
            cv::hal::sqrt32f(deviation.data(), deviation.data(), width);
            const auto item = static_cast<std::uint64_t>(3 * (first_row + row + 1024)) + c;
            fill_gaussian(exposure.noise_seed, item, noise);
            for (std::size_t x = 0; x < n; ++x) signal[x] += deviation[x] * noise[x];
        }
    }
}

cv::Mat develop_8bit(const LightPlanes& signal, const PictureLook& look, const ToneCurve& curve) {
    // White balance and tone curve
    const int width = signal[0].cols, height = signal[0].rows;
    LightPlanes coded;
    for (std::size_t c = 0; c < 3; ++c) {
        coded[c].create(height, width, CV_32F);
        const auto balance = static_cast<float>(look.white_balance[c]);
        for (int y = 0; y < height; ++y) {
            const float* from = signal[c].ptr<float>(y);
            float* to = coded[c].ptr<float>(y);
            for (int x = 0; x < width; ++x) to[x] = balance * from[x];
            curve.apply(to, to, width);
        }
    }
    // Sharpen and round
    const cv::Mat addition = look.sharpening > 0 ? unsharp_addition(coded, look) : cv::Mat();
    const int rows = height - 2 * sharpening_reach;
    cv::Mat rgb(rows, width, CV_8UC3);
    const std::vector<float> none(static_cast<std::size_t>(width), 0.0F);
    for (int y = 0; y < rows; ++y) {
        const float* add = addition.empty() ? none.data() : addition.ptr<float>(y);
        unsigned char* to = rgb.ptr(y);
        for (std::size_t c = 0; c < 3; ++c) {
            const float* from = coded[c].ptr<float>(y + sharpening_reach);
            for (int x = 0; x < width; ++x) {
                const float v = (from[x] + add[x]) * 255.0F + 0.5F;
                to[3 * static_cast<std::size_t>(x) + c] =
                    static_cast<unsigned char>(std::min(255.0F, std::max(0.0F, v)));
            }
        }
    }
    return rgb;
}

}  // namespace ultrasr
