#include "registration/qa.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/color.h"
#include "data/image_io.h"
#include "registration/photometric.h"
#include "registration/warp.h"

namespace ultrasr {
namespace {

constexpr int tile = 32;            // LR px
constexpr int enlarge = 4;          // of pictures at LR scale
constexpr int arrow = 20;           // times longer than the shift
constexpr double red_above = 0.25;  // LR px

cv::Mat resized(const cv::Mat& picture, cv::Size size, int method) {
    cv::Mat result;
    cv::resize(picture, result, size, 0, 0, method);
    return result;
}

/// HR as delivered, at LR's brightness for the eye.
PhotometricFit display_match(const PairWindow& window, const cv::Mat& lr_linear,
                             const cv::Mat& hr_mean) {
    PhotometricFit fit;
    if (window.photometric.kind != Photometric::none) return fit;
    PhotometricInput input;
    input.lr = lr_linear;
    input.hr_mean = hr_mean;
    input.weight = cv::Mat(lr_linear.rows, lr_linear.cols, CV_32F, cv::Scalar(1));
    return fit_gain_always(input);
}

void put_32(std::string& to, std::uint32_t value) {
    for (const int shift : {24, 16, 8, 0}) to += static_cast<char>((value >> shift) & 0xFF);
}

/// CRC-32 of PNG chunks (ISO 3309).
std::uint32_t crc_of(std::string_view bytes) {
    std::uint32_t crc = 0xFFFFFFFFU;
    for (const char c : bytes) {
        crc ^= static_cast<unsigned char>(c);
        for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ ((crc & 1) ? 0xEDB88320U : 0U);
    }
    return ~crc;
}

void put_chunk(std::string& to, std::string_view kind, std::string_view body) {
    put_32(to, static_cast<std::uint32_t>(body.size()));
    const std::string named = std::string(kind) + std::string(body);
    to += named;
    put_32(to, crc_of(named));
}

/// The bodies of a PNG's chunks of one kind, joined.
std::string chunks_of(std::string_view png, std::string_view kind) {
    std::string joined;
    for (std::size_t at = 8; at + 12 <= png.size();) {
        std::uint32_t size = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            size = (size << 8) | static_cast<unsigned char>(png[at + i]);
        }
        if (png.substr(at + 4, 4) == kind) joined += png.substr(at + 8, size);
        at += 12 + static_cast<std::size_t>(size);
    }
    return joined;
}

}  // namespace

std::string encode_flicker(const cv::Mat& a, const cv::Mat& b) {
    if (a.size() != b.size()) fail(Fault::internal, "flicker frames of different sizes");
    const std::string first = encode_png(a), second = encode_png(b);
    std::string out = first.substr(0, 8);
    put_chunk(out, "IHDR", chunks_of(first, "IHDR"));
    std::string control;
    put_32(control, 2);  // frames
    put_32(control, 0);  // for ever
    put_chunk(out, "acTL", control);
    std::uint32_t sequence = 0;
    const auto frame_control = [&] {
        std::string body;
        put_32(body, sequence++);
        put_32(body, static_cast<std::uint32_t>(a.cols));
        put_32(body, static_cast<std::uint32_t>(a.rows));
        put_32(body, 0);
        put_32(body, 0);
        body += std::string("\0\1\0\2\0\0", 6);  // half a second; replace
        put_chunk(out, "fcTL", body);
    };
    frame_control();
    put_chunk(out, "IDAT", chunks_of(first, "IDAT"));
    frame_control();
    std::string data;
    put_32(data, sequence++);
    put_chunk(out, "fdAT", data + chunks_of(second, "IDAT"));
    put_chunk(out, "IEND", "");
    return out;
}

std::map<std::string, std::string> qa_pictures(const PairWindow& window, int scale) {
    std::map<std::string, std::string> files;
    if (window.lr8.empty() || window.hr8.empty()) return files;
    const cv::Mat& lr = window.lr8;
    const cv::Size third(window.hr8.cols / 3, window.hr8.rows / 3);
    const cv::Size four(lr.cols * enlarge, lr.rows * enlarge);

    // HR at LR scale and at a third, at LR's brightness
    const auto linear_of = [](const cv::Mat& rgb8) {
        return linear_part(Frame{rgb8, Encoding::srgb}, {0, 0, rgb8.cols, rgb8.rows});
    };
    const cv::Mat lr_linear = linear_of(lr);
    const cv::Mat hr_third = resized(window.hr8, third, cv::INTER_AREA);
    cv::Mat hr_mean = window.hr_small;
    if (window.photometric.kind != Photometric::none) {
        hr_mean = apply_photometric(window.photometric, hr_mean);
    }
    const PhotometricFit match = display_match(window, lr_linear, hr_mean);
    const cv::Mat hr_shown = encode_srgb(apply_photometric(match, linear_of(hr_third)), 8);
    cv::Mat small = encode_srgb(apply_photometric(match, hr_mean), 8);
    if (small.size() != lr.size()) small = resized(small, lr.size(), cv::INTER_LINEAR);

    // Checkerboard
    const double per_lr = scale / 3.0;
    const cv::Size lr_big(static_cast<int>(std::lround(lr.cols * per_lr)),
                          static_cast<int>(std::lround(lr.rows * per_lr)));
    const cv::Mat lr_third = resized(lr, lr_big, cv::INTER_CUBIC);
    cv::Mat checker = hr_shown.clone();
    for (int y = 0; y < std::min(checker.rows, lr_third.rows); ++y) {
        for (int x = 0; x < std::min(checker.cols, lr_third.cols); ++x) {
            const int column = static_cast<int>(x / per_lr) / tile;
            const int row = static_cast<int>(y / per_lr) / tile;
            if ((row + column) % 2 == 0) checker.at<cv::Vec3b>(y, x) = lr_third.at<cv::Vec3b>(y, x);
        }
    }
    files["checker"] = encode_png(checker);
    files["flicker"] = encode_flicker(resized(lr, four, cv::INTER_NEAREST),
                                      resized(small, four, cv::INTER_NEAREST));

    // Difference, with what is not weighed marked
    cv::Mat error(lr.rows, lr.cols, CV_8UC3);
    for (int y = 0; y < lr.rows; ++y) {
        for (int x = 0; x < lr.cols; ++x) {
            const cv::Vec3b a = lr.at<cv::Vec3b>(y, x), b = small.at<cv::Vec3b>(y, x);
            cv::Vec3b& to = error.at<cv::Vec3b>(y, x);
            for (int c = 0; c < 3; ++c)
                to[c] = cv::saturate_cast<unsigned char>(4 * std::abs(a[c] - b[c]));
            if (window.weight.at<float>(y, x) <= 0) {
                to[2] = static_cast<unsigned char>(std::max(to[2] / 2 + 128, 128));
            }
        }
    }
    files["error"] = encode_png(resized(error, four, cv::INTER_NEAREST));

    // Shifts over a dimmed picture
    cv::Mat shifts = resized(lr, four, cv::INTER_CUBIC);
    shifts = shifts * 0.6;
    const BlockShifts& blocks = window.error.shifts;
    for (int row = 0; row < blocks.rows; ++row) {
        for (int column = 0; column < blocks.columns; ++column) {
            const BlockShift& b = blocks.at(row, column);
            if (!b.textured || !std::isfinite(b.sigma)) continue;
            const double cx = (column + 0.5) * 24 * enlarge, cy = (row + 0.5) * 24 * enlarge;
            const bool far = std::hypot(b.x, b.y) > red_above;
            const cv::Scalar colour = b.correlation < 0.8 ? cv::Scalar(255, 0, 255)
                                      : far               ? cv::Scalar(255, 60, 60)
                                                          : cv::Scalar(90, 255, 90);
            const cv::Point from(static_cast<int>(cx), static_cast<int>(cy));
            const cv::Point to(static_cast<int>(std::lround(cx + b.x * arrow * enlarge)),
                               static_cast<int>(std::lround(cy + b.y * arrow * enlarge)));
            cv::circle(shifts, from, 2, colour, cv::FILLED, cv::LINE_AA);
            cv::arrowedLine(shifts, from, to, colour, 2, cv::LINE_AA, 0, 0.25);
        }
    }
    files["shifts"] = encode_png(shifts);
    return files;
}

}  // namespace ultrasr
