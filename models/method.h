// A method: what it is called, what it needs, and one restored picture for one LR picture.
// Contents page of this folder; every entry of models/registry.cpp is of the type MethodInfo.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/geometry.h"
#include "data/compute.h"
#include "data/image.h"
#include "models/color_fix.h"
#include "models/cost.h"
#include "models/stage_times.h"

namespace ultrasr {

/// How a network of fixed scale reaches another one (peer_methods.md 1.5).
enum class ScalePolicy {
    post,     ///< network, 8-bit rounding, then OpenCV Lanczos4 to the target size
    pre,      ///< bicubic to target / network scale, then the network
    cascade,  ///< the network twice, then antialiased bicubic to the target size
};

enum class LatentChoice {
    mean,   ///< of the encoder's posterior
    sample  ///< drawn from it
};

/// What the diffusion methods read. What is empty the method chooses, with `parity` as its official
/// script does.
struct DiffusionOptions {
    std::filesystem::path base;  ///< family in diffusers' layout; empty: WEIGHTS/sd2-1-base
    /// the method's own file or folder by the row's label, the method's name, or "" for whichever
    /// asks; none: WEIGHTS/<method>, else of sdd the demonstration model
    std::map<std::string, std::filesystem::path> models;
    bool parity = false;                 ///< every choice as the official script makes it
    std::optional<std::string> prompt;   ///< of all pictures
    std::filesystem::path prompt_files;  ///< folder of STEM.txt, or a prompt.safetensors
    std::optional<LatentChoice> latent;
    std::optional<ColorFix> color_fix;
    std::optional<Rounding> rounding;
    std::uint64_t seed = 0;   ///< of sampled latents
    double memory_gib = 0.0;  ///< do not take more; 0: what the machine has
    bool dump_taps = false;   ///< RestoreRequest::dump holds the UNet's blocks too
};

/// One struct for all methods; a method reads what concerns it.
struct MethodOptions : WeightOptions, ComputeOptions {
    ScalePolicy scale_policy = ScalePolicy::post;
    /// LR pixels a side, for diffusion latents (8 x 8 pixels of the result); 0 = the whole picture
    /// at once, -1 = as the method likes it: whole, or 96 latents
    int tile = -1;
    /// real pixels around a tile, or latents that two tiles share; -1 = as far as the method sees,
    /// or 32 latents
    int tile_pad = -1;
    DiffusionOptions diffusion;
    /// realesr-general-x4v3: 1 the general file alone, 0 the wdn file, between them their mixture;
    /// 0.5 is the official program's default.
    double denoise = 0.5;
    std::string label;            ///< of the row; folder: strips a tail _LABEL from file names
    int command_timeout_s = 600;  ///< command: for one picture
};

/// What results.json says about a method. No absolute paths.
struct Provenance {
    std::string kind;  ///< classical, gan, folder, command, ...
    std::vector<WeightRecord> weights;
    std::string scale_policy;  ///< empty when the method reaches every scale by itself
    std::string device;
    std::string dtype;
    std::string rounding;  ///< of the pictures it returns, to 8 bit
    std::vector<std::pair<std::string, std::string>> settings;  ///< tile, denoise, ...
};

/// What is known beside the LR pixels.
struct RestoreRequest {
    std::string stem;  ///< the picture's name without extension, for methods that look files up
    PixelSize target;  ///< exact size of the result; the HR size where there is one
    Scale scale;       ///< nominal scale of the set
    StageTimes* times = nullptr;  ///< gets the seconds of the method's parts
    /// safetensors file for what lies between LR and SR, of methods that have it; empty: none
    std::filesystem::path dump = {};
};

class Method {
  public:
    virtual ~Method() = default;

    /// Restores one picture.
    ///
    /// lr       sRGB [0,1], any size >= 1 x 1
    /// returns  request.target in size, clamped to [0,1], not rounded unless the method's
    ///          definition rounds
    /// throws   Error(input), Error(device)
    virtual Image restore(const Image& lr, const RestoreRequest& request) const = 0;

    virtual Provenance provenance() const = 0;

    /// What a picture of that size costs, known before it is restored; empty where nobody can say
    /// (finished pictures, other programs).
    virtual std::optional<Cost> cost(PixelSize /*lr*/, const RestoreRequest& /*request*/) const {
        return std::nullopt;
    }

    /// True when several threads should call restore() at once (one thread inside each call);
    /// false when one call uses all threads.
    virtual bool parallel_over_images() const { return false; }

    /// True when wall time of restore() says nothing about the method (finished images).
    virtual bool timeless() const { return false; }
};
using MethodPtr = std::unique_ptr<Method>;

struct MethodInfo {
    std::string name;     ///< as on the command line; with `prefix`, what stands before the colon
    std::string title;    ///< for a table's row
    std::string source;   ///< paper or definition
    bool prefix = false;  ///< true: called as name:ARGUMENT
    std::vector<std::string> weight_files;  ///< what it needs below the weights folder
    /// options of the command line that change what it does, beside --device and --weights
    std::vector<std::string> options;
    /// the row's name where the user gives none and it depends on the options; empty: `name`
    std::function<std::string(const MethodOptions&)> default_label = {};
    std::function<MethodPtr(const MethodOptions&, const std::string& argument)> make;
};

/// All methods, in the order of the lists and tables.
std::span<const MethodInfo* const> all_methods();

/// A method as the user wrote it: NAME, or PREFIX:ARGUMENT, either with @LABEL.
struct MethodSpec {
    const MethodInfo* info = nullptr;
    std::string argument;
    std::string label;  ///< names the row and the output folder; default: name, or last path part
};

/// throws Error(usage) that lists the known names
MethodSpec parse_method(std::string_view text);

}  // namespace ultrasr
