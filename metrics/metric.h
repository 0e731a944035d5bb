// A metric: what it is called, what it means, and one number for one picture. Contents page of
// this folder; every entry of metrics/registry.cpp is of the type MetricInfo.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/fwd.h"

namespace ultrasr {

/// What a metric compares the restored picture with.
enum class Reference { full, none };
enum class Better { higher, lower };

/// Float32 details that decide rounding ties (metrics.md 1.2).
enum class Profile {
    cuda,  ///< reproduces the published logs, which were made on GPUs
    cpu,   ///< reproduces pyiqa on a CPU
};

struct MetricOptions {
    Profile profile = Profile::cuda;
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
};
using MetricPtr = std::unique_ptr<Metric>;

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
    std::function<MetricPtr(const MetricOptions&)> make;
};

/// All metrics, in the order of the lists and tables.
std::span<const MetricInfo* const> all_metrics();

/// throws Error(usage) that lists the known names
const MetricInfo& find_metric(std::string_view name);

}  // namespace ultrasr
