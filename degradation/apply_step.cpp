#include "degradation/apply_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <vector>
#include <fmt/format.h>

#include "data/base/error.h"
#include "data/weights/safetensors.h"
#include "degradation/degradation.h"
#include "degradation/json_fields.h"

namespace ultrasr {
namespace {

class Tensors {
  public:
    explicit Tensors(const std::filesystem::path& path) {
        if (!path.empty()) file_.emplace(path);
    }

    Planar read(const std::string& name) const {
        require(file_.has_value(), "tensor '{}' is wanted, but no --in was given", name);
        const TensorView* tensor = file_->find(name);
        require(tensor != nullptr, "{} holds no tensor '{}'", file_->path().string(), name);
        const auto& shape = tensor->shape;
        require(tensor->dtype == Dtype::f32 && (shape.size() == 2 || shape.size() == 3),
                "{}: tensor '{}' must be float32 of two or three dimensions",
                file_->path().string(), name);
        std::array<int, 3> size{1, 1, 1};
        for (std::size_t i = 0; i < shape.size(); ++i) {
            require(shape[i] >= 1 && shape[i] <= 65536, "{}: tensor '{}' has a side of {}",
                    file_->path().string(), name, shape[i]);
            size[3 - shape.size() + i] = static_cast<int>(shape[i]);
        }
        Planar out(size[0], size[1], size[2]);
        std::memcpy(out.data_(), tensor->bytes.data(), tensor->bytes.size());
        require(std::all_of(out.data(), out.data() + out.values(),
                            [](float v) { return std::isfinite(v); }),
                "{}: tensor '{}' holds values that are not finite", file_->path().string(), name);
        return out;
    }
    bool has(const std::string& name) const { return file_ && file_->find(name); }

  private:
    std::optional<SafetensorsFile> file_;
};

struct Result {
    std::string name;
    Planar values;
    bool is_kernel = false;
};

Result kernel_of(Json params, bool sinc) {
    if (sinc) {
        require(params.is_object(), "sinc: parameters are an object of names and values");
        params["type"] = "sinc";
    }
    const BlurKernel kernel = make_kernel(KernelSpec::from_json(params));
    Result result{"out", Planar(1, kernel.size, kernel.size), true};
    std::copy(kernel.taps.begin(), kernel.taps.end(), result.values.data_());
    return result;
}

/// names  the tensors in the file by the step's words for them
Result run(const std::string& step, const Json& params, const Tensors& tensors,
           const std::map<std::string, std::string>& names) {
    if (step == "kernel" || step == "sinc") return kernel_of(params, step == "sinc");
    const DegradationInfo& info = degradation(step);
    StepInputs given;
    for (const char* word : {"kernel", "z", "counts"}) {
        const auto found = names.find(word);
        const std::string name = found == names.end() ? word : found->second;
        if (found != names.end() || tensors.has(name)) given.emplace(word, tensors.read(name));
    }
    const auto image = names.find("image");
    Planar picture = tensors.read(image == names.end() ? "image" : image->second);
    require(picture.channels() == 3, "{}: the image has {} planes, not 3", step,
            picture.channels());
    const StepPtr made = info.make(params, given, Tier::exact);
    StepContext context;
    return {"out", made->apply(std::move(picture), context), false};
}

std::vector<Result> run_batch(const Json& cases, const Tensors& tensors) {
    require(cases.is_array(), "the cases of a batch are a list");
    std::vector<Result> results;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        while_doing(fmt::format("case {}", i), [&] {
            JsonFields fields(cases[i], "case");
            const std::string name = fields.text("name");
            std::map<std::string, std::string> names;
            if (fields.has("tensors")) {
                for (const auto& [word, tensor] : fields.value("tensors").items()) {
                    require(tensor.is_string(), "'tensors' holds names, not {}",
                            dump_json_line(tensor));
                    names[word] = tensor.get<std::string>();
                }
            }
            const std::string step = fields.text("step");
            const Json params = fields.has("params") ? fields.value("params") : Json::object();
            // A batch's arrays are named by each case: "z" of the file is not meant for all
            if (!names.contains("image")) names["image"] = "image";
            results.push_back(run(step, params, tensors, names));
            results.back().name = name + ".out";
        });
    }
    return results;
}

}  // namespace

Json apply_step(const std::string& step, const Json& params, const std::filesystem::path& in,
                const std::filesystem::path& out) {
    const Tensors tensors(in);
    std::vector<Result> results;
    if (step == "batch") {
        results = run_batch(params, tensors);
    } else {
        results.push_back(run(step, params, tensors, {}));
    }
    std::vector<TensorView> views;
    Json written = Json::array();
    for (const Result& result : results) {
        const Planar& v = result.values;
        std::vector<std::int64_t> shape{v.channels(), v.height(), v.width()};
        if (result.is_kernel) shape.erase(shape.begin());
        views.push_back(
            {result.name, Dtype::f32, shape, std::as_bytes(std::span(v.data(), v.values()))});
        written.push_back(result.name);
    }
    write_safetensors(out, views);
    return {{"written", written}};
}

}  // namespace ultrasr
