// Steps of the list that a preset puts between the pipeline's own.
#pragma once
#include <string>
#include <vector>
#include <nlohmann/json.hpp>

#include "data/base/json.h"

namespace ultrasr {

class Draws;
struct NamedStep;
enum class Tier;

/// One of a preset's "extra_steps".
struct ExtraStep {
    std::string after;  ///< a step of the pipeline: "stage1.noise", "final.resize" ...
    std::string step;   ///< a name of the list of degradations
    double probability = 1;
    Json params = Json::object();  ///< {"uniform": [low, high]} in place of a number is drawn

    Json json() const;
    /// throws Error(input) that names `what` and the key
    static ExtraStep from_json(const Json& json, const std::string& what);
    bool operator==(const ExtraStep&) const = default;
};

/// Draws and puts those steps in whose `after` stands in the list; with several of one place, in
/// their order. The name is "<after>.extra<index>", the slots are slot::extra + 16 index and on.
void insert_extra_steps(Draws& draws, const std::vector<ExtraStep>& extra, Tier tier,
                        std::vector<NamedStep>& steps);

}  // namespace ultrasr
