// Seconds that the parts of a method took.
#pragma once
#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace ultrasr {

/// Sums seconds by part, in the order in which parts first came.
class StageTimes {
  public:
    void add(const std::string& stage, double seconds) {
        for (auto& [name, sum] : stages_) {
            if (name == stage) {
                sum += seconds;
                return;
            }
        }
        stages_.emplace_back(stage, seconds);
    }
    const std::vector<std::pair<std::string, double>>& stages() const { return stages_; }

  private:
    std::vector<std::pair<std::string, double>> stages_;
};

/// Adds the time until the end of its scope; to nobody where `times` is null.
class StageTimer {
  public:
    StageTimer(StageTimes* times, const char* stage) : times_(times), stage_(stage) {}
    ~StageTimer() {
        if (!times_) return;
        times_->add(
            stage_,
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count());
    }
    StageTimer(const StageTimer&) = delete;
    StageTimer& operator=(const StageTimer&) = delete;

  private:
    StageTimes* times_;
    const char* stage_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ultrasr
