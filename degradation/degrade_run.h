// A folder of photographs becomes LR-HR pairs on disk: planned, resumable, the same for everybody.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>

#include "data/base/fwd.h"
#include "degradation/plan.h"
#include "degradation/source_picture.h"

namespace ultrasr {

enum class OutputFormat {
    folder,  ///< a PNG a picture
    hdf5,    ///< shards of raw pictures (shard_file.h)
    tar,     ///< shards of PNG and JSON, name by name, for streaming loaders
};

/// What a run makes of which pictures. Everything but the last block changes results.
struct DegradeRun {
    std::filesystem::path in, out;
    std::vector<LevelRequest> levels;
    Couple couple = Couple::stage1;
    Tier tier = Tier::exact;
    std::uint64_t seed = 0;
    int patch = 512;            ///< GT side; 0 = whole pictures
    int paired_crop = 0;        ///< GT side of a second crop after degrading; 0 = none
    int per_image = 1;          ///< patches of a picture, up to 4096
    bool id_by_index = false;   ///< streams by list index instead of path
    bool name_by_path = false;  ///< files named after the source instead of its id
    bool gray_lr = false;       ///< LR of grey sources is grey
    bool filter_order = false;  ///< redraw until the levels' PSNR falls with the scale
    OutputFormat format = OutputFormat::folder;
    std::size_t shard_size = 2048;                    ///< outputs an HDF5 or tar file
    std::set<std::string> save{"gt", "lr"};           ///< of gt, gt_usm, lr, lr_up
    std::map<std::string, std::string> folder_names;  ///< other names for "lr_x8" ...
    int png_level = 1;
    SourceOptions source;

    double max_bad = 0.1;  ///< share of broken files above which the run ends as Error(input)
    int shard = 1, shards = 1;
    bool merge = false, restart = false;
    int threads = 1;
    std::filesystem::path dump_steps;  ///< folder for every intermediate; empty = none
};

/// One finished output.
struct DegradedItem {
    std::string name;  ///< of its files, without ending
    Json record;
    std::vector<std::pair<std::string, cv::Mat>> pictures;  ///< "gt", "lr_x8" ...; CV_8UC3
};

/// What changes results, as options.json holds it.
Json options_of(const DegradeRun& run);

/// Makes output `variant` of a picture. A pure function of (run, id, source, variant).
DegradedItem degrade_picture(const DegradeRun& run, std::uint64_t id, const SourceFile& file,
                             const SourcePicture& source, int variant);

/// Runs or goes on; returns the summary that is printed: counts, seconds by stage, files.
///
/// Writes OUT/<picture>/<name>.png or OUT/shard_0000.h5, OUT/records.jsonl, OUT/skipped.jsonl and
/// OUT/options.json; journals while it runs.
/// throws Error(input) for other options than those of the results that are there, too many broken
///        files, nothing usable; Error(storage)
Json degrade_folder(const DegradeRun& run, Progress& progress);

/// Tries a few pictures, writes nothing: pictures a second and bytes on disk to expect.
Json estimate_run(const DegradeRun& run, Progress& progress);

/// The summary in words.
std::string summary_text(const Json& summary);

}  // namespace ultrasr
