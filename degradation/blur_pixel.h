// The arithmetic of one blurred pixel, for one pixel (GPU) or many neighbours (CPU) alike.
#pragma once
#include <cstddef>

#include "degradation/lanes.h"

namespace ultrasr {

/// Where an index outside of 0 ... n-1 is reflected to, the edge not repeated, as often as needed
/// (reflect_101 of planar.h, for both compilers).
ULTRASR_HOST_DEVICE inline int reflected(int index, int n) {
    if (n == 1) return 0;
    const int period = 2 * (n - 1);
    int place = index % period;
    if (place < 0) place += period;
    return place < n ? place : period - place;
}

/// The sum over all taps, row by row from the left upper corner.
///
/// row    row(j) points to the source pixel under the left tap of kernel row j, or to whatever
///        gives a pointer when i is added to it (a row that reflects at its ends)
/// first, last   taps worth visiting in row j, for all j < size
template <class V, class Row>
ULTRASR_HOST_DEVICE V blur_full(const float* taps, int size, const int* first, const int* last,
                                Row&& row) {
    V sum(0.0F);
    for (int j = 0; j < size; ++j) {
        const auto source = row(j);
        const float* tap = taps + j * size;
        for (int i = first[j]; i <= last[j]; ++i) sum = fused(tap[i], loaded<V>(source + i), sum);
    }
    return sum;
}

/// The same for a kernel whose rows mirror: from the middle row outwards, both rows added first.
///
/// pair   pair(d) points to row middle - d plus row middle + d (d = 0: the middle row itself)
template <class V, class Pair>
ULTRASR_HOST_DEVICE V blur_folded(const float* taps, int size, const int* first, const int* last,
                                  Pair&& pair) {
    V sum(0.0F);
    const int middle = size / 2;
    for (int d = 0; d <= middle; ++d) {
        const int j = middle + d;
        const float* tap = taps + j * size;
        for (int i = first[j]; i <= last[j]; ++i) sum = fused(tap[i], pair(d, i, V{}), sum);
    }
    return sum;
}

/// A symmetric row of taps: the middle one, then pairs from the inside out.
///
/// at     at(d, V{}) is the value d pixels away along the axis, -radius <= d <= radius
template <class V, class At>
ULTRASR_HOST_DEVICE V blur_axis(const float* middle_tap, int radius, At&& at) {
    V sum = V(middle_tap[0]) * at(0, V{});
    for (int d = 1; d <= radius; ++d) {
        sum = fused(middle_tap[d], at(-d, V{}) + at(d, V{}), sum);
    }
    return sum;
}

}  // namespace ultrasr
