// Which files belong together: LR with HR, finished pictures with HR.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/geometry.h"
#include "data/image_io.h"

namespace ultrasr {

/// Two pictures, as read_picture takes them.
struct ImagePair {
    std::string stem;  ///< the HR file's name without extension, or the scene; names the pair
    std::filesystem::path lr;
    std::filesystem::path hr;
    PixelSize lr_size;
    PixelSize hr_size;
};

/// Pairs of one scale. Never empty.
struct PairSet {
    std::string name;  ///< of the folder, or as set.json says
    Scale scale;       ///< nominal; HR sizes need not be LR x scale to the pixel
    std::vector<ImagePair> pairs;
};

/// Finds the sets below a path.
///
/// spec     a folder with LR/ and HR/ (or test_LR/ and test_HR/), a folder with x8/LR, x8/HR, ...,
///          a pair store (.h5, one scene or packed, data/pair_store.h), or a set.json: {"sets":
///          [{"name": "realsr", "path": "...", "scale": 4}, ...]}, where "lr" and "hr" may stand
///          instead of "path"; paths are relative to the file, "scale" may be left out. PATH@NAME
///          names the set.
/// returns  one set a scale, in ascending order of scale; pairs sorted by stem (code points)
/// throws   Error(input) when nothing is found, a picture has no partner or two, or the sizes of a
///          pair do not fit its set's scale within one LR pixel
std::vector<PairSet> find_pair_sets(std::string_view spec);

/// The file that belongs to each stem.
struct StemMatch {
    std::vector<std::filesystem::path> files;  ///< one per stem, in the order of the stems
    std::vector<std::filesystem::path> extra;  ///< candidates that belong to no stem
};

/// Pairs by exact stem, else by the stem without one known tail (_out, _SR, _x4, _LR4, _HR, ...,
/// peer_methods.md 7.2). Case-sensitive.
///
/// what     names the candidates in messages: "HR picture in PATH"
/// label    a further tail to strip: "_" + label
/// throws   Error(input) for a stem that none or several candidates fit; lists them
StemMatch match_stems(const std::vector<std::string>& stems,
                      const std::vector<std::filesystem::path>& candidates, std::string_view what,
                      std::string_view label = {});

/// Reads a picture file as read_image does, or the picture in a pair store whose path goes on with
/// its place: set.h5/pier/x8/lr. Of 16 bits the high byte, as for PNG.
/// throws Error(input)
DecodedImage read_picture(const std::filesystem::path& path);

/// SHA-256 over names and contents of a set's files, the same on every machine. Of pictures in a
/// pair store the pixels count, so that packing changes nothing.
std::string hash_of_set(const PairSet& set);

}  // namespace ultrasr
