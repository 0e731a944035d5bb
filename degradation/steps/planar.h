// A picture as the degradation steps see it: planes of float32, values that may leave [0,1].
#pragma once
#include <cstddef>
#include <utility>
#include <opencv2/core/mat.hpp>

#include "data/base/geometry.h"

namespace ultrasr {

/// channels x height x width, row after row without gaps, RGB. Between the steps of a degradation
/// values overshoot [0,1] (degradation.md T15), so these are never 8-bit.
///
/// Moving is cheap, copying copies. Memory is kept by the thread for the next picture: a fresh
/// megabyte costs more than a blur of it.
class Planar {
  public:
    Planar() = default;  ///< empty
    /// Values are not set.
    Planar(int channels, int height, int width);
    Planar(int channels, PixelSize size) : Planar(channels, size.height, size.width) {}
    Planar(const Planar& other);
    Planar& operator=(const Planar& other);
    Planar(Planar&& other) noexcept { swap(other); }
    Planar& operator=(Planar&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Planar();

    int channels() const { return channels_; }
    int height() const { return height_; }
    int width() const { return width_; }
    PixelSize size() const { return {width_, height_}; }
    bool empty() const { return values_ == nullptr; }
    std::size_t plane_values() const {
        return static_cast<std::size_t>(height_) * static_cast<std::size_t>(width_);
    }
    std::size_t values() const { return static_cast<std::size_t>(channels_) * plane_values(); }

    const float* data() const { return values_; }
    float* data_() { return values_; }
    const float* plane(int c) const {
        return data() + static_cast<std::size_t>(c) * plane_values();
    }
    float* plane_(int c) { return data_() + static_cast<std::size_t>(c) * plane_values(); }
    const float* row(int c, int y) const {
        return plane(c) + static_cast<std::size_t>(y) * static_cast<std::size_t>(width_);
    }
    float* row_(int c, int y) {
        return plane_(c) + static_cast<std::size_t>(y) * static_cast<std::size_t>(width_);
    }

  private:
    void swap(Planar& other) noexcept {
        std::swap(values_, other.values_);
        std::swap(capacity_, other.capacity_);
        std::swap(channels_, other.channels_);
        std::swap(height_, other.height_);
        std::swap(width_, other.width_);
    }

    float* values_ = nullptr;
    std::size_t capacity_ = 0;
    int channels_ = 0, height_ = 0, width_ = 0;
};

/// H x W x 3, CV_8UC3 or CV_16UC3 in RGB order, to k / 255 or k / 65535 by true division.
Planar planar_of_rgb(const cv::Mat& rgb);

/// [0,1] to H x W x 3, CV_8UC3, RGB order: clamped, half to even.
cv::Mat rgb8_of_planar(const Planar& picture);

}  // namespace ultrasr
