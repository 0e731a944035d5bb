#include <set>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/image_io.h"
#include "data/tensor.h"
#include "data/weights/weight_store.h"
#include "models/method.h"
#include "models/resample.h"
#include "models/scale_policy.h"
#include "models/srvgg.h"
#include "tests/models/nets.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

MethodPtr make(const std::string& text, MethodOptions options = {}) {
    const MethodSpec spec = parse_method(text);
    options.label = spec.label;
    return spec.info->make(options, spec.argument);
}

/// The Error that an action ends in.
struct Caught {
    Fault fault = Fault::internal;
    std::string text;
    bool has(const std::string& part) const { return text.find(part) != std::string::npos; }
};

template <class Action>
Caught caught(Action&& action) {
    try {
        action();
    } catch (const Error& error) {
        return {error.fault(), error.sentence()};
    }
    return {Fault::internal, "no error"};
}

double largest_difference(const Image& a, const Image& b) {
    REQUIRE(a.size() == b.size());
    return cv::norm(a.mat(), b.mat(), cv::NORM_INF);
}

bool is_8bit(const Image& image) { return largest_difference(image, quantise_8bit(image)) == 0.0; }

constexpr const char* anime_file = "realesr-animevideov3.safetensors";

/// One pass of animevideov3, unclamped values cut to [0,1].
Image anime_pass(const Image& lr) {
    const auto path = test::source_folder() / "data" / "weights" / anime_file;
    const SrvggNet net(load_tensors(path), {}, "test");
    return image_from_batch(ImageBatch(net.forward(batch_from_image(lr).nchw)));
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("parse_method: names, arguments, labels") {
        MethodSpec spec = parse_method("bicubic");
        CHECK(spec.info->name == "bicubic");
        CHECK(spec.argument.empty());
        CHECK(spec.label == "bicubic");
        CHECK(parse_method("lanczos@my-row_1.0").label == "my-row_1.0");
        spec = parse_method("folder:/data/results/osediff/");
        CHECK(spec.info->prefix);
        CHECK(spec.argument == "/data/results/osediff/");
        CHECK(spec.label == "osediff");
        spec = parse_method("folder:/home/me@work/out@ours");
        CHECK(spec.argument == "/home/me@work/out");
        CHECK(spec.label == "ours");
        CHECK(parse_method("folder:/home/me@work/out").argument == "/home/me@work/out");
        spec = parse_method("command:/usr/bin/sr -i {in} -o {out}");
        CHECK(spec.label == "sr");
        CHECK(spec.argument == "/usr/bin/sr -i {in} -o {out}");
        CHECK(parse_method("command:sr {in} {out}@other").label == "other");
    }

    TEST_CASE("parse_method: faults are usage errors that say what is known") {
        const Caught unknown = caught([] { parse_method("bicubik"); });
        CHECK(unknown.fault == Fault::usage);
        for (const MethodInfo* m : all_methods()) CHECK(unknown.has(m->name));
        for (const char* text : {"", ":", "bicubic:x", "bicubic:", "folder", "folder:", "@x"}) {
            CAPTURE(text);
            CHECK(caught([&] { parse_method(text); }).fault == Fault::usage);
        }
        for (const char* label :
             {"", ".", "..", ".hidden", "-x", "a b", "\xc3\xa4", "a:b", "x\n"}) {
            CAPTURE(label);
            CHECK(caught([&] { parse_method(std::string("bicubic@") + label); }).fault ==
                  Fault::usage);
        }
        CHECK(caught([] { parse_method("bicubic@" + std::string(65, 'a')); }).fault ==
              Fault::usage);
        CHECK(caught([] { parse_method("folder:/a/b c@"); }).fault == Fault::usage);
        CHECK(caught([] { parse_method("folder:/a/.b"); }).has("@LABEL"));
    }

    TEST_CASE("realesr-animevideov3 at x4: the network, clamped and rounded, nothing else") {
        const Image lr = test::picture(20, 13);
        const MethodPtr method = make("realesr-animevideov3");
        const Image sr = method->restore(lr, {"a", {80, 52}, {4.0}});
        CHECK(largest_difference(sr, quantise_8bit(anime_pass(lr))) == 0.0);
        CHECK_FALSE(method->parallel_over_images());
        CHECK_FALSE(method->timeless());
    }

    TEST_CASE("the three policies reach any target exactly, by the route they promise") {
        const Image lr = test::picture(20, 13);
        const Image once = quantise_8bit(anime_pass(lr));
        for (const int s : {8, 10, 12, 14}) {
            // HR sizes are not multiples of the LR size
            const PixelSize target{20 * s - 3, 13 * s + 5};
            const RestoreRequest request{"a", target, {static_cast<double>(s)}};
            const auto by = [&](ScalePolicy policy) {
                return make("realesr-animevideov3",
                            test::with([&](MethodOptions& o) { o.scale_policy = policy; }))
                    ->restore(lr, request);
            };
            CAPTURE(s);

            // post: Lanczos4 of the 8-bit picture
            const Image post = by(ScalePolicy::post);
            REQUIRE(post.size() == target);
            CHECK(is_8bit(post));
            cv::Mat levels;
            cv::Mat resized;
            once.mat().convertTo(levels, CV_8U, 255.0);
            cv::resize(levels, resized, {target.width, target.height}, 0, 0, cv::INTER_LANCZOS4);
            resized.convertTo(resized, CV_32F, 1.0 / 255.0);
            CHECK(largest_difference(post, Image(resized)) < 1e-6);  // division against product

            // pre: bicubic to ceil(target / 4), network, bicubic to the target
            const Image pre = by(ScalePolicy::pre);
            REQUIRE(pre.size() == target);
            const PixelSize input{(target.width + 3) / 4, (target.height + 3) / 4};
            const Image middle = anime_pass(clamped(resize(lr, input, Kernel::bicubic)));
            CHECK(largest_difference(pre, quantise_8bit(resize(middle, target, Kernel::bicubic))) ==
                  0.0);

            // cascade: twice, then bicubic
            const Image cascade = by(ScalePolicy::cascade);
            REQUIRE(cascade.size() == target);
            CHECK(is_8bit(cascade));
            CHECK(largest_difference(pre, post) > 0.02);
            CHECK(largest_difference(cascade, post) > 0.02);
            CHECK(largest_difference(cascade, pre) > 0.02);
            if (s == 14) {
                const Image twice = anime_pass(once);
                CHECK(largest_difference(
                          cascade, quantise_8bit(resize(twice, target, Kernel::bicubic))) == 0.0);
            }
        }
    }

    TEST_CASE("restore: tiles at the receptive radius change no 8-bit level") {
        const Image lr = test::picture(47, 43);
        const RestoreRequest request{"a", {188, 172}, {4.0}};
        const Image whole = make("realesr-animevideov3")->restore(lr, request);
        const MethodPtr tiled =
            make("realesr-animevideov3", test::with([](MethodOptions& o) { o.tile = 20; }));
        // A value on a rounding edge may fall either way: at most one level, on very few samples
        cv::Mat difference;
        cv::absdiff(whole.mat(), tiled->restore(lr, request).mat(), difference);
        CHECK(cv::norm(difference, cv::NORM_INF) < 1.01 / 255.0);
        CHECK(cv::countNonZero(difference.reshape(1)) < 10);
        const auto settings = tiled->provenance().settings;
        CHECK(std::find(settings.begin(), settings.end(),
                        std::pair<std::string, std::string>("tile-pad", "18")) != settings.end());
    }

    TEST_CASE("the denoise strength is 0.5 unless given, as in the official program") {
        const Provenance p = make("realesr-general-x4v3")->provenance();
        REQUIRE(p.weights.size() == 2);
        CHECK(p.settings.at(0) == std::pair<std::string, std::string>("denoise", "0.5"));
    }

    TEST_CASE("the denoise strength mixes two files, and the provenance names both") {
        const Image lr = test::picture(12, 12);
        const RestoreRequest request{"a", {48, 48}, {4.0}};
        const auto with = [&](double d) {
            return make("realesr-general-x4v3",
                        test::with([&](MethodOptions& o) { o.denoise = d; }));
        };
        const Image one = with(1.0)->restore(lr, request);
        const Image half = with(0.5)->restore(lr, request);
        const Image none = with(0.0)->restore(lr, request);
        CHECK(largest_difference(one, half) > 0.01);
        CHECK(largest_difference(none, half) > 0.01);
        CHECK(with(1.0)->provenance().weights.size() == 1);
        const Provenance p = with(0.5)->provenance();
        REQUIRE(p.weights.size() == 2);
        CHECK(p.weights[0].verified);
        CHECK(p.weights[1].file == "realesr-general-wdn-x4v3.safetensors");
        CHECK(p.settings.at(0) == std::pair<std::string, std::string>("denoise", "0.5"));
        CHECK(caught([&] { with(1.5); }).fault == Fault::usage);
    }

    TEST_CASE("weights that are missing, of another network or scale are input errors") {
        const test::TemporaryFolder folder;
        MethodOptions options;
        options.weights = folder.path();
        const Caught missing = caught([&] { make("bsrgan", options); });
        CHECK(missing.fault == Fault::input);
        CHECK(missing.has("BSRGAN.safetensors"));
        CHECK(missing.has("66.9 MB"));
        CHECK(missing.has("KAIR"));

        // A x2plus network in the slot of x4
        const fs::path path = folder.path() / "RealESRGAN_x4plus.safetensors";
        save_tensors(path, test::rrdb_weights(1, 8, 4, 12, true));
        CHECK(caught([&] { make("realesrgan-x4plus", options); }).has("--unverified-weights"));
        options.unverified_weights = true;
        CHECK(caught([&] { make("realesrgan-x4plus", options); }).has("scale 2"));
        // A x4 one of ours is taken, marked unverified
        save_tensors(path, test::rrdb_weights(1, 8, 4, 3, true));
        CHECK_FALSE(make("realesrgan-x4plus", options)->provenance().weights.at(0).verified);
        // Another architecture
        save_tensors(path, test::srvgg_weights(1, 8, 4));
        CHECK(caught([&] { make("realesrgan-x4plus", options); }).has("does not hold an RRDBNet"));
        // Cut short
        fs::resize_file(path, fs::file_size(path) - 1);
        const Caught cut = caught([&] { make("realesrgan-x4plus", options); });
        CHECK(cut.fault == Fault::input);
        CHECK(cut.has("cut short"));
    }

    TEST_CASE("folder: pictures by stem with known tails and the label, exact size, clear faults") {
        const test::TemporaryFolder folder;
        const Image a = quantise_8bit(test::picture(12, 9));
        const Image b = quantise_8bit(test::picture(9, 12));
        write_png(folder.path() / "a.png", a);
        write_png(folder.path() / "b_x4.png", b);
        write_png(folder.path() / "c_ours.png", a);
        write_png(folder.path() / "d_out.png", a);
        write_png(folder.path() / "d_SR.png", a);
        const MethodPtr method = make("folder:" + folder.path().string() + "@ours");
        const Image lr(PixelSize{3, 3});
        const auto get = [&](const std::string& stem, PixelSize size) {
            return method->restore(lr, {stem, size, {4.0}});
        };
        CHECK(largest_difference(get("a", {12, 9}), a) == 0.0);
        CHECK(largest_difference(get("b", {9, 12}), b) == 0.0);
        CHECK(largest_difference(get("c", {12, 9}), a) == 0.0);
        const Caught two = caught([&] { get("d", {12, 9}); });
        CHECK(two.fault == Fault::input);
        CHECK(two.has("d_out.png"));
        CHECK(two.has("d_SR.png"));
        const Caught none = caught([&] { get("e", {12, 9}); });
        CHECK(none.fault == Fault::input);
        CHECK(none.has("e"));
        const Caught size = caught([&] { get("a", {24, 18}); });
        CHECK(size.fault == Fault::input);
        CHECK(size.has("12 x 9"));
        CHECK(size.has("24 x 18"));
        CHECK(method->timeless());
        const Provenance p = method->provenance();
        CHECK(p.kind == "folder");
        CHECK(p.settings.at(0).second == "5");

        const test::TemporaryFolder empty;
        CHECK(caught([&] { make("folder:" + empty.path().string() + "@x"); }).has("no pictures"));
        CHECK(caught([&] { make("folder:/nonexistent@x"); }).fault == Fault::input);
    }

    TEST_CASE("folder: JPEG results are counted in the provenance") {
        const test::TemporaryFolder folder;
        write_png(folder.path() / "a.png", test::picture(12, 9));
        std::ofstream(folder.path() / "b.JPG", std::ios::binary)
            << encode_jpeg(test::picture(12, 9), 90);
        const MethodPtr method = make("folder:" + folder.path().string() + "@x");
        CHECK(method->provenance().settings.back() ==
              std::pair<std::string, std::string>("jpeg", "1"));
        CHECK_NOTHROW(method->restore(Image(PixelSize{3, 3}), {"b", {12, 9}, {4.0}}));
    }

    TEST_CASE("command: a program is run without a shell, its faults are told in its own words") {
        const Image lr = quantise_8bit(test::picture(12, 9));
        const RestoreRequest request{"a", {12, 9}, {1.0}};
        CHECK(largest_difference(make("command:cp {in} {out}@x")->restore(lr, request), lr) == 0.0);
        // No shell: the semicolon is a word like others
        CHECK(caught([&] { make("command:cp {in} {out} ; true@x")->restore(lr, request); }).fault ==
              Fault::input);
        const Caught failed = caught([&] {
            make("command:sh -c 'echo out of ideas >&2; exit 7' {in} {out}@x")
                ->restore(lr, request);
        });
        CHECK(failed.fault == Fault::input);
        CHECK(failed.has("exit 7"));
        CHECK(failed.has("out of ideas"));
        CHECK(caught([&] {
                  make("command:true {in} {out}@x")->restore(lr, request);
              }).has("left no result"));
        CHECK(caught([&] {
                  make("command:cp {in} {out}@x")->restore(lr, {"a", {24, 18}, {2.0}});
              }).has("12 x 9"));
        CHECK(caught([&] {
                  make("command:no-such-program {in} {out}@x")->restore(lr, request);
              }).has("cannot start"));
        MethodOptions hurried;
        hurried.command_timeout_s = 1;
        CHECK(caught([&] {
                  make("command:sh -c 'sleep 20' {in} {out}@x", hurried)->restore(lr, request);
              }).has("within 1 s"));
        for (const char* text : {"command:cp {in}@x", "command:'cp {in} {out}@x"}) {
            CHECK(caught([&] { make(text); }).fault == Fault::usage);
        }
        CHECK(make("command:/opt/bin/cp {in} {out}@x")->provenance().settings.at(0).second ==
              "cp {in} {out}");
    }
}

TEST_SUITE("property") {
    TEST_CASE(
        "every method at hand: exact target, values in [0,1], the input untouched, twice the "
        "same") {
        std::set<std::string> names;
        for (const MethodInfo* info : all_methods()) {
            CAPTURE(info->name);
            CHECK(names.insert(info->name).second);
            CHECK_FALSE(info->title.empty());
            CHECK_FALSE(info->source.empty());
            for (const std::string& file : info->weight_files) CHECK_NOTHROW(known_weight(file));
            if (info->prefix) continue;
            if (!std::all_of(info->weight_files.begin(), info->weight_files.end(),
                             [](const std::string& f) { return have_weights(f); })) {
                continue;
            }
            const MethodPtr method = make(info->name);
            const Image lr = test::picture(9, 7);
            const Image before(lr.mat().clone());
            for (const PixelSize target : {PixelSize{73, 58}, PixelSize{36, 28}, PixelSize{5, 3}}) {
                const RestoreRequest request{"a", target, {8.0}};
                const Image sr = method->restore(lr, request);
                CHECK(sr.size() == target);
                double low = 0.0;
                double high = 0.0;
                cv::minMaxLoc(sr.mat().reshape(1), &low, &high);
                CHECK(low >= 0.0);
                CHECK(high <= 1.0);
                CHECK(high - low > 0.05);
                CHECK(largest_difference(sr, method->restore(lr, request)) == 0.0);
            }
            CHECK(largest_difference(lr, before) == 0.0);
            // A single pixel is a picture too
            CHECK(method->restore(Image(PixelSize{1, 1}), {"a", {8, 8}, {8.0}}).size() ==
                  PixelSize{8, 8});
            const Provenance p = method->provenance();
            CHECK_FALSE(p.kind.empty());
            for (const auto& [key, value] : p.settings) {
                CHECK(value.find('/') == std::string::npos);
            }
        }
    }
}
