// curves.svg: how a training run went, one small panel a quantity.
#pragma once
#include <filesystem>
#include <span>
#include <string>

#include "models/training/run_log.h"

namespace ultrasr {

/// Draws a log as one self-contained SVG, for light and dark pages: no scripts, no fonts, no links.
///
/// The stages stand below each other in the order of the log, a block of panels each: the loss with
/// its parts; validations (val_...) as joined dots, a panel for the names with the same first word
/// (val_psnr_x8, val_psnr_x12); the rest of `more` likewise (distance_positive, distance_negative);
/// gradient norm; learning rate unless it is constant; images a second; the share of time spent
/// waiting for data. All but validations: raw values faint, above them a mean over the
/// neighbourhood (1/40 of the stage's lines, centred). The y-axis is logarithmic where nothing is
/// negative and the values span more than two decades, shares and rates excepted; its foot then
/// holds zeros and the rare values far below the rest.
///
/// Below 300 KB whatever the length of the log: of the lines that fall on one spot of the x-axis
/// the lowest and the highest stay, so that no spike is lost. Values that are not finite leave a
/// gap and a red tick at the top of the panel.
///
/// lines  any number, in any order within a stage; none gives a picture that says so
std::string curves_svg(std::span<const LogLine> lines);

/// Writes the picture of log.jsonl, by temporary file and rename.
///
/// throws Error(input) as read_log(), Error(storage)
void write_curves(const std::filesystem::path& log, const std::filesystem::path& svg);

}  // namespace ultrasr
