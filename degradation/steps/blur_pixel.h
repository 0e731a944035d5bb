// The arithmetic of one blurred pixel, for one pixel (GPU) or many neighbours (CPU) alike.
#pragma once
#include <cstddef>

#include "degradation/steps/lanes.h"

namespace ultrasr {

/// Where an index outside of 0 ... n-1 is reflected to, the edge not repeated, as often as needed:
/// ... 2 1 0 1 2 ... n-2 n-1 n-2 ...; n = 1 gives 0.
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
        for (int i = first[j]; i <= last[j]; ++i)
            sum = fused(V(tap[i]), loaded<V>(source + i), sum);
    }
    return sum;
}

#if !defined(__CUDACC__)
/// Two sums one below the other, which share what they load: the same values as blur_full gives.
///
/// taps   with zeros in place of those not worth visiting
/// row    as above, for j <= size
template <class V, class Row>
void blur_full_two(const float* taps, int size, const int* first, const int* last, Row&& row,
                   V& upper, V& lower) {
    upper = lower = V(0.0F);
    const float* source_0 = row(0);
    for (int i = first[0]; i <= last[0]; ++i) {
        upper = fused(V(taps[i]), loaded<V>(source_0 + i), upper);
    }
    for (int j = 1; j < size; ++j) {
        const float* source = row(j);
        const float *tap = taps + j * size, *above = tap - size;
        const int begin = first[j] < first[j - 1] ? first[j] : first[j - 1];
        const int end = last[j] > last[j - 1] ? last[j] : last[j - 1];
        for (int i = begin; i <= end; ++i) {
            V value = loaded<V>(source + i);
            keep(value);
            upper = fused(V(tap[i]), value, upper);
            lower = fused(V(above[i]), value, lower);
        }
    }
    const float *source_n = row(size), *tap = taps + (size - 1) * size;
    for (int i = first[size - 1]; i <= last[size - 1]; ++i) {
        lower = fused(V(tap[i]), loaded<V>(source_n + i), lower);
    }
}
#endif

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
        for (int i = first[j]; i <= last[j]; ++i) sum = fused(V(tap[i]), pair(d, i, V{}), sum);
    }
    return sum;
}

#if !defined(__CUDACC__)
/// Two of them one below the other at once: twice as many sums that do not wait for each other.
template <class V, class Pair>
void blur_folded_two(const float* taps, int size, const int* first, const int* last, Pair&& pair,
                     V& upper, V& lower) {
    upper = lower = V(0.0F);
    const int middle = size / 2;
    for (int d = 0; d <= middle; ++d) {
        const int j = middle + d;
        const float* tap = taps + j * size;
        for (int i = first[j]; i <= last[j]; ++i) {
            const V factor(tap[i]);
            upper = fused(factor, pair(0, d, i, V{}), upper);
            lower = fused(factor, pair(1, d, i, V{}), lower);
        }
    }
}
#endif

/// A symmetric row of taps: the middle one, then pairs from the inside out.
///
/// at     at(d, V{}) is the value d pixels away along the axis, -radius <= d <= radius
template <class V, class At>
ULTRASR_HOST_DEVICE V blur_axis(const float* middle_tap, int radius, At&& at) {
    V sum = V(middle_tap[0]) * at(0, V{});
    for (int d = 1; d <= radius; ++d) {
        sum = fused(V(middle_tap[d]), at(-d, V{}) + at(d, V{}), sum);
    }
    return sum;
}

#if !defined(__CUDACC__)
/// Two of them a pixel apart along the axis: what one has loaded serves the other, the values are
/// those of blur_axis.
///
/// at     at(d, V{}) for -radius <= d <= radius + 1, seen from the first
template <class V, class At>
void blur_axis_two(const float* middle_tap, int radius, At&& at, V& first, V& second) {
    V before = at(0, V{}), behind = at(1, V{});
    keep(before);
    keep(behind);
    first = V(middle_tap[0]) * before;
    second = V(middle_tap[0]) * behind;
    for (int d = 1; d <= radius; ++d) {
        const V tap(middle_tap[d]);
        V above = at(-d, V{}), below = at(d + 1, V{});
        keep(above);
        keep(below);
        first = fused(tap, above + behind, first);
        second = fused(tap, before + below, second);
        before = above;
        behind = below;
    }
}
#endif

}  // namespace ultrasr
