// Datasets whose chunks are filtered here, so that threads compress side by side while HDF5, which
// serves one at a time, only writes bytes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "data/hdf5_handle.h"

namespace ultrasr {

/// A dataset ready to be stored.
struct FilteredArray {
    std::string name;
    Hdf5Sample sample = Hdf5Sample::u8;
    std::vector<hsize_t> dims, chunk_dims;
    std::vector<std::vector<unsigned char>> chunks;  ///< rows of chunks from the left upper corner
};

/// Cuts rows x columns x channels of one sample type into chunks of up to 256 x 256 pixels, those
/// at the right and lower end filled up with zeros: shuffle, deflate 4, Fletcher-32. Needs no lock.
///
/// values  of the depth of `sample`; f16 comes as CV_16S, from cv::convertFp16
FilteredArray filter_array(std::string name, const cv::Mat& values, Hdf5Sample sample);

/// Makes the dataset in a group, without times. Under enter_hdf5().
/// throws  Hdf5Failure
void put_array(hid_t group, const FilteredArray& array);

/// Fletcher's checksum over big-endian 16-bit words, as HDF5's filter 3 stores it: sums modulo
/// 65535, with 65535 for the zero of a sum that is not empty.
/// Source: Fletcher 1982, IEEE Trans. Commun. 30(1); HDF5 file format specification, filter 3.
std::uint32_t fletcher32(const std::vector<unsigned char>& bytes);

}  // namespace ultrasr
