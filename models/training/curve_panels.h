// What of a training log is drawn: stages, their panels, the panels' series.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/training/run_log.h"

namespace ultrasr {

/// One number of the log; it may be not finite.
struct CurvePoint {
    std::int64_t step;  ///< >= 0
    double value;
};

/// One line of a panel.
struct CurveSeries {
    std::string name;
    std::vector<CurvePoint> points;  ///< by step
};

/// Quantities that share their axes.
struct CurvePanel {
    std::string title;
    std::string unit;
    bool linear = false;  ///< never on a logarithmic axis
    bool dots = false;    ///< few values: joined dots, not smoothed
    std::vector<CurveSeries> series;
};

/// A stage with its panels in the order in which they are shown; panels are never empty.
struct CurveStage {
    std::string name;
    std::vector<const LogLine*> lines;
    std::vector<CurvePanel> panels;
};

/// The stages in the order in which the log first names them. Keeps pointers into `lines`.
std::vector<CurveStage> curve_stages(std::span<const LogLine> lines);

}  // namespace ultrasr
