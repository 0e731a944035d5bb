// Which weight files we know, where they lie, and whether they are the ones we know.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "data/compute.h"

namespace ultrasr {

/// One weight file as we know it.
struct WeightFile {
    std::string_view file;     ///< name below the weights folder
    std::uint64_t bytes;       ///< size; about, where `sha256` is empty
    std::string_view sha256;   ///< lower-case hexadecimal; its first digits where no more is known
                               ///< (official names carry eight); empty: never verified
    std::string_view licence;  ///< and whose
    std::string_view address;  ///< the official release; empty: a part of this project
    std::string_view remark;   ///< how the file comes from the release, where it differs
    std::string_view used_by;  ///< metrics and methods, separated by spaces
    /// of a whole folder, which is never verified: the option that names another place
    std::string_view folder_option = {};
};

/// All files we know, sorted by name.
std::span<const WeightFile> known_weights();

/// The record of that file name. throws Error(internal) when there is none.
const WeightFile& known_weight(std::string_view file);

/// $ULTRASR_WEIGHTS when set and not empty, else data/weights of the installation: the first of
/// share/ultrasr/weights and data/weights found beside the program or up to five folders above it,
/// else data/weights of the source tree this was built from.
std::filesystem::path default_weights_folder();

/// A weight file that is there.
struct FoundWeights {
    std::filesystem::path path;
    std::string sha256;     ///< of the file as it is
    bool verified = false;  ///< it equals our record
};

/// True when the file (or a record's whole folder) is in the folder (empty:
/// default_weights_folder()) or comes with the installation. Does not open it.
bool have_weights(std::string_view file, const std::filesystem::path& folder = {});

/// What to do about a file that is not there: name, size, licence, address, where to put it.
std::string how_to_get_weights(std::string_view file, const std::filesystem::path& folder = {});

/// Finds a known file and compares its SHA-256 with our record; of a folder nothing is read.
///
/// file     a name of known_weights()
/// options  where to look (what is not there is looked for in the installation), and whether to
/// take a file that differs from the record; `verified` is
///          then false
/// throws   Error(input) when it is missing (how_to_get_weights) or differs
FoundWeights find_weights(std::string_view file, const WeightOptions& options);

}  // namespace ultrasr
