// Digital negatives: the file that a camera without a secret format of its own writes.
#pragma once
#include <array>
#include <string>
#include <opencv2/core/mat.hpp>

#include "acquisition/exif.h"

namespace ultrasr {

/// A sensor's numbers and what they mean.
struct DngPicture {
    /// CV_16UC1: a Bayer mosaic R G / G B, red in the left upper corner.
    /// CV_16UC3: all three colours of every pixel (LinearRaw), R G B.
    cv::Mat samples;
    /// The numbers of no light and of full scale. For three colours a pixel black must be 0: LibRaw
    /// 0.20 takes it from the pixels there, but not from full scale.
    int black = 0, white = 65535;
    /// What the sensor says of a white thing in this frame's light, green 1. The colours behind it
    /// are those of sRGB: (red / neutral[0], green, blue / neutral[2]) is linear sRGB.
    std::array<double, 3> neutral{1, 1, 1};
    Exif exif;  ///< make, model, exposure, time, orientation ...; what is missing is left out
};

/// The file: TIFF with uncompressed strips of 16 rows, DNG 1.4, readable from 1.1 on.
///
/// ColorMatrix1 (D65) is sRGB's own matrix times diag(camera_white),
/// so that decoding with the camera's white balance gives linear sRGB.
/// camera_white  the sensor's answer to daylight, green 1; the same for all frames of a camera
/// throws        Error(internal) on another pixel type or impossible levels
///
/// Source: Adobe, Digital Negative Specification 1.4.0.0; TIFF 6.0; EXIF 2.32.
std::string encode_dng(const DngPicture& picture, const std::array<double, 3>& camera_white);

}  // namespace ultrasr
