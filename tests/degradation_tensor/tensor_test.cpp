// Degradation of tensors against run_plan, picture by picture.
#include "degradation/tensor.h"

#include <algorithm>
#include <cstring>
#include <ATen/ATen.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include "data/base/error.h"
#include "degradation/pipeline.h"
#include "degradation/preset.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

std::vector<Plan> plans_for(PixelSize gt, const std::string& name, std::size_t n,
                            std::vector<int> scales = {4, 8}) {
    const auto preset = std::find_if(presets().begin(), presets().end(),
                                     [&](const Preset& p) { return p.name == name; });
    require(preset != presets().end(), "no preset {}", name);
    std::vector<PlanRequest> requests;
    for (std::size_t i = 0; i < n; ++i) {
        PlanRequest request{.stream = {.seed = 2, .id = 30 + i}, .gt = gt, .levels = {}};
        for (const int scale : scales) request.levels.push_back({scale, *preset});
        requests.push_back(request);
    }
    return make_plans(requests);
}

/// N x H x W x 3.
at::Tensor some_patches(std::int64_t n, std::int64_t height, std::int64_t width) {
    const at::Tensor ramp = at::arange(n * height * width * 3, at::kLong).mul(37).remainder(251);
    return ramp.reshape({n, height, width, 3}).to(at::kByte);
}

bool equal(const at::Tensor& pictures, std::int64_t i, const Planar& expected) {
    const at::Tensor one = pictures.select(0, i).contiguous();
    return one.sizes() == at::IntArrayRef({3, expected.height(), expected.width()}) &&
           std::memcmp(one.const_data_ptr<float>(), expected.data(),
                       expected.values() * sizeof(float)) == 0;
}

void check_against_run_plan(const DegradedTensors& out, const at::Tensor& nhwc,
                            const std::vector<Plan>& plans) {
    for (std::size_t i = 0; i < plans.size(); ++i) {
        const auto n = static_cast<std::int64_t>(i);
        const at::Tensor patch = nhwc.select(0, n).contiguous();
        const cv::Mat rgb(static_cast<int>(patch.size(0)), static_cast<int>(patch.size(1)), CV_8UC3,
                          patch.data_ptr());
        const Degraded expected = run_plan(plans[i], planar_of_rgb(rgb));
        CHECK(out.gt_usm.defined() == !expected.gt_usm.empty());
        if (out.gt_usm.defined()) CHECK(equal(out.gt_usm, n, expected.gt_usm));
        REQUIRE(out.lr.size() == expected.levels.size());
        for (std::size_t l = 0; l < out.lr.size(); ++l) {
            CHECK(equal(out.lr[l], n, expected.levels[l].lr));
            CHECK(out.lr_up[l].defined() == !expected.levels[l].lr_up.empty());
            if (out.lr_up[l].defined()) CHECK(equal(out.lr_up[l], n, expected.levels[l].lr_up));
        }
    }
}

template <class Action>
std::string sentence_of(Action&& action, Fault fault = Fault::input) {
    try {
        action();
    } catch (const Error& error) {
        return error.fault() == fault ? error.sentence() : "another fault: " + error.sentence();
    }
    return {};
}

}  // namespace

TEST_SUITE("property") {
    TEST_CASE("degrade_batch: tensors become the bytes of run_plan, in both orders of pixels") {
        const at::Tensor nhwc = some_patches(3, 40, 56);
        const at::Tensor nchw = nhwc.permute({0, 3, 1, 2}).contiguous();
        for (const char* preset : {"realesrgan", "osediff"}) {
            CAPTURE(preset);
            const std::vector<Plan> plans = plans_for({56, 40}, preset, 3);
            DegradeBatch batch = degrade_batch_on(at::kCPU);
            check_against_run_plan(degrade_batch(nhwc, PixelOrder::nhwc, plans, batch), nhwc,
                                   plans);
            check_against_run_plan(degrade_batch(nchw, PixelOrder::nchw, plans, batch), nhwc,
                                   plans);
            DegradeBatch twin({.kind = BatchDevice::cuda_on_cpu});
            check_against_run_plan(degrade_batch(nchw, PixelOrder::nchw, plans, twin), nhwc, plans);
        }
    }

    TEST_CASE("degrade_batch: views of larger tensors are read where they lie") {
        const at::Tensor large = some_patches(4, 50, 60);
        const at::Tensor crop = large.slice(0, 1, 4, 2).slice(1, 5, 45).slice(2, 3, 59);
        const std::vector<Plan> plans = plans_for({56, 40}, "adcsr", 2);
        DegradeBatch batch = degrade_batch_on(at::kCPU);
        check_against_run_plan(degrade_batch(crop, PixelOrder::nhwc, plans, batch), crop, plans);
        const at::Tensor one_row = some_patches(2, 1, 56).expand({2, 40, 56, 3});
        check_against_run_plan(degrade_batch(one_row, PixelOrder::nhwc, plans, batch), one_row,
                               plans);
    }
}

TEST_SUITE("property") {
    TEST_CASE("degrade_batch: on a GPU the same bytes, on the stream that is current") {
        // LibTorch's GPU part registers itself; it lies beside the part that is linked
        const bool has_gpu =
            ::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) && at::globalContext().hasCUDA();
        if (!has_gpu) {
            MESSAGE("the GPU itself is not tested: LibTorch finds none");
            return;
        }
        const at::Tensor nhwc = some_patches(5, 72, 64);
        for (const char* preset : {"realesrgan", "osediff", "ultra-severe"}) {
            const std::vector<Plan> plans = plans_for({64, 72}, preset, 5, {4, 8, 14});
            DegradeBatch batch = degrade_batch_on(at::kCUDA);
            DegradedTensors out = degrade_batch(nhwc.to(at::kCUDA), PixelOrder::nhwc, plans, batch);
            const auto home = [](at::Tensor& t) { t = t.defined() ? t.cpu() : t; };
            home(out.gt_usm);
            for (at::Tensor& t : out.lr) home(t);
            for (at::Tensor& t : out.lr_up) home(t);
            check_against_run_plan(out, nhwc, plans);
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("degrade_batch: what is no batch of patches is refused") {
        const std::vector<Plan> plans = plans_for({56, 40}, "realesrgan", 2);
        DegradeBatch batch = degrade_batch_on(at::kCPU);
        const auto sentence = [&](const at::Tensor& gt, std::span<const Plan> p) {
            return sentence_of([&] { degrade_batch(gt, PixelOrder::nhwc, p, batch); });
        };
        const at::Tensor gt = some_patches(2, 40, 56);
        CHECK(sentence(gt.to(at::kFloat), plans) ==
              "GT patches are N x H x W x 3, uint8, not 4 dimensions of Float");
        CHECK(sentence(gt.select(0, 0), plans) ==
              "GT patches are N x H x W x 3, uint8, not 3 dimensions of Byte");
        CHECK(sentence(gt.slice(0, 0, 1), plans) == "1 patches came with 2 plans");
        CHECK(sentence(some_patches(2, 56, 40), plans) ==
              "plan 0 is for a patch of 56 x 40, the patches have 40 x 56");
        std::vector<Plan> mixed = plans;
        mixed[1] = plans_for({56, 40}, "realesrgan", 1, {4, 10})[0];
        CHECK(sentence(gt, mixed) ==
              "level x10 of plan 1 has another size than in the first plan; a batch of tensors has "
              "one shape");
        mixed[1] = plans_for({56, 40}, "realesrgan", 1, {4})[0];
        CHECK(sentence(gt, mixed) ==
              "plan 1 has other levels than the first one; a batch of tensors has one shape");
    }

    TEST_CASE("degrade_batch_on: other devices are device errors") {
        CHECK(sentence_of([] { degrade_batch_on(at::Device("meta")); }, Fault::device) ==
              "degradation runs on cpu and cuda, not on meta; move the patches");
    }
}

}  // namespace ultrasr
