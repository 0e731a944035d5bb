// log.jsonl: what the steps of a training run gave, one JSON object a line, and a line for eyes.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/base/json.h"
#include "data/file.h"

namespace ultrasr {

/// Numbers with names, in an order that means something.
using NamedNumbers = std::vector<std::pair<std::string, double>>;

/// One line. What a line does not have (a validation has no gradient) is left out of the file.
struct LogLine {
    std::string stage;                    ///< teacher, dml, rsd, ...
    std::int64_t step = 0;                ///< steps done, so the first line has 1
    std::int64_t steps = 0;               ///< of the whole stage
    NamedNumbers losses;                  ///< the sum that is minimised first, then its parts
    std::optional<double> gradient_norm;  ///< before clipping
    std::optional<double> learning_rate;
    NamedNumbers more;         ///< triplet_accuracy, loss_scale, ...; val_... is a validation's
    std::int64_t skipped = 0;  ///< steps of the stage so far that were not finite and not taken

    // The same run on another machine differs in these alone
    std::optional<double> images_per_second;
    std::optional<double> wait_share;       ///< of the time: waiting for data, [0,1]
    std::optional<std::int64_t> memory_mb;  ///< peak, MiB
};

/// A flat object: the fields by their names, `losses` as an object in it, `more` beside them, so
/// that any reader of JSON lines makes columns of it. Numbers as json_number writes them; no time
/// of day.
///
/// throws Error(internal) where a name in `more` is a field's or stands twice
Json json_of(const LogLine& line);

/// Inverse of json_of: unknown names are `more`.
///
/// what    the place, for the message
/// throws  Error(input) on a missing or mistyped field
LogLine log_line_of(const Json& object, std::string_view what);

/// The log of one stage, open for more lines. Only the first of several processes has one.
class RunLog {
  public:
    /// Opens or makes the file. A resumed stage repeats what came after its checkpoint, so its
    /// lines after `first_step` go, by temporary file and rename: in the end every step of a killed
    /// and resumed run stands there once. Lines of other stages stay as they are, byte for byte. A
    /// line that is not ours (after a power failure) goes too, with a warning.
    ///
    /// first_step  steps of the stage that the checkpoint holds; 0 starts the stage anew
    /// throws      Error(storage)
    RunLog(const std::filesystem::path& path, const std::string& stage, std::int64_t first_step);

    /// throws Error(storage); then no part of the line stays
    void append(const LogLine& line);

  private:
    LineLog log_;
};

/// All whole lines of a log; a torn last one is left out.
///
/// throws Error(input) when the file is missing, or names the line that is not one
std::vector<LogLine> read_log(const std::filesystem::path& path);

/// What a progress bar says behind the count of steps:
/// "loss 0.0831 (soft 0.051 hard 0.032)  grad 0.82  21.3 images/s  wait 0 %".
std::string progress_note(const LogLine& line);

/// The whole line: "rsd 1200/30000  " + progress_note() + "  2 h 11 min left".
///
/// seconds_left  of the stage; negative or not finite: not known, not said
std::string progress_line(const LogLine& line, double seconds_left);

}  // namespace ultrasr
