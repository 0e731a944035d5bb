// A method: what it is called, what it needs, and one restored picture for one LR picture.
// Contents page of this folder; every entry of models/registry.cpp is of the type MethodInfo.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/geometry.h"
#include "data/compute.h"
#include "data/image.h"

namespace ultrasr {

/// How a network of fixed scale reaches another one (peer_methods.md 1.5).
enum class ScalePolicy {
    post,     ///< network, 8-bit rounding, then OpenCV Lanczos4 to the target size
    pre,      ///< bicubic to target / network scale, then the network
    cascade,  ///< the network twice, then antialiased bicubic to the target size
};

/// One struct for all methods; a method reads what concerns it.
struct MethodOptions : WeightOptions, ComputeOptions {
    ScalePolicy scale_policy = ScalePolicy::post;
    int tile = 0;       ///< LR pixels a side; 0 = the whole picture at once
    int tile_pad = -1;  ///< real pixels around a tile; -1 = the method's receptive radius
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
