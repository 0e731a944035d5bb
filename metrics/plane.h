// One channel of a picture in memory.
#pragma once
#include <cstddef>
#include <memory>

#include "data/base/geometry.h"

namespace ultrasr {

/// H x W numbers, rows one after the other. Fresh planes are not initialised.
template <class T>
class Plane {
  public:
    Plane(int width, int height)
        : size_{width, height},
          values_(std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(width) *
                                                      static_cast<std::size_t>(height))) {}

    int width() const { return size_.width; }
    int height() const { return size_.height; }
    const T* row(int y) const { return values_.get() + offset(y); }
    T* row_(int y) { return values_.get() + offset(y); }

  private:
    std::size_t offset(int y) const {
        return static_cast<std::size_t>(y) * static_cast<std::size_t>(size_.width);
    }

    PixelSize size_;
    std::unique_ptr<T[]> values_;
};

}  // namespace ultrasr
