#include "data/hdf5_chunks.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>
#include <opencv2/core.hpp>

namespace ultrasr {
namespace {

constexpr hsize_t chunk_side = 256;
constexpr int deflate_level = 4;

/// Shuffle, deflate, checksum: the filter pipeline on one chunk.
std::vector<unsigned char> filtered(const std::vector<unsigned char>& chunk, std::size_t size) {
    std::vector<unsigned char> shuffled(chunk.size());
    const std::size_t n = chunk.size() / size;
    for (std::size_t byte = 0; byte < size; ++byte) {
        for (std::size_t i = 0; i < n; ++i) shuffled[byte * n + i] = chunk[i * size + byte];
    }
    uLongf length = compressBound(static_cast<uLong>(shuffled.size()));
    std::vector<unsigned char> result(length + 4);
    if (compress2(result.data(), &length, shuffled.data(), static_cast<uLong>(shuffled.size()),
                  deflate_level) != Z_OK) {
        throw std::bad_alloc();
    }
    result.resize(length);
    const std::uint32_t checksum = fletcher32(result);
    for (int i = 0; i < 4; ++i) result.push_back(static_cast<unsigned char>(checksum >> 8 * i));
    return result;
}

}  // namespace

std::uint32_t fletcher32(const std::vector<unsigned char>& bytes) {
    std::uint64_t sum1 = 0, sum2 = 0;
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        sum1 += std::uint64_t{bytes[i]} << 8 | (i + 1 < bytes.size() ? bytes[i + 1] : 0U);
        sum2 += sum1;
        if (sum2 >> 62) sum2 = sum2 % 65535 + 65535;
    }
    const auto folded = [](std::uint64_t sum) {
        return static_cast<std::uint32_t>(sum == 0 ? 0 : (sum - 1) % 65535 + 1);
    };
    return folded(sum2) << 16 | folded(sum1);
}

FilteredArray filter_array(std::string name, const cv::Mat& values, Hdf5Sample sample) {
    const auto rows = static_cast<hsize_t>(values.rows),
               columns = static_cast<hsize_t>(values.cols);
    const auto channels = static_cast<hsize_t>(values.channels());
    FilteredArray array{std::move(name), sample, {rows, columns}, {}, {}};
    array.chunk_dims = {std::min(rows, chunk_side), std::min(columns, chunk_side)};
    if (channels > 1) {
        array.dims.push_back(channels);
        array.chunk_dims.push_back(channels);
    }
    const std::size_t height = array.chunk_dims[0], width = array.chunk_dims[1];
    const std::size_t pixel = values.elemSize();
    for (std::size_t y = 0; y < rows; y += height) {
        for (std::size_t x = 0; x < columns; x += width) {
            std::vector<unsigned char> chunk(height * width * pixel, 0);
            for (std::size_t i = 0; i < std::min<std::size_t>(height, rows - y); ++i) {
                std::memcpy(&chunk[i * width * pixel],
                            values.ptr(static_cast<int>(y + i)) + x * pixel,
                            std::min<std::size_t>(width, columns - x) * pixel);
            }
            array.chunks.push_back(filtered(chunk, bytes_of(sample)));
        }
    }
    return array;
}

void put_array(hid_t group, const FilteredArray& array) {
    const auto rank = static_cast<int>(array.dims.size());
    const Hdf5Handle space(H5Screate_simple(rank, array.dims.data(), nullptr), H5Sclose);
    const Hdf5Handle create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_obj_track_times(create.get(), false);
    H5Pset_chunk(create.get(), rank, array.chunk_dims.data());
    H5Pset_shuffle(create.get());
    H5Pset_deflate(create.get(), deflate_level);
    H5Pset_fletcher32(create.get());
    const Hdf5Handle type = type_of(array.sample);
    const Hdf5Handle set(H5Dcreate2(group, array.name.c_str(), type.get(), space.get(), H5P_DEFAULT,
                                    create.get(), H5P_DEFAULT),
                         H5Dclose);
    check_hdf5(set.get());
    std::array<hsize_t, 3> offset{};
    for (const auto& chunk : array.chunks) {
        check_hdf5(
            H5Dwrite_chunk(set.get(), H5P_DEFAULT, 0, offset.data(), chunk.size(), chunk.data()));
        offset[1] += array.chunk_dims[1];
        if (offset[1] >= array.dims[1]) {
            offset[1] = 0;
            offset[0] += array.chunk_dims[0];
        }
    }
}

}  // namespace ultrasr
