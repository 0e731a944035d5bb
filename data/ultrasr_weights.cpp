// ultrasr-weights: looks into weight files, converts them, merges LoRA, says which files are
// missing. Only the command line; the work is in weights/checkpoint.h, convert.h, lora_merge.h and
// weight_store.h.
#include <algorithm>
#include <array>
#include <set>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/weights/checkpoint.h"
#include "data/weights/convert.h"
#include "data/weights/lora_merge.h"
#include "data/weights/weight_store.h"

namespace {

using namespace ultrasr;
namespace fs = std::filesystem;

std::uint64_t elements_of(const TensorView& tensor) {
    return tensor.bytes.size() / item_size(tensor.dtype);
}

// ---- inspect ----

void add_inspect(CLI::App& app, fs::path& file) {
    app.add_option("file", file, "safetensors, .pth, .pt, .ckpt, .pkl or .bin")->required();
    app.footer("Example:\n  ultrasr-weights inspect RealESRGAN_x4plus.pth --json");
}

/// Tensors and elements by type, in the order of the types.
struct Census {
    std::map<Dtype, std::uint64_t> tensors, elements;
    std::uint64_t total = 0;
};

Census count_of(const Checkpoint& checkpoint) {
    Census census;
    for (const TensorView& t : checkpoint.tensors()) {
        ++census.tensors[t.dtype];
        census.elements[t.dtype] += elements_of(t);
        census.total += elements_of(t);
    }
    return census;
}

Json inspect_json(const fs::path& file, const Checkpoint& checkpoint, const std::string& sha) {
    const Census census = count_of(checkpoint);
    Json dtypes = Json::object(), tensors = Json::array();
    for (const auto& [dtype, count] : census.tensors) {
        dtypes[std::string(dtype_name(dtype))] = {{"tensors", count},
                                                  {"elements", census.elements.at(dtype)}};
    }
    for (const TensorView& t : checkpoint.tensors()) {
        tensors.push_back({{"name", t.name}, {"dtype", dtype_name(t.dtype)}, {"shape", t.shape}});
    }
    return {{"file", file.filename().string()},
            {"format", checkpoint_format_name(checkpoint.format())},
            {"bytes", fs::file_size(file)},
            {"sha256", sha},
            {"tensor_count", checkpoint.tensors().size()},
            {"elements", census.total},
            {"dtypes", dtypes},
            {"tensors", tensors},
            {"extras", checkpoint.extras()},
            {"metadata", checkpoint.metadata()}};
}

/// One line of JSON, cut to what a terminal shows.
std::string short_json(const Json& value) {
    const std::string text = dump_json_line(value);
    return text.size() <= 100 ? text : text.substr(0, 97) + "...";
}

std::string inspect_text(const fs::path& file, const Checkpoint& checkpoint,
                         const std::string& sha) {
    // What it is
    const Census census = count_of(checkpoint);
    std::vector<std::string> dtypes;
    for (const auto& [dtype, count] : census.tensors) {
        dtypes.push_back(
            fmt::format("{} in {} {}", census.elements.at(dtype), count, dtype_name(dtype)));
    }
    std::string text = fmt::format(
        "{}\n  format    {}\n  size      {} bytes\n  sha256    {}\n  tensors   {}\n  elements  {} "
        "({})\n",
        file.filename().string(), checkpoint_format_name(checkpoint.format()), fs::file_size(file),
        sha, checkpoint.tensors().size(), census.total, fmt::join(dtypes, ", "));

    // What is in it
    std::size_t width = 0;
    for (const TensorView& t : checkpoint.tensors()) width = std::max(width, t.name.size());
    width = std::min<std::size_t>(width, 80);
    if (!checkpoint.tensors().empty()) text += "\ntensors:\n";
    for (const TensorView& t : checkpoint.tensors()) {
        text += fmt::format("  {:<{}}  {:<4}  [{}]\n", t.name, width, dtype_name(t.dtype),
                            fmt::join(t.shape, ", "));
    }
    if (!checkpoint.extras().empty()) text += "\nbeside the tensors:\n";
    for (const auto& [name, value] : checkpoint.extras().items()) {
        text += fmt::format("  {}  {}\n", name, short_json(value));
    }
    if (!checkpoint.metadata().empty()) text += "\nmetadata:\n";
    for (const auto& [name, value] : checkpoint.metadata()) {
        text += fmt::format("  {}  {}\n", name, short_json(value));
    }
    return text;
}

Answer inspect(const fs::path& file) {
    const Checkpoint checkpoint = read_checkpoint(file);
    const std::string sha = sha256_of_file(file);
    return {inspect_text(file, checkpoint, sha),
            [=] { return inspect_json(file, checkpoint, sha); }};
}

// ---- convert ----

const std::map<std::string, std::optional<Dtype>> target_types{
    {"keep", std::nullopt}, {"f32", Dtype::f32}, {"f16", Dtype::f16}, {"bf16", Dtype::bf16}};

void add_convert(CLI::App& app, ConvertOptions& options) {
    app.add_option("file", options.from, "checkpoint of any format that inspect reads")->required();
    app.add_option("out", options.to, "safetensors file to write")->required();
    add_choice(app, "--dtype", options.dtype, target_types,
               "type of the floating-point tensors; integers stay as they are");
    app.footer(
        "Example:\n  ultrasr-weights convert BSRGAN.pth BSRGAN.safetensors\n"
        "  ultrasr-weights convert model.ckpt model.safetensors --dtype f16");
}

void warn_of_overflow(std::uint64_t numbers) {
    if (numbers == 0) return;
    warn("{} numbers are too large for their type and became infinite; take --dtype bf16 or f32",
         numbers);
}

Answer convert(const ConvertOptions& options) {
    const Converted done = convert_checkpoint(options);
    warn_of_overflow(done.overflowed);
    const std::string text =
        fmt::format("{}: {} tensors from {}, {} in another type, {} numbers rounded, {} bytes\n",
                    options.to.filename().string(), done.tensors, checkpoint_format_name(done.from),
                    done.cast, done.rounded, done.bytes);
    return {text, [=] {
                return Json{{"file", options.to.filename().string()},
                            {"sha256", done.to_sha256},
                            {"bytes", done.bytes},
                            {"tensor_count", done.tensors},
                            {"cast", done.cast},
                            {"rounded", done.rounded},
                            {"overflowed", done.overflowed},
                            {"source",
                             {{"file", options.from.filename().string()},
                              {"format", checkpoint_format_name(done.from)},
                              {"sha256", done.from_sha256}}}};
            }};
}

// ---- merge-lora ----

void add_merge(CLI::App& app, MergeOptions& options) {
    app.add_option(
           "base", options.base,
           "folder of a model family in diffusers' layout, of one of its networks, or a file")
        ->required();
    app.add_option("lora", options.lora,
                   "LoRA file or folder of PEFT or diffusers, or osediff.pkl; without alpha beside "
                   "it, alpha is the rank (OSEDiff: 8)")
        ->required();
    app.add_option("out", options.out, "what to write: the same kind of thing as base")->required();
    add_choice(app, "--dtype", options.dtype, target_types,
               "type of the floating-point tensors of merged networks");
    app.add_option("--scale", options.scale, "strength of the LoRA")->capture_default_str();
    app.footer(
        "Example:\n  ultrasr-weights merge-lora sd2-1-base osediff.pkl sd2-1-osediff\n"
        "  ultrasr-weights merge-lora sd2-1-base/unet adapter/ merged-unet --dtype f16");
}

Answer merge(const MergeOptions& options, Progress& progress) {
    const std::vector<MergedComponent> done = merge_lora(options, progress);
    std::string text;
    Json list = Json::array();
    for (const MergedComponent& c : done) {
        warn_of_overflow(c.overflowed);
        text += fmt::format("{}: {} modules merged, {} tensors replaced, of {} tensors\n",
                            c.component.empty() ? options.out.filename().string() : c.component,
                            c.merged, c.replaced, c.tensors);
        list.push_back({{"component", c.component},
                        {"tensor_count", c.tensors},
                        {"merged", c.merged},
                        {"replaced", c.replaced},
                        {"overflowed", c.overflowed}});
    }
    return {text, [list, out = options.out.filename().string()] {
                return Json{{"out", out}, {"components", list}};
            }};
}

// ---- check ----

struct CheckOptions {
    std::vector<std::string> names;
    fs::path weights;
};

void add_check(CLI::App& app, CheckOptions& options) {
    app.add_option("name", options.names,
                   "metrics, methods or weight files; none: all files that are known");
    app.add_option("--weights", options.weights,
                   "folder of weight files (default: $ULTRASR_WEIGHTS, else data/weights)");
    app.footer(
        "With names, the exit code is 3 when a file is missing or is not the one we know.\n"
        "Example:\n  ultrasr-weights check lpips-alex realesrgan-x4plus");
}

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    std::istringstream stream{std::string(text)};
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

/// The records a name stands for: a file, or all files of a metric or method.
std::vector<const WeightFile*> weights_named(const std::string& name) {
    std::vector<const WeightFile*> found;
    std::set<std::string> users;
    for (const WeightFile& w : known_weights()) {
        const std::vector<std::string> words = words_of(w.used_by);
        users.insert(words.begin(), words.end());
        const bool used = std::find(words.begin(), words.end(), name) != words.end();
        if (used || w.file == name) found.push_back(&w);
    }
    if (found.empty()) {
        fail(Fault::usage,
             "no weight file is known for '{}'; it may need none, or be misspelt; known: {}, and "
             "the files that 'ultrasr-weights check' lists",
             name, fmt::join(users, ", "));
    }
    return found;
}

enum class State { verified, unverified, wrong, missing };
constexpr std::array state_words{"verified", "unverified", "wrong", "missing"};

struct Checked {
    const WeightFile* record;
    State state = State::missing;
    std::string sha256;  ///< of what is there

    std::string_view word() const { return state_words[static_cast<std::size_t>(state)]; }
};

Checked check_one(const WeightFile& record, const fs::path& folder) {
    if (!have_weights(record.file, folder)) return {&record, State::missing, ""};
    WeightOptions options;
    options.weights = folder;
    options.unverified_weights = true;
    const FoundWeights found = find_weights(record.file, options);
    const State state = found.verified          ? State::verified
                        : record.sha256.empty() ? State::unverified
                                                : State::wrong;
    return {&record, state, found.sha256};
}

Json check_json(const std::vector<Checked>& all, const fs::path& folder) {
    Json list = Json::array();
    for (const Checked& c : all) {
        Json entry{{"file", c.record->file},
                   {"state", c.word()},
                   {"used_by", words_of(c.record->used_by)},
                   {"bytes", c.record->bytes},
                   {"licence", c.record->licence},
                   {"address", c.record->address},
                   {"remark", c.record->remark}};
        if (!c.record->sha256.empty()) entry["expected_sha256"] = c.record->sha256;
        if (!c.sha256.empty()) entry["sha256"] = c.sha256;
        if (c.state == State::missing) entry["advice"] = how_to_get_weights(c.record->file, folder);
        list.push_back(std::move(entry));
    }
    return {{"weights", list}};
}

std::string check_text(const std::vector<Checked>& all, const fs::path& folder) {
    std::size_t width = 0;
    for (const Checked& c : all) width = std::max(width, c.record->file.size());
    std::string text;
    for (const Checked& c : all) {
        text += fmt::format("{:<10}  {:<{}}  for {}\n", c.word(), c.record->file, width,
                            fmt::join(words_of(c.record->used_by), ", "));
    }
    for (const Checked& c : all) {
        if (c.state == State::missing) {
            text += fmt::format("\nmissing: {}\n", how_to_get_weights(c.record->file, folder));
        } else if (c.state == State::wrong) {
            text +=
                fmt::format("\nwrong: {} has the SHA-256 {}, expected {}; fetch it again from {}\n",
                            c.record->file, c.sha256, c.record->sha256, c.record->address);
        }
    }
    return text;
}

Answer check(const CheckOptions& options, Progress& progress, int& exit) {
    // Which files are meant: each once, in the order of known_weights()
    std::set<const WeightFile*> chosen;
    for (const std::string& name : options.names) {
        for (const WeightFile* w : weights_named(name)) chosen.insert(w);
    }
    std::vector<Checked> all;
    for (const WeightFile& w : known_weights()) {
        if (!options.names.empty() && !chosen.contains(&w)) continue;
        all.push_back(check_one(w, options.weights));
        progress.step("check", all.size(), known_weights().size());
    }

    // For named ones a gap is a fault, told beside the full answer
    std::vector<std::string> gaps;
    for (const Checked& c : all) {
        if (c.state == State::missing || c.state == State::wrong) {
            gaps.push_back(fmt::format("{} ({})", c.record->file, c.word()));
        }
    }
    if (!options.names.empty() && !gaps.empty()) {
        write_log_line("error: ", fmt::format("not usable: {}; the answer says where to get them",
                                              fmt::join(gaps, ", ")));
        exit = static_cast<int>(Fault::input);
    }
    return {check_text(all, options.weights),
            [all, folder = options.weights] { return check_json(all, folder); }};
}

}  // namespace

int main(int argc, char** argv) {
    CommonOptions common;
    CLI::App app{"Look into weight files, convert them, merge LoRA, see which files are missing.",
                 "ultrasr-weights"};
    app.require_subcommand(1);
    app.footer("Example:\n  ultrasr-weights check lpips-alex\n  ultrasr-weights inspect model.pth");

    fs::path inspected;
    CLI::App* inspect_app =
        app.add_subcommand("inspect", "format, tensors, shapes, types, and what lies beside them");
    add_inspect(*inspect_app, inspected);

    ConvertOptions convert_options;
    CLI::App* convert_app = app.add_subcommand("convert", "write any checkpoint as safetensors");
    add_convert(*convert_app, convert_options);

    MergeOptions merge_options;
    CLI::App* merge_app =
        app.add_subcommand("merge-lora", "write a model with a LoRA merged into its weights");
    add_merge(*merge_app, merge_options);

    CheckOptions check_options;
    CLI::App* check_app =
        app.add_subcommand("check", "which weight files are here, and how to get the others");
    add_check(*check_app, check_options);

    int exit = 0;  // of a check that answered and yet found gaps
    const int code = run_tool(app, argc, argv, common, [&](Progress& progress) {
        require_cpu(common, "ultrasr-weights");
        if (*inspect_app) return inspect(inspected);
        if (*convert_app) return convert(convert_options);
        if (*merge_app) return merge(merge_options, progress);
        return check(check_options, progress, exit);
    });
    return code != 0 ? code : exit;
}
