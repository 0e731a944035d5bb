// The folder of a run, and what has to be there before it begins.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"
#include "models/training/settings.h"

namespace ultrasr {

/// Opens OUT for this run: checks that it is new or this run's, removes what a killed process left
/// half written, writes run.json.
///
/// restart  throw away what the run has made
/// throws   Error(usage) when OUT holds something else or a run of other settings; Error(storage)
void open_run_folder(const TrainSettings& settings, bool restart);

/// stages.json: what is finished, by stage.
Json finished_stages(const std::filesystem::path& out);

/// Where a stage writes what it makes.
std::filesystem::path result_of_stage(std::string_view stage, const TrainSettings& settings);

/// The stages of the settings that have something to do: nothing is trained that is given.
/// throws Error(usage) when none is left
std::vector<std::string> wanted_stages(const TrainSettings& settings);

/// Data, base, and patches that the VAE can halve.
/// throws Error(usage), Error(input)
void check_run_inputs(const TrainSettings& settings, const std::vector<std::string>& stages);

/// What no stage of the run makes and some stage needs, so that a run does not find out after days:
/// teacher, encoder, weights of losses, prompts, validation pairs.
/// throws Error(input)
void check_run_needs(const TrainSettings& settings, const std::vector<std::string>& stages);

}  // namespace ultrasr
