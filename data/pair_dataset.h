// Which files belong together: LR with HR, finished pictures with HR.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/geometry.h"

namespace ultrasr {

struct ImagePair {
    std::string stem;  ///< the HR file's name without extension; names the pair everywhere
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
///          or a set.json: {"sets": [{"name": "realsr", "path": "...", "scale": 4}, ...]}, where
///          "lr" and "hr" may stand instead of "path"; paths are relative to the file, "scale" may
///          be left out. PATH@NAME names the set.
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

/// SHA-256 over names and contents of a set's files, the same on every machine.
std::string hash_of_set(const PairSet& set);

}  // namespace ultrasr
