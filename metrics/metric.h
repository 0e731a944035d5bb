// A metric: what it is called, what it means, and one number for one picture. Contents page of
// this folder; every entry of metrics/registry.cpp is of the type MetricInfo.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/fwd.h"
#include "data/base/geometry.h"
#include "data/compute.h"

namespace ultrasr {

/// What a metric compares the restored picture with.
enum class Reference {
    full,  ///< with the HR picture
    none,  ///< with nothing
    set,   ///< all restored pictures together with all HR pictures: SetMetric
};
enum class Better { higher, lower };

/// Float32 details that decide rounding ties (metrics.md 1.2).
enum class Profile {
    cuda,  ///< reproduces the published logs, which were made on GPUs
    cpu,   ///< reproduces pyiqa on a CPU
};

class WeightSource;  // metrics/net_metric.h

/// Where MANIQA looks in a picture larger than its 224 pixels (metrics.md 10).
enum class Crops {
    uniform,      ///< fixed places: pyiqa 0.1.12 and later
    random123,    ///< drawn from one stream over all pictures: pyiqa 0.1.10 and before
    random_each,  ///< the stream starts afresh for each picture: pyiqa 0.1.11
};

/// One struct for all metrics; a metric reads what concerns it.
struct MetricOptions {
    Profile profile = Profile::cuda;
    Crops crops = Crops::uniform;
    WeightOptions weights = {};
    ComputeOptions compute = {};
    std::filesystem::path fid_stats = {};  ///< statistics of the HR set; empty: from pictures
    std::shared_ptr<const WeightSource> source = {};  ///< in place of weight files, for tests
};

/// What a score depends on beside the pixels and the metric's definition, for the results.
struct MetricProvenance {
    std::vector<WeightRecord> weights;            ///< empty: it needs none
    std::map<std::string, std::string> settings;  ///< device, precision, crops, ...
};

/// Safe to use from several threads at once.
class Metric {
  public:
    virtual ~Metric() = default;

    /// One number for one picture.
    ///
    /// sr, hr   RGB [0,1], 8-bit levels k / 255 as read from files; equal sizes for a full
    ///          reference; `hr` is ignored (and may be empty) when the metric needs none
    /// returns  the score; NaN where the definition gives none (a flat picture in NIQE)
    /// throws   Error(input) when sizes differ or a side is below MetricInfo::min_side
    virtual double score(const Image& sr, const Image& hr) const = 0;

    /// The same for a picture of a list. One metric, MANIQA with Crops::random123, depends on what
    /// was scored before.
    ///
    /// before   the sizes of the pictures that stand before it, in order
    virtual double score_in_list(const Image& sr, const Image& hr,
                                 std::span<const PixelSize> before) const {
        (void)before;
        return score(sr, hr);
    }

    virtual MetricProvenance provenance() const { return {}; }

    /// True when one call uses all threads (a network), false when several threads should score
    /// pictures at once.
    virtual bool one_at_a_time() const { return false; }
};
using MetricPtr = std::unique_ptr<Metric>;

/// A distance between two sets of pictures, through one row of numbers a picture.
class SetMetric {
  public:
    virtual ~SetMetric() = default;

    /// The length of a row.
    virtual std::size_t features() const = 0;

    /// The pictures' rows, one behind another. throws like Metric::score.
    virtual std::vector<float> features_of(std::span<const Image> images) const = 0;

    /// The distance of two sets of rows. `hr` is ignored (and may be empty) when has_reference().
    ///
    /// throws Error(input) when a set has fewer than two rows
    virtual double distance(std::span<const float> sr, std::span<const float> hr) const = 0;

    /// True when the second set came as statistics (MetricOptions::fid_stats).
    virtual bool has_reference() const { return false; }

    virtual MetricProvenance provenance() const { return {}; }
};
using SetMetricPtr = std::unique_ptr<SetMetric>;

struct MetricInfo {
    std::string name;    ///< with its convention: psnr-y601, not psnr
    std::string title;   ///< for a table's head
    std::string unit;    ///< "dB" or empty
    std::string source;  ///< the formula in a few words and where it comes from
    Reference reference = Reference::full;
    Better better = Better::higher;
    int decimals = 4;                             ///< customary in tables
    int min_side = 1;                             ///< smallest picture side it can score, pixels
    std::map<std::string, std::string> settings;  ///< the convention in words, for results.json
    std::vector<std::string> weight_files = {};   ///< what it needs below the weights folder
    std::function<MetricPtr(const MetricOptions&)> make = {};         ///< empty for Reference::set
    std::function<SetMetricPtr(const MetricOptions&)> make_set = {};  ///< for Reference::set alone
};

/// All metrics, in the order of the lists and tables.
std::span<const MetricInfo* const> all_metrics();

/// throws Error(usage) that lists the known names
const MetricInfo& find_metric(std::string_view name);

}  // namespace ultrasr
