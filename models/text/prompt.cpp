#include "models/text/prompt.h"

#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include <map>

#include "data/base/error.h"
#include "data/file.h"
#include "data/tensor/named_tensors.h"
#include "data/weights/checkpoint.h"

namespace ultrasr {
namespace {

namespace fs = std::filesystem;

/// [77, C] or [1, 77, C] as 1 x 77 x C; undefined where it is neither.
at::Tensor with_batch(const at::Tensor& states) {
    const at::Tensor whole = states.dim() == 2 ? states.unsqueeze(0) : states;
    const bool fits = whole.dim() == 3 && whole.size(0) == 1 && whole.size(1) == prompt_tokens;
    return fits ? whole : at::Tensor();
}

bool finite(const at::Tensor& states) { return at::isfinite(states).all().item<bool>(); }

}  // namespace

PromptEmbedding read_prompt_embedding(const fs::path& path, std::int64_t width) {
    const NamedTensors tensors = load_tensors(path);
    require(tensors.size() == 1,
            "{} holds {} tensors; a prompt's file holds one, [{}, {}]: what the text encoder made "
            "of the prompt",
            path.string(), tensors.size(), prompt_tokens, width);
    const at::Tensor& stored = tensors.begin()->second;
    require(stored.is_floating_point(),
            "{}: the prompt's tensor holds whole numbers; token ids "
            "do not do, the file wants what the text encoder makes of them",
            path.string());
    const at::Tensor states = with_batch(stored);
    require(
        states.defined() && states.size(2) == width,
        "{}: the prompt's tensor is {}, this model takes [{}, {}]; make it with the model's own "
        "text encoder",
        path.string(), shape_text(stored.sizes()), prompt_tokens, width);
    require(finite(states), "{}: the prompt's tensor holds NaN or infinite values; make it again",
            path.string());

    const auto metadata = read_checkpoint(path).metadata();
    const auto text = metadata.find("prompt");
    // A copy, so that the file may be replaced
    return {states.to(at::kFloat).clone(), text == metadata.end() ? "" : text->second};
}

void write_prompt_embedding(const fs::path& path, const PromptEmbedding& embedding) {
    const at::Tensor states = with_batch(embedding.states);
    if (!states.defined() || !finite(states)) {
        fail(Fault::internal, "a prompt's embedding of shape {} with {} values was to be written",
             shape_text(embedding.states.sizes()), finite(embedding.states) ? "finite" : "bad");
    }
    std::map<std::string, std::string> metadata;
    if (!embedding.text.empty()) metadata["prompt"] = embedding.text;
    save_tensors(path, {{"prompt_embeds", states[0].to(at::kCPU, at::kFloat).contiguous()}},
                 metadata);
}

std::string read_prompt_text(const fs::path& folder, std::string_view stem) {
    const fs::path path = folder / fmt::format("{}.txt", stem);
    require(fs::exists(path),
            "there is no prompt file {}; every picture needs one of its name, an empty one for no "
            "prompt",
            path.string());
    std::string text = read_file(path);
    if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    return text;
}

}  // namespace ultrasr
