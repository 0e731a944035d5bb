// The classical methods: one resize, at any scale.
#include "models/method.h"
#include "models/resample.h"

namespace ultrasr {
namespace {

class Interpolation final : public Method {
  public:
    explicit Interpolation(Kernel kernel) : kernel_(kernel) {}

    Image restore(const Image& lr, const RestoreRequest& request) const override {
        return clamped(resize(lr, request.target, kernel_));
    }

    Provenance provenance() const override {
        return {.kind = "classical",
                .weights = {},
                .scale_policy = "",
                .device = "cpu",
                .dtype = "fp64 sums, fp32 pictures",
                .rounding = "none; half to even when written",
                .settings = {{"kernel", kernel_ == Kernel::bicubic ? "Keys a=-0.5" : "Lanczos3"}}};
    }

    bool parallel_over_images() const override { return true; }

    /// No network.
    std::optional<Cost> cost(PixelSize, const RestoreRequest&) const override { return Cost{}; }

  private:
    Kernel kernel_;
};

}  // namespace

extern const MethodInfo bicubic, lanczos;
const MethodInfo bicubic{.name = "bicubic",
                         .title = "Bicubic",
                         .source = "Keys 1981, a = -0.5, antialiased, as Pillow resizes",
                         .weight_files = {},
                         .options = {},
                         .make = [](const MethodOptions&, const std::string&) -> MethodPtr {
                             return std::make_unique<Interpolation>(Kernel::bicubic);
                         }};
const MethodInfo lanczos{.name = "lanczos",
                         .title = "Lanczos",
                         .source = "Lanczos with three lobes, antialiased, as Pillow resizes",
                         .weight_files = {},
                         .options = {},
                         .make = [](const MethodOptions&, const std::string&) -> MethodPtr {
                             return std::make_unique<Interpolation>(Kernel::lanczos3);
                         }};

}  // namespace ultrasr
