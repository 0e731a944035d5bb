// Any file of weights: named tensors, read without running anything and mostly without copying.
#pragma once
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"
#include "data/weights/safetensors.h"

namespace ultrasr {

enum class CheckpointFormat {
    safetensors,
    zip_pickle,     ///< torch.save since 1.6: .pth, .pt, .ckpt, .pkl, .bin
    legacy_pickle,  ///< torch.save before
    torchscript     ///< torch.jit.save; its code is not looked at
};

/// "safetensors", "zip-pickle", "legacy-pickle", "torchscript".
std::string_view checkpoint_format_name(CheckpointFormat format);

/// A checkpoint in memory. Copies are cheap and share the bytes.
class Checkpoint {
  public:
    struct Contents;
    explicit Checkpoint(std::shared_ptr<const Contents> contents)
        : contents_(std::move(contents)) {}

    CheckpointFormat format() const;

    /// In the order of the file. Names are the dotted ways from the root: "conv1.weight" of a state
    /// dict, "state_dict.conv1.weight" of one in a training checkpoint, "visual.conv1.weight" of a
    /// TorchScript module (rules: collect_tensors). Contiguous, row-major; views into the file
    /// where it has them so. They live as long as this object, a copy of it or holder().
    const std::vector<TensorView>& tensors() const;

    /// The tensor of that name, or null.
    const TensorView* find(std::string_view name) const;

    /// An object: the numbers, texts and plain lists beside the tensors, by dotted name, such as
    /// "rank_unet": 4. Empty for safetensors.
    const Json& extras() const;

    /// The free text pairs of a safetensors file. Empty for the others.
    const std::map<std::string, std::string>& metadata() const;

    /// Keeps the bytes alive for views that outlive this object.
    std::shared_ptr<const void> holder() const;

  private:
    std::shared_ptr<const Contents> contents_;
};

/// Maps and reads a checkpoint. The content decides on the format, not the name.
///
/// throws Error(input) that names the file and what is wrong: not a checkpoint (and what it is
///        instead: a web page, a git-lfs pointer, a numpy file ...), cut short, damaged, of a form
///        that is not supported
/// Source: one_step_models.md 5, metrics.md 1.4.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// The same for bytes in memory.
///
/// bytes   must live as long as the views, or `holder` holds them
/// name    what they are, for messages
Checkpoint parse_checkpoint(std::span<const std::byte> bytes, std::string_view name,
                            std::shared_ptr<const void> holder = {});

}  // namespace ultrasr
