// The batched degradation: what a GPU would do, done by the CPU, against the steps one by one.
#include "degradation/degrade_batch.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "degradation/device/program.h"
#include "degradation/pipeline.h"
#include "degradation/preset.h"
#include "degradation/steps/steps.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

const Preset& preset(const std::string& name) {
    const auto found = std::find_if(presets().begin(), presets().end(),
                                    [&](const Preset& p) { return p.name == name; });
    require(found != presets().end(), "no preset {}", name);
    return *found;
}

std::vector<Preset> second_order_presets() {
    std::vector<Preset> all;
    for (const Preset& p : presets()) {
        if (p.pipeline == Pipeline::second_order) all.push_back(p);
    }
    return all;
}

/// Interleaved bytes: edges, ramps and noise, so that masks flip and levels are many.
std::vector<std::uint8_t> bytes_of(PixelSize size, std::uint64_t seed) {
    std::vector<std::uint8_t> bytes;
    Rng rng(seed, 7);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            for (int c = 0; c < 3; ++c) {
                const int edge = (x / 9 + y / 13 + c) % 2 == 0 ? 170 : 20;
                const int value = edge + 3 * x % 40 + static_cast<int>(rng.below(32));
                bytes.push_back(static_cast<std::uint8_t>(std::min(value, 255)));
            }
        }
    }
    return bytes;
}

/// A batch with the memory that it reads and writes.
class Batch {
  public:
    void add(Plan plan) {
        pixels_.push_back(bytes_of(plan.gt, plan.stream.id));
        plans_.push_back(std::move(plan));
    }
    const std::vector<Plan>& plans() const { return plans_; }
    const std::vector<std::uint8_t>& pixels(std::size_t i) const { return pixels_[i]; }
    std::vector<std::uint8_t>& pixels_of(std::size_t i) { return pixels_[i]; }

    /// Every result of every picture in a row, set to -1 before.
    std::vector<std::vector<float>> run(DegradeBatch& batch,
                                        BatchMemory memory = BatchMemory::host) const {
        std::vector<std::vector<float>> results;
        const std::vector<BatchItem> items = items_into(results);
        batch.run(items, memory, memory);
        return results;
    }
    std::vector<BatchItem> items_into(std::vector<std::vector<float>>& results) const {
        const auto room = [&](PixelSize size) {
            results.emplace_back(3 * static_cast<std::size_t>(size.width * size.height), -1.0F);
            return results.back().data();
        };
        std::vector<BatchItem> items;
        for (std::size_t i = 0; i < plans_.size(); ++i) {
            const Plan& plan = plans_[i];
            BatchItem item;
            item.plan = &plan;
            item.gt.pixels = pixels_[i].data();
            if (!plan.shared.empty() && plan.shared[0].name == "usm") item.gt_usm = room(plan.gt);
            for (const LevelPlan& level : plan.levels) {
                float* lr = room(level.lr);
                item.levels.push_back({lr, level.back.empty() ? nullptr : room(plan.gt)});
            }
            items.push_back(item);
        }
        return items;
    }
    /// The same by run_plan, without anything of the batch.
    std::vector<std::vector<float>> expected() const {
        std::vector<std::vector<float>> results;
        const auto add = [&](const Planar& p) {
            if (!p.empty()) results.emplace_back(p.data(), p.data() + p.values());
        };
        for (std::size_t i = 0; i < plans_.size(); ++i) {
            cv::Mat rgb(plans_[i].gt.height, plans_[i].gt.width, CV_8UC3,
                        const_cast<std::uint8_t*>(pixels_[i].data()));
            const Degraded out = run_plan(plans_[i], planar_of_rgb(rgb));
            add(out.gt_usm);
            for (const DegradedLevel& level : out.levels) {
                add(level.lr);
                add(level.lr_up);
            }
        }
        return results;
    }

  private:
    std::vector<Plan> plans_;
    std::vector<std::vector<std::uint8_t>> pixels_;
};

bool same(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](auto& p, auto& q) {
               return p.size() == q.size() &&
                      std::memcmp(p.data(), q.data(), p.size() * sizeof(float)) == 0;
           });
}

constexpr std::array<PixelSize, 5> sizes{PixelSize{64, 64}, PixelSize{97, 75}, PixelSize{41, 118},
                                         PixelSize{130, 33}, PixelSize{23, 29}};

/// `count` plans of mixed sizes and ids.
Batch mixed_batch(const std::vector<LevelRequest>& levels, Couple couple, std::size_t count,
                  std::uint64_t first_id = 1) {
    std::vector<PlanRequest> requests;
    for (std::size_t i = 0; i < count; ++i) {
        requests.push_back({.stream = {.seed = 11, .id = first_id + i},
                            .gt = sizes[i % sizes.size()],
                            .levels = levels,
                            .couple = couple});
    }
    Batch batch;
    for (Plan& plan : make_plans(requests)) batch.add(std::move(plan));
    return batch;
}

/// The kinds of elements that a batch needs, by name.
std::map<std::string, int> launches_of(const Batch& batch) {
    std::vector<DevicePicture> pictures;
    for (const Plan& plan : batch.plans()) {
        DevicePicture picture;
        picture.plan = &plan;
        const DeviceOutput wanted{true, nullptr, 0};
        for (const LevelPlan& level : plan.levels) {
            picture.levels.push_back({wanted, {!level.back.empty(), nullptr, 0}});
        }
        pictures.push_back(picture);
    }
    std::map<std::string, int> launches;
    for (const DeviceLaunch& launch : device_program(pictures).launches) {
        DeviceElements::with_kind(launch.kind, [&](auto* type) {
            ++launches[std::remove_pointer_t<decltype(type)>::name];
        });
    }
    return launches;
}

NamedStep made(const std::string& kind, const std::string& params) {
    return named_step("step." + kind, kind, Json::parse(params), Tier::exact);
}

/// One level that runs these steps.
Plan plan_of_steps(PixelSize gt, PixelSize lr, std::vector<NamedStep> steps) {
    Plan plan;
    plan.stream = {.seed = 5, .id = 77, .variant = 3};
    plan.gt = gt;
    LevelPlan level;
    level.lr = lr;
    level.level = 4;
    level.steps = std::move(steps);
    plan.levels.push_back(std::move(level));
    return plan;
}

struct UserStep : Step {
    Planar apply(Planar picture, StepContext&) const override { return picture; }
    Json params() const override { return Json::object(); }
};

/// All devices that can be had here: the stand-in always, a GPU where there is one.
std::vector<BatchDevice> batch_devices() {
    std::vector<BatchDevice> devices{{.kind = BatchDevice::cuda_on_cpu}};
    try {
        const DegradeBatch probe({.kind = BatchDevice::cuda});
        devices.push_back({.kind = BatchDevice::cuda});
    } catch (const Error& error) {
        REQUIRE(error.fault() == Fault::device);
        MESSAGE("the GPU itself is not tested: " << error.sentence());
    }
    return devices;
}

}  // namespace

TEST_SUITE("property") {
    TEST_CASE("DegradeBatch: a device makes the bytes of run_plan, every second-order preset") {
        for (const BatchDevice& device : batch_devices()) {
            DegradeBatch batch(device);
            for (const Preset& p : second_order_presets()) {
                for (const int scale : {4, 8, 14}) {
                    CAPTURE(p.name);
                    CAPTURE(scale);
                    const Batch pictures = mixed_batch({{scale, p}}, Couple::stage1, 5,
                                                       static_cast<std::uint64_t>(100 * scale));
                    CHECK(same(pictures.run(batch), pictures.expected()));
                }
            }
        }
    }

    TEST_CASE("DegradeBatch: several levels, however they hang together") {
        for (const BatchDevice& device : batch_devices()) {
            DegradeBatch batch(device);
            for (const Couple couple : {Couple::stage1, Couple::comonotone, Couple::params,
                                        Couple::independent, Couple::cascade}) {
                CAPTURE(couple_name(couple));
                const Batch equal = mixed_batch({{4, preset("ultra-moderate")},
                                                 {8, preset("ultra-moderate")},
                                                 {14, preset("ultra-moderate")}},
                                                couple, 10, 40);
                CHECK(same(equal.run(batch), equal.expected()));
                const Batch graded = mixed_batch({{4, preset("ultra-mild")},
                                                  {8, preset("ultra-moderate")},
                                                  {8, preset("ultra-severe")}},
                                                 couple, 5, 60);
                CHECK(same(graded.run(batch), graded.expected()));
            }
        }
    }

    TEST_CASE("DegradeBatch: shared vals come from the mildest level") {
        // The last check sees to it that the levels would not have the same vals anyway
        Preset p = preset("ultra-severe");
        p.stage2.gaussian_noise_prob = 0;
        DegradeBatch batch({.kind = BatchDevice::cuda_on_cpu});
        const Batch shared = mixed_batch({{2, p}, {14, p}}, Couple::stage1, 4);
        REQUIRE(p.poisson_vals == PoissonVals::shared);
        CHECK(same(shared.run(batch), shared.expected()));
        p.poisson_vals = PoissonVals::content;
        const Batch own = mixed_batch({{2, p}, {14, p}}, Couple::stage1, 4);
        CHECK(same(own.run(batch), own.expected()));
        CHECK_FALSE(same(own.run(batch), shared.run(batch)));
    }

    TEST_CASE("DegradeBatch: every step with a kernel, sizes down to one pixel") {
        const std::vector<std::pair<std::string, std::string>> steps{
            {"usm", R"({"radius": 50})"},
            {"usm", R"({"radius": 3, "threshold": 2, "weight": 0.8})"},
            {"blur", R"({"kernel": {"type": "iso", "size": 21, "sigma_x": 3}})"},
            {"blur", R"({"kernel": {"type": "aniso", "size": 21, "sigma_x": 3, "sigma_y": 1,
                                    "rotation": 0.4}})"},
            {"blur",
             R"({"kernel": {"type": "plateau_iso", "size": 7, "sigma_x": 2, "beta": 1.5}})"},
            {"blur", R"({"kernel": {"type": "sinc", "size": 13, "omega": 1.1}})"},
            {"gaussian_noise", R"({"sigma": 20, "gray": false, "field": 128, "level": 9})"},
            {"gaussian_noise", R"({"sigma": 20, "gray": true, "field": 129})"},
            {"poisson_noise", R"({"scale": 2, "gray": false, "vals": "content"})"},
            {"poisson_noise", R"({"scale": 2, "gray": true, "vals": "shared"})"},
            {"poisson_noise", R"({"scale": 1, "gray": true, "vals": 16})"},
            {"jpeg", R"({"quality": 30, "pad": "zero"})"},
            {"jpeg", R"({"quality": 85.5, "pad": "replicate"})"},
            {"jpeg", R"({"quality": 100})"},
            {"clamp", "{}"},
            {"clamp_round", "{}"},
            {"clamp_truncate", "{}"},
            {"grayscale", "{}"}};
        for (const BatchDevice& device : batch_devices()) {
            DegradeBatch batch(device);
            for (const auto& [kind, params] : steps) {
                CAPTURE(kind);
                CAPTURE(params);
                Batch pictures;
                for (const PixelSize size : {PixelSize{1, 1}, PixelSize{2, 5}, PixelSize{16, 16},
                                             PixelSize{17, 3}, PixelSize{50, 61}}) {
                    // A blur before, so that values lie between the levels
                    pictures.add(plan_of_steps(
                        size, size, {made("blur", steps[4].second), made(kind, params)}));
                }
                CHECK(same(pictures.run(batch), pictures.expected()));
            }
        }
    }

    TEST_CASE("DegradeBatch: every resize") {
        for (const BatchDevice& device : batch_devices()) {
            DegradeBatch batch(device);
            for (const char* mode : {"area", "bilinear", "bicubic", "area_cv", "bicubic_matlab"}) {
                for (const char* antialias : {"false", "true"}) {
                    CAPTURE(mode);
                    CAPTURE(antialias);
                    Batch pictures;
                    for (const PixelSize to :
                         {PixelSize{3, 2}, PixelSize{37, 60}, PixelSize{80, 11}, PixelSize{37, 19},
                          PixelSize{37, 41}, PixelSize{1, 1}}) {
                        pictures.add(plan_of_steps(
                            {37, 41}, to,
                            {made("resize_size",
                                  fmt::format(R"({{"mode":"{}","size":[{},{}],"antialias":{}}})",
                                              mode, to.height, to.width, antialias))}));
                    }
                    for (const double ratio : {0.153, 0.5, 1.013, 1.0, 1.47}) {
                        const auto length = [&](int n) { return static_cast<int>(n * ratio); };
                        pictures.add(plan_of_steps(
                            {37, 41}, {length(37), length(41)},
                            {made("resize_scale_factor",
                                  fmt::format(R"({{"mode":"{}","ratio":{},"antialias":{}}})", mode,
                                              ratio, antialias))}));
                    }
                    CHECK(same(pictures.run(batch), pictures.expected()));
                }
            }
        }
    }

    TEST_CASE("DegradeBatch: a kernel that does not fold visits its taps in the CPU's order") {
        Planar taps = test::noise_picture(1, 9, 9, 3);
        const Plan plan = plan_of_steps(
            {31, 27}, {31, 27},
            {{"blur", "blur",
              degradation("blur").make(Json::object(), {{"kernel", taps}}, Tier::exact)}});
        REQUIRE_FALSE(dynamic_cast<const BlurStep&>(*plan.levels[0].steps[0].step).kernel.folds);
        Batch pictures;
        pictures.add(plan);
        DegradeBatch batch({.kind = BatchDevice::cuda_on_cpu});
        CHECK(same(pictures.run(batch), pictures.expected()));
    }

    TEST_CASE("DegradeBatch: a batch scores like its pictures, in any order, memory reused") {
        const std::vector<LevelRequest> levels{{4, preset("realesrgan")},
                                               {10, preset("realesrgan")}};
        const Batch all = mixed_batch(levels, Couple::stage1, 7);
        const auto expected = all.expected();
        for (const BatchDevice& device : batch_devices()) {
            DegradeBatch batch(device);
            CHECK(same(all.run(batch), expected));
            const std::size_t kept = batch.device_bytes();
            CHECK(kept > 0);
            // One by one, backwards, in the memory of the whole batch
            std::size_t results = expected.size();
            for (std::size_t i = all.plans().size(); i-- > 0;) {
                Batch one;
                one.add(all.plans()[i]);
                const auto alone = one.run(batch);
                results -= alone.size();
                for (std::size_t k = 0; k < alone.size(); ++k) {
                    CHECK(alone[k] == expected[results + k]);
                }
            }
            CHECK(results == 0);
            CHECK(same(all.run(batch), expected));
            CHECK(batch.device_bytes() == kept);
        }
    }

    TEST_CASE("DegradeBatch: the CPU's own way makes the bytes of run_plan") {
        const Batch pictures =
            mixed_batch({{4, preset("osediff")}, {8, preset("osediff")}}, Couple::stage1, 6);
        DegradeBatch batch;
        CHECK(same(pictures.run(batch), pictures.expected()));
        CHECK(batch.device_bytes() == 0);
    }

    TEST_CASE("device_program: as many launches for many pictures as for one of them") {
        // Plans that differ in nothing but their pixels
        Batch one, many;
        for (std::uint64_t id = 1; id <= 16; ++id) {
            Plan plan = make_plan({.stream = {.seed = 1, .id = 3},
                                   .gt = {48, 40},
                                   .levels = {{4, preset("seesr")}, {8, preset("seesr")}}});
            plan.stream.id = id;
            if (id == 1) one.add(plan);
            many.add(plan);
        }
        CHECK(launches_of(many) == launches_of(one));
        // Plans that differ stay together where they can
        const auto total = [](const Batch& batch) {
            int sum = 0;
            for (const auto& [name, count] : launches_of(batch)) sum += count;
            return sum;
        };
        const Batch mixed = mixed_batch({{4, preset("seesr")}}, Couple::stage1, 32);
        int one_by_one = 0;
        for (const Plan& plan : mixed.plans()) {
            Batch alone;
            alone.add(plan);
            one_by_one += total(alone);
        }
        CAPTURE(one_by_one);
        CHECK(total(mixed) < one_by_one / 12);
    }

    TEST_CASE("device_program: the presets between them use every kernel but grayscale's") {
        std::set<std::string> used;
        for (const Preset& p : second_order_presets()) {
            for (const auto& [name, count] :
                 launches_of(mixed_batch({{4, p}}, Couple::stage1, 12))) {
                used.insert(name);
            }
        }
        used.insert("grayscale");
        CHECK(used.size() == DeviceElements::count);
    }
}

TEST_SUITE("unit") {
    TEST_CASE("DegradeBatch: rows with gaps, planes instead of pixels, upside down") {
        const Batch pictures = mixed_batch({{4, preset("realesrgan")}}, Couple::stage1, 1);
        const auto expected = pictures.expected();
        const PixelSize size = pictures.plans()[0].gt;
        const auto w = static_cast<std::size_t>(size.width);
        const auto h = static_cast<std::size_t>(size.height);
        const std::vector<std::uint8_t>& packed = pictures.pixels(0);
        const std::size_t pitch = 3 * w + 11;
        std::vector<std::uint8_t> planes(3 * w * h), gaps(pitch * h, 99);
        for (std::size_t y = 0; y < h; ++y) {
            for (std::size_t x = 0; x < 3 * w; ++x) {
                const std::uint8_t byte = packed[y * 3 * w + x];
                planes[(x % 3 * h + y) * w + x / 3] = byte;
                gaps[(h - 1 - y) * pitch + x] = byte;
            }
        }
        const auto signed_of = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n); };
        for (const auto kind : {BatchDevice::cpu, BatchDevice::cuda_on_cpu}) {
            DegradeBatch batch({.kind = kind});
            for (const BatchMemory memory : {BatchMemory::host, BatchMemory::device}) {
                for (const BatchPixels& gt :
                     {BatchPixels{planes.data(), signed_of(w), 1, signed_of(w * h)},
                      BatchPixels{gaps.data() + (h - 1) * pitch, -signed_of(pitch)}}) {
                    std::vector<std::vector<float>> results;
                    std::vector<BatchItem> items = pictures.items_into(results);
                    items[0].gt = gt;
                    batch.run(items, memory, memory);
                    CHECK(same(results, expected));
                }
            }
        }
    }

    TEST_CASE("DegradeBatch: results that nobody wants are not written") {
        const Batch pictures =
            mixed_batch({{4, preset("osediff")}, {8, preset("osediff")}}, Couple::stage1, 2);
        for (const auto kind : {BatchDevice::cpu, BatchDevice::cuda_on_cpu}) {
            DegradeBatch batch({.kind = kind});
            auto expected = pictures.expected();
            std::vector<std::vector<float>> results;
            std::vector<BatchItem> items = pictures.items_into(results);
            items[0].levels[0].lr = nullptr;
            items[1].levels[1].lr_up = nullptr;
            batch.run(items);
            std::fill(expected[0].begin(), expected[0].end(), -1.0F);
            std::fill(expected[7].begin(), expected[7].end(), -1.0F);
            CHECK(same(results, expected));
        }
    }

    TEST_CASE("DegradeBatch: a step without a kernel is named before anything is run") {
        const std::string jpeg = R"({"quality": 40, "backend": "turbo"})";
        const NamedStep turbo = made("jpeg", jpeg);
        const NamedStep given{"stage1.noise", "gaussian_noise",
                              degradation("gaussian_noise")
                                  .make(Json::parse(R"({"sigma": 3, "gray": true})"),
                                        {{"z", test::flat_picture(1, 8, 8, 1)}}, Tier::exact)};
        const NamedStep nested{
            "stage2.noise", "gaussian_noise",
            made("gaussian_noise", R"({"sigma": 3, "nested_from": [9, 8]})").step};
        const NamedStep users{"mine", "dust", std::make_shared<UserStep>()};
        const std::vector<std::pair<NamedStep, std::string>> cases{
            {turbo,
             "picture 1 of the batch: step 'step.jpeg' (jpeg by libjpeg-turbo) has no GPU "
             "kernel; degrade this plan on the CPU"},
            {given,
             "picture 1 of the batch: step 'stage1.noise' (gaussian_noise with a given "
             "field) has no GPU kernel; degrade this plan on the CPU"},
            {nested,
             "picture 1 of the batch: step 'stage2.noise' (gaussian_noise with another level's "
             "field, nested) has no GPU kernel; degrade this plan on the CPU"},
            {users,
             "picture 1 of the batch: step 'mine' (dust) has no GPU kernel; degrade this "
             "plan on the CPU"}};
        for (const auto& [step, sentence] : cases) {
            Batch pictures;
            pictures.add(plan_of_steps({8, 8}, {8, 8}, {made("clamp", "{}")}));
            pictures.add(plan_of_steps({8, 8}, {8, 8}, {made("clamp", "{}"), step}));
            DegradeBatch batch({.kind = BatchDevice::cuda_on_cpu});
            std::vector<std::vector<float>> results;
            const std::vector<BatchItem> items = pictures.items_into(results);
            CHECK(test::sentence_of([&] { batch.run(items); }, Fault::device) == sentence);
            for (const auto& result : results) CHECK(result[0] == -1.0F);
            // The CPU has no such limits
            DegradeBatch cpu;
            CHECK(same(pictures.run(cpu), pictures.expected()));
        }
    }

    TEST_CASE("DegradeBatch: what does not fit is refused in one sentence") {
        const Batch pictures = mixed_batch({{4, preset("realesrgan")}}, Couple::stage1, 2);
        for (const auto kind : {BatchDevice::cpu, BatchDevice::cuda_on_cpu}) {
            DegradeBatch batch({.kind = kind});
            const auto sentence = [&](auto&& spoil) {
                std::vector<std::vector<float>> results;
                std::vector<BatchItem> items = pictures.items_into(results);
                spoil(items[1]);
                return test::sentence_of([&] { batch.run(items); });
            };
            CHECK(sentence([](BatchItem& i) { i.plan = nullptr; }) ==
                  "picture 1 of the batch lacks a plan");
            CHECK(sentence([](BatchItem& i) { i.gt.pixels = nullptr; }) ==
                  "picture 1 of the batch lacks its pixels");
            CHECK(sentence([](BatchItem& i) { i.levels.clear(); }) ==
                  "picture 1 of the batch has 0 results for 1 levels");
            float somewhere = 0;
            CHECK(
                sentence([&](BatchItem& i) { i.levels[0].lr_up = &somewhere; }) ==
                "picture 1 of the batch: level x4 is asked for at GT's size and the plan does not "
                "bring it back");
            Plan plain = pictures.plans()[1];
            plain.shared.clear();
            CHECK(
                sentence([&](BatchItem& i) { i.plan = &plain; }) ==
                "picture 1 of the batch: sharpened GT is asked for and the plan does not sharpen");
            CHECK(same(pictures.run(batch), pictures.expected()));
            CHECK_NOTHROW(batch.run({}));
        }
    }

    TEST_CASE("DegradeBatch: a GPU that is not there is a device error") {
        const std::string sentence = test::sentence_of(
            [] { DegradeBatch batch({.kind = BatchDevice::cuda, .index = 4711}); }, Fault::device);
        CAPTURE(sentence);
        CHECK((test::has(sentence, "the GPU cannot degrade: ") ||
               test::has(sentence, "this build has no GPU kernels")));
    }
}

}  // namespace ultrasr
