// ultrasr-bench with one-step diffusion methods, on a tiny family: options, profile, bad input,
// memory, interruptions.
#include <sys/resource.h>

#include <opencv2/imgcodecs.hpp>

#include <algorithm>
#include <chrono>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/disk.h"
#include "tests/one_step_student.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

/// A student, a picture to restore, and calls of the program.
class Workshop {
  public:
    Workshop() {
        make_student(path("student"));
        write_png(path("lr.png"), picture(16, 12, 0));
    }

    fs::path path(const std::string& name) const { return folder_.path() / name; }

    Ended restore(const std::string& out, std::vector<std::string> more = {},
                  const std::string& method = "sdd") const {
        std::vector<std::string> words{"restore",
                                       "--method",
                                       method,
                                       "--in",
                                       in_.empty() ? path("lr.png").string() : in_,
                                       "--out",
                                       path(out).string()};
        if (method.starts_with("sdd")) {
            words.insert(words.end(), {"--model", path("student").string()});
        }
        words.insert(words.end(), more.begin(), more.end());
        return run_program("ultrasr-bench", words);
    }

    Ended restore_osediff(const std::string& out, const std::string& base, const std::string& model,
                          std::vector<std::string> more = {}) const {
        more.insert(more.end(), {"--base", base, "--model", model});
        return restore(out, more, "osediff");
    }

    std::string bytes(const std::string& file) const { return read_file(path(file)); }
    void take(const std::string& in) { in_ = path(in).string(); }

  private:
    TemporaryFolder folder_;
    std::string in_;
};

const std::string family = one_step_family().string();
const std::string adapters = golden("one_step/osediff.pkl").string();

/// Limits the address space of the programs started while it lives.
class AddressSpace {
  public:
    explicit AddressSpace(std::uint64_t bytes) {
        ::getrlimit(RLIMIT_AS, &before_);
        rlimit tight = before_;
        tight.rlim_cur = bytes;
        ::setrlimit(RLIMIT_AS, &tight);
    }
    ~AddressSpace() { ::setrlimit(RLIMIT_AS, &before_); }
    AddressSpace(const AddressSpace&) = delete;
    AddressSpace& operator=(const AddressSpace&) = delete;

  private:
    rlimit before_{};
};

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-bench restore: osediff and sdd; the same bytes twice, by seed") {
        const Workshop w;
        REQUIRE(w.restore("a", {"--scale", "3.5"}).exit == 0);
        REQUIRE(w.restore("b", {"--scale", "3.5", "--seed", "3"}).exit == 0);
        CHECK(read_image_size(w.path("a/lr.png")) == PixelSize{56, 42});
        CHECK(w.bytes("a/lr.png") == w.bytes("b/lr.png"));
        const auto sampled = [&](const std::string& out, const std::string& seed) {
            REQUIRE(w.restore(out, {"--latent", "sample", "--seed", seed}).exit == 0);
            return w.bytes(out + "/lr.png");
        };
        const std::string first = sampled("c", "1");
        CHECK(sampled("d", "1") == first);
        CHECK(sampled("e", "2") != first);
        for (const char* out : {"o1", "o2"}) {
            const Ended ended = w.restore_osediff(out, family, adapters, {"--prompt", "a house"});
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
        }
        CHECK(w.bytes("o1/lr.png") == w.bytes("o2/lr.png"));
        CHECK(read_image_size(w.path("o1/lr.png")) == PixelSize{64, 48});
    }

    TEST_CASE("ultrasr-bench restore: every option of diffusion methods changes what it should") {
        const Workshop w;
        REQUIRE(w.restore("plain").exit == 0);
        const std::string plain = w.bytes("plain/lr.png");
        int i = 0;
        for (const std::vector<std::string>& words :
             {std::vector<std::string>{"--color-fix", "none"},
              {"--color-fix", "wavelet"},
              {"--rounding", "truncate"},
              {"--parity"},
              {"--prompt", "words", "--base", family},
              {"--tile", "6", "--tile-overlap", "2"},
              {"--precision", "bf16"}}) {
            CAPTURE(words.front());
            const std::string out = fmt::format("o{}", i++);
            const Ended ended = w.restore(out, words);
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
            CHECK(w.bytes(out + "/lr.png") != plain);
        }
        for (const std::vector<std::string>& words :
             {std::vector<std::string>{"--color-fix", "adain", "--rounding", "round"},
              {"--latent", "mean", "--memory", "2"},
              {"--prompt-file", w.path("student/prompt.safetensors").string()},
              {"--dump", w.path("dumps").string(), "--dump-taps"}}) {
            CAPTURE(words.front());
            const std::string out = fmt::format("o{}", i++);
            const Ended ended = w.restore(out, words);
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
            CHECK(w.bytes(out + "/lr.png") == plain);
        }
        const SafetensorsFile dump(w.path("dumps/lr.safetensors"));
        for (const char* name : {"z", "pred", "z_hr", "sr", "conv_in", "mid_block"}) {
            CHECK(dump.find(name) != nullptr);
        }
    }

    TEST_CASE(
        "ultrasr-bench restore: another prompt or latent is another run; dumps are made up for") {
        const Workshop w;
        REQUIRE(w.restore("out").exit == 0);
        check_refused(w.restore("out", {"--prompt", "x", "--base", family}), 3,
                      {"other settings", "method settings", "--restart"});
        check_refused(w.restore("out", {"--latent", "sample"}), 3, {"other settings"});
        check_refused(w.restore("out", {"--color-fix", "none"}), 3, {"other settings"});
        CHECK(w.restore("out", {"--memory", "3"}).exit == 0);  // says nothing of pixels
        // Finished pictures whose dump is wanted are restored again, to the same bytes
        const std::string before = w.bytes("out/lr.png");
        CHECK(w.restore("out", {"--dump", w.path("d").string()}).exit == 0);
        CHECK(fs::exists(w.path("d/lr.safetensors")));
        CHECK(w.bytes("out/lr.png") == before);
        check_refused(w.restore("other", {"--dump-taps"}), 2, {"--dump DIR"});
    }

    TEST_CASE("ultrasr-bench: the main job with several models, dumps, splits of the seconds") {
        const Workshop w;
        const fs::path set = w.path("set"), out = w.path("out");
        make_set(set, 2);
        const Ended ended =
            bench(set, out,
                  {"--model", "sdd=" + w.path("student").string(), "--model", "osediff=" + adapters,
                   "--base", family, "--dump", w.path("dumps").string(), "--json"},
                  "bicubic,sdd,osediff");
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        const Json runs = json_of(ended.out)["runs"];
        REQUIRE(runs.size() == 3);
        CHECK(runs[1]["method"]["kind"] == "diffusion");
        CHECK(runs[2]["method"]["weights"][0]["file"] == "osediff.pkl");
        CHECK_FALSE(holds(ended.out, "--dump"));  // where dumps go is no part of the results
        for (const char* file :
             {"dumps/set/x4/sdd/p0.safetensors", "dumps/set/x4/osediff/p1.safetensors"}) {
            CAPTURE(file);
            CHECK(fs::exists(w.path(file)));
        }
        CHECK_FALSE(fs::exists(w.path("dumps/set/x4/bicubic")));
        const Json timing = json_file(out / "timing.json")["runs"];
        CHECK_FALSE(timing[0].contains("restore_split_seconds"));
        for (const char* part : {"resize", "encode", "unet", "decode", "colour"}) {
            CAPTURE(part);
            CHECK(timing[1]["restore_split_seconds"][part].get<double>() >= 0.0);
        }
        // Again: nothing to do, the splits are still known
        REQUIRE(bench(set, out,
                      {"--model", "sdd=" + w.path("student").string(), "--model",
                       "osediff=" + adapters, "--base", family},
                      "bicubic,sdd,osediff")
                    .exit == 0);
        CHECK(json_file(out / "timing.json")["runs"][1]["restore_split_seconds"] ==
              timing[1]["restore_split_seconds"]);
        // One run alone: flat
        REQUIRE(bench(set, w.path("out2"),
                      {"--model", w.path("student").string(), "--dump", w.path("flat").string()},
                      "sdd@mine")
                    .exit == 0);
        CHECK(files_in(w.path("flat")) ==
              std::vector<std::string>{"p0.safetensors", "p1.safetensors"});
    }

    TEST_CASE(
        "ultrasr-bench: sdd without a model is the demonstration model, and its row says so") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", weights = folder.path() / "weights";
        make_set(set, 1);
        const auto run_of = [&](const std::string& out, const std::vector<std::string>& words,
                                const std::string& method = "sdd") {
            std::vector<std::string> all{"--json"};
            all.insert(all.end(), words.begin(), words.end());
            const Ended ended = bench(set, folder.path() / out, all, method);
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
            CHECK(holds(ended.err, "demonstration model") == (out != "own"));
            return Json(json_of(ended.out)["runs"][0]["method"]);
        };
        const Json row = run_of("out", {});
        CHECK(row["label"] == "sdd-demonstration");
        REQUIRE(row["weights"].size() == 3);
        for (const Json& file : row["weights"]) CHECK(file["verified"] == true);
        CHECK(fs::exists(folder.path() / "out/set/x4/sdd-demonstration/images/p0.png"));
        CHECK(run_of("labelled", {}, "sdd@mine")["label"] == "mine");
        const std::vector<std::string> elsewhere{"--weights", weights.string()};
        CHECK(run_of("elsewhere", elsewhere)["label"] == "sdd-demonstration");

        check_refused(bench(set, folder.path() / "no", {"--prompt", "a house"}, "sdd"), 2,
                      {"no text encoder", "--model DIR"});
        check_refused(bench(set, folder.path() / "no", {"--model", "sdd=nowhere"}, "sdd"), 3,
                      {"nowhere is missing", "demonstration"});

        // Another file under the name
        fs::create_directories(weights);
        fs::copy(source_folder() / "data/weights/sdd-demonstration", weights / "sdd-demonstration");
        std::string bytes = read_file(weights / "sdd-demonstration/vae.safetensors");
        bytes.back() = static_cast<char>(bytes.back() ^ 1);
        write_file(weights / "sdd-demonstration/vae.safetensors", bytes);
        check_refused(bench(set, folder.path() / "no", elsewhere, "sdd"), 3,
                      {"vae.safetensors is not the file we know", "--unverified-weights"});
        const Json altered =
            run_of("altered", {"--weights", weights.string(), "--unverified-weights"});
        CHECK(altered["weights"][1]["verified"] == false);

        // One's own in the weights folder
        make_student(weights / "sdd");
        CHECK(run_of("own", elsewhere)["label"] == "sdd");
    }

    TEST_CASE("ultrasr-bench: --model for methods, labels, nobody and too many") {
        const Workshop w;
        const fs::path set = w.path("set");
        make_set(set, 1);
        const std::string student = w.path("student").string();
        CHECK(bench(set, w.path("o1"), {"--model", "new=" + student, "--model", "old=" + student},
                    "sdd@new,sdd@old")
                  .exit == 0);
        check_refused(bench(set, w.path("o2"), {"--model", student}, "sdd,osediff"), 2,
                      {"sdd and osediff", "--model NAME="});
        check_refused(bench(set, w.path("o2"), {"--model", "sd=" + student}, "sdd"), 2,
                      {"sd=", "none of the methods sdd"});
        check_refused(bench(set, w.path("o2"),
                            {"--model", "sdd=" + student, "--model", "sdd=" + student}, "sdd"),
                      2, {"twice for sdd"});
    }

    TEST_CASE("ultrasr-bench: options that no chosen method reads are told about") {
        const Workshop w;
        const Ended plain =
            w.restore("a", {"--denoise", "0.5", "--prompt", "x", "--tile", "8"}, "bicubic");
        CHECK(plain.exit == 0);
        CHECK(holds(plain.err,
                    "warning: --tile, --denoise and --prompt do nothing for bicubic; leave them"));
        const Ended gan =
            w.restore("b", {"--latent", "mean", "--tile", "8"}, "realesr-animevideov3");
        CHECK(gan.exit == 0);
        CHECK(holds(gan.err, "warning: --latent does nothing for realesr-animevideov3"));
        CHECK_FALSE(holds(w.restore("c", {"--tile", "32"}).err, "warning"));
    }

    TEST_CASE("ultrasr-bench profile: parameters, multiply-adds, seconds by part, memory") {
        const Workshop w;
        const std::string model = "sdd=" + w.path("student").string();
        const Ended text = run_program(
            "ultrasr-bench", {"profile", "--method", "bicubic,realesr-animevideov3,sdd", "--model",
                              model, "--size", "64", "--runs", "1", "--published"});
        CAPTURE(text.err);
        CAPTURE(text.out);
        REQUIRE(text.exit == 0);
        for (const char* part : {"peak MiB", "OSEDiff (published)", "1775", "\n  encode",
                                 "\n  unet", "\n  decode", "\n  colour", "\n  network"}) {
            CAPTURE(part);
            CHECK(holds(text.out, part));
        }
        const Ended json = run_program(
            "ultrasr-bench", {"profile", "--method", "bicubic,sdd,realesr-animevideov3", "--model",
                              model, "--size", "64", "--scale", "8", "--runs", "2", "--json"});
        REQUIRE(json.exit == 0);
        const Json methods = json_of(json.out)["methods"];
        REQUIRE(methods.size() == 3);
        CHECK(methods[0]["parameters"] == 0);
        CHECK(methods[0]["macs"] == 0);
        const Json& sdd = methods[1];
        CHECK(sdd["parts"].size() == 3);
        CHECK(sdd["macs"].get<std::int64_t>() >
              sdd["macs_without_attention_products"].get<std::int64_t>());
        CHECK(sdd["seconds"].get<double>() > 0.0);
        CHECK(sdd["peak_bytes"].get<double>() > 1e7);
        double sum = 0.0;
        for (const auto& [part, seconds] : sdd["split_seconds"].items()) {
            sum += seconds.get<double>();
        }
        CHECK(sum <= 1.5 * sdd["seconds"].get<double>());
        CHECK(sdd["settings"]["prompt"] == "by place");
        CHECK(methods[2]["macs"] == methods[2]["macs_without_attention_products"]);
        check_refused(run_program("ultrasr-bench", {"profile", "--method", "folder:" + family}), 2,
                      {"cannot be profiled"});
        check_refused(run_program("ultrasr-bench", {"profile", "--method", "sdd", "--runs", "0"}),
                      2, {"--runs"});
    }

    TEST_CASE("ultrasr-bench --list-methods: one-step methods with what is missing and where") {
        const TemporaryFolder weights;
        const Ended list =
            run_program("ultrasr-bench", {"--list-methods", "--weights", weights.path().string()});
        REQUIRE(list.exit == 0);
        for (const char* part :
             {"osediff ", "sdd ", "https://github.com/cswry/OSEDiff", "Open RAIL++-M", "--base",
              "--model", "sd2-1-base (a folder, about 5.2 GB",
              "osediff (a folder, about 18.0 MB"}) {
            CAPTURE(part);
            CHECK(holds(list.out, part));
        }
        fs::create_directories(weights.path() / "sd2-1-base");
        const Json methods =
            json_of(run_program("ultrasr-bench",
                                {"--list-methods", "--json", "--weights", weights.path().string()})
                        .out);
        for (const Json& m : methods) {
            if (m["name"] != "osediff") continue;
            CHECK(m["missing"] == Json::array({"osediff"}));
            CHECK(m["options"].size() > 10);
        }
    }

    TEST_CASE("ultrasr-bench restore: missing base and model, files of other methods are exit 3") {
        const Workshop w;
        const std::string none = w.path("none").string();
        check_refused(w.restore_osediff("o", none, adapters), 3,
                      {none + " is missing", "sd2-1-base", "--base"});
        check_refused(w.restore_osediff("o", family, none), 3,
                      {none + " is missing", "osediff.pkl", "--model"});
        check_refused(w.restore("o", {"--model", none}), 2, {"--model is given twice"});
        // TSD-SR: a folder and a file; AdcSR: its net_params, a half decoder
        fs::create_directories(w.path("tsd"));
        fs::copy_file(w.path("student/vae.safetensors"), w.path("tsd/transformer.safetensors"));
        check_refused(w.restore_osediff("o", family, w.path("tsd").string()), 3,
                      {"LoRA of TSD-SR", "osediff.pkl"});
        const float zero = 0.0F;
        const auto file_with = [&](const std::string& name, const std::string& tensor) {
            const TensorView view{.name = tensor,
                                  .dtype = Dtype::f32,
                                  .shape = {1},
                                  .bytes = std::as_bytes(std::span(&zero, 1))};
            write_safetensors(w.path(name), std::span(&view, 1));
            return w.path(name).string();
        };
        check_refused(w.restore_osediff("o", family,
                                        file_with("t.safetensors",
                                                  "transformer.blocks.0.attn.to_q.lora_A.weight")),
                      3, {"LoRA of TSD-SR"});
        check_refused(
            w.restore_osediff("o", family,
                              file_with("a.safetensors", "module.body.0.resnets.0.conv1.weight")),
            3, {"AdcSR's net_params"});
        check_refused(w.restore_osediff("o", family, (golden("one_step/unet.json")).string()), 3,
                      {"unet.json"});
        CHECK_FALSE(fs::exists(w.path("o/lr.png")));
    }

    TEST_CASE("ultrasr-bench restore: keys missing or surplus, config and weights that disagree") {
        const Workshop w;
        const fs::path student = w.path("student");
        std::vector<std::string> dropped;
        join_weights(one_step_family() / "unet", student / "unet.safetensors",
                     [&](const std::string& name) {
                         if (dropped.size() < 11 && name.starts_with("up_blocks.")) {
                             dropped.push_back(name);
                             return false;
                         }
                         return true;
                     });
        const Ended ended = w.restore("o");
        check_refused(ended, 3, {"unet.safetensors", "11 missing", "and 1 more"});
        CHECK(std::ranges::count_if(
                  dropped, [&](const auto& name) { return holds(ended.err, name); }) == 10);
        make_student(student);
        Json config = json_file(student / "config.json");
        config["vae"]["block_out_channels"][0] = 16;
        write_file(student / "config.json", dump_json(config));
        check_refused(w.restore("o"), 3, {"vae.safetensors", "encoder.conv_in.weight", "[16, 3"});
        config["vae"]["act_fn"] = "mish";
        write_file(student / "config.json", dump_json(config));
        check_refused(w.restore("o"), 3, {"act_fn", "mish", "silu"});
    }

    TEST_CASE("ultrasr-bench restore: LR of 1 x 1, odd, grey and 16 bits") {
        Workshop w;
        write_png(w.path("in/dot.png"), picture(1, 1, 0));
        write_png(w.path("in/line.png"), picture(1, 23, 0));
        write_png(w.path("in/odd.png"), picture(13, 9, 0));
        cv::imwrite(w.path("in/deep.png").string(),
                    cv::Mat(6, 7, CV_16UC3, cv::Scalar(9, 999, 60000)));
        cv::imwrite(w.path("in/grey.png").string(), cv::Mat(6, 7, CV_8UC1, cv::Scalar(77)));
        w.take("in");
        const Ended ended = w.restore("out", {"--scale", "4"});
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        CHECK(read_image_size(w.path("out/dot.png")) == PixelSize{4, 4});
        CHECK(read_image_size(w.path("out/line.png")) == PixelSize{4, 92});
        CHECK(read_image_size(w.path("out/odd.png")) == PixelSize{52, 36});
        CHECK(read_image_size(w.path("out/deep.png")) == PixelSize{28, 24});
        CHECK(read_image_size(w.path("out/grey.png")) == PixelSize{28, 24});
        CHECK(holds(ended.err, "1 picture of the LR pictures hold 16 bits"));
        // OSEDiff enlarges what is small, and gives the size that was asked for
        w.take("in/dot.png");
        REQUIRE(w.restore_osediff("o", family, adapters, {"--scale", "2"}).exit == 0);
        CHECK(read_image_size(w.path("o/dot.png")) == PixelSize{2, 2});
        REQUIRE(w.restore_osediff("p", family, adapters, {"--scale", "2", "--parity"}).exit == 0);
        CHECK(read_image_size(w.path("p/dot.png")) == PixelSize{2, 2});
    }

    TEST_CASE("ultrasr-bench restore: too large for the memory is exit 4 and says what would fit") {
        Workshop w;
        write_png(w.path("large.png"), picture(600, 400, 0));
        w.take("large.png");
        check_refused(w.restore("o", {"--scale", "16", "--memory", "1", "--tile", "0"}), 4,
                      {"9600 x 6400 pixels take", "and 1.0 are free", "would fit"});
        // A limit of the system, not of ours: either the estimate or the allocation meets it
        const AddressSpace tight(std::uint64_t{4} << 30);
        check_refused(w.restore("o", {"--scale", "16", "--tile", "0"}), 4, {"would fit"});
    }

    TEST_CASE("ultrasr-bench restore: prompts, tiles, numbers and devices that cannot be") {
        const Workshop w;
        fs::create_directories(w.path("prompts"));
        const std::string prompts = w.path("prompts").string();
        check_refused(w.restore("o", {"--prompt", "x", "--prompt-file", prompts}), 2,
                      {"--prompt", "--prompt-file"});
        check_refused(w.restore("o", {"--prompt-file", prompts, "--base", family}), 3, {"lr.txt"});
        check_refused(w.restore("o", {"--prompt-file", w.path("no").string(), "--base", family}), 3,
                      {"no folder of prompts"});
        check_refused(w.restore("o", {"--prompt", "x", "--base", w.path("no").string()}), 3,
                      {"no is missing", "--base"});
        check_refused(w.restore("o", {"--tile", "8", "--tile-overlap", "8"}), 2,
                      {"tiles of 8 latents cannot share 8", "--tile-overlap"});
        check_refused(w.restore("o", {"--tile", "-2"}), 2, {"--tile"});
        check_refused(w.restore("o", {"--precision", "fp16"}), 4, {"fp16"});
        check_refused(w.restore("o", {"--device", "cuda:63"}), 4, {"--device cpu"});
        check_refused(w.restore("o", {"--latent", "middle"}), 2, {"mean|sample", "middle"});
        check_refused(w.restore("o", {"--memory", "0"}), 2, {"--memory"});
        CHECK_FALSE(fs::exists(w.path("o/lr.png")));
    }

    TEST_CASE("ultrasr-bench: a main call of a diffusion method, killed and started again") {
        const Workshop w;
        const fs::path set = w.path("set");
        make_set(set, 5, 192);
        const auto words = [&](const std::string& out) {
            return std::vector<std::string>{"--data",    set.string(),
                                            "--method",  "sdd",
                                            "--model",   w.path("student").string(),
                                            "--metrics", "psnr-y601",
                                            "--latent",  "sample",
                                            "--seed",    "4",
                                            "--out",     w.path(out).string()};
        };
        REQUIRE(run_program("ultrasr-bench", words("whole")).exit == 0);
        const auto image = [&](const std::string& out, int i) {
            return w.path(fmt::format("{}/set/x4/sdd/images/p{}.png", out, i));
        };
        // As soon as there is something to lose
        {
            Program program("ultrasr-bench", words("parts"));
            for (int i = 0; i < 20000 && !fs::exists(image("parts", 0)); ++i) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            program.send(SIGKILL);
            program.wait();
        }
        REQUIRE(fs::exists(image("parts", 0)));
        CHECK_FALSE(fs::exists(w.path("parts/results.json")));
        const Ended last = run_program("ultrasr-bench", words("parts"));
        CAPTURE(last.err);
        REQUIRE(last.exit == 0);
        for (int i = 0; i < 5; ++i) {
            CHECK(read_file(image("parts", i)) == read_file(image("whole", i)));
        }
        CHECK(w.bytes("parts/set/x4/sdd/scores.csv") == w.bytes("whole/set/x4/sdd/scores.csv"));
    }
}
