#include "degradation/steps/planar.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr std::align_val_t alignment{64};

/// Memory of pictures that went away, for the next ones of this thread.
class Spare {
  public:
    ~Spare() {
        gone = true;
        for (const Block& block : blocks_) release(block.values);
    }
    float* take(std::size_t wanted, std::size_t& capacity) {
        const auto fits = [&](const Block& b) {
            return b.capacity >= wanted && b.capacity <= 4 * wanted;
        };
        const auto best = std::find_if(blocks_.begin(), blocks_.end(), fits);
        if (best == blocks_.end()) {
            capacity = wanted;
            return static_cast<float*>(::operator new[](wanted * sizeof(float), alignment));
        }
        capacity = best->capacity;
        float* values = best->values;
        blocks_.erase(best);
        return values;
    }
    void keep(float* values, std::size_t capacity) {
        blocks_.insert(blocks_.begin(), {values, capacity});
        if (blocks_.size() <= most) return;
        release(blocks_.back().values);
        blocks_.pop_back();
    }
    static void release(float* values) { ::operator delete[](values, alignment); }

    static thread_local bool gone;  ///< the thread ends: nothing is kept any more

  private:
    struct Block {
        float* values;
        std::size_t capacity;
    };
    static constexpr std::size_t most = 6;
    std::vector<Block> blocks_;
};
thread_local bool Spare::gone = false;

Spare& spare() {
    thread_local Spare mine;
    return mine;
}

template <class Sample>
void unpack(const cv::Mat& rgb, float most, Planar& to) {
    // Every level once, by true division
    std::vector<float> level(std::size_t{1} << (8 * sizeof(Sample)));
    for (std::size_t i = 0; i < level.size(); ++i) level[i] = static_cast<float>(i) / most;
    for (int y = 0; y < rgb.rows; ++y) {
        const Sample* from = rgb.ptr<Sample>(y);
        float *r = to.row_(0, y), *g = to.row_(1, y), *b = to.row_(2, y);
        for (int x = 0; x < rgb.cols; ++x, from += 3) {
            r[x] = level[from[0]];
            g[x] = level[from[1]];
            b[x] = level[from[2]];
        }
    }
}

}  // namespace

Planar::~Planar() {
    if (!values_) return;
    if (Spare::gone) {
        Spare::release(values_);
    } else {
        spare().keep(values_, capacity_);
    }
}

Planar::Planar(int channels, int height, int width)
    : channels_(channels), height_(height), width_(width) {
    if (channels < 1 || height < 1 || width < 1) {
        fail(Fault::internal, "a picture of {} planes of {} x {} cannot be made", channels, width,
             height);
    }
    values_ = spare().take(values(), capacity_);
}

Planar::Planar(const Planar& other) {
    if (other.empty()) return;
    *this = Planar(other.channels_, other.height_, other.width_);
    std::memcpy(data_(), other.data(), other.values() * sizeof(float));
}

Planar& Planar::operator=(const Planar& other) {
    if (this != &other) *this = Planar(other);
    return *this;
}

Planar planar_of_rgb(const cv::Mat& rgb) {
    Planar picture(3, rgb.rows, rgb.cols);
    if (rgb.type() == CV_8UC3) {
        unpack<std::uint8_t>(rgb, 255.0F, picture);
    } else if (rgb.type() == CV_16UC3) {
        unpack<std::uint16_t>(rgb, 65535.0F, picture);
    } else {
        fail(Fault::internal, "planes are made of 8 or 16-bit RGB, not of OpenCV type {}",
             rgb.type());
    }
    return picture;
}

cv::Mat rgb8_of_planar(const Planar& picture) {
    cv::Mat rgb(picture.height(), picture.width(), CV_8UC3);
    for (int y = 0; y < picture.height(); ++y) {
        std::uint8_t* to = rgb.ptr<std::uint8_t>(y);
        const std::array rows{picture.row(0, y), picture.row(1, y), picture.row(2, y)};
        for (int x = 0; x < picture.width(); ++x) {
            for (const float* row : rows) {
                const float level = std::rint(255.0F * row[x]);
                *to++ = static_cast<std::uint8_t>(level > 0 ? std::min(level, 255.0F) : 0.0F);
            }
        }
    }
    return rgb;
}

}  // namespace ultrasr
