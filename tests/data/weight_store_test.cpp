#include "data/weights/weight_store.h"

#include "data/base/error.h"
#include "data/file.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

constexpr const char* anime = "realesr-animevideov3.safetensors";

/// Sets an environment variable as long as it lives.
class Setting {
  public:
    Setting(const char* name, const std::string& value) : name_(name) {
        const char* before = std::getenv(name);
        if (before) before_ = before;
        ::setenv(name, value.c_str(), 1);
    }
    ~Setting() {
        if (before_) {
            ::setenv(name_, before_->c_str(), 1);
        } else {
            ::unsetenv(name_);
        }
    }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

  private:
    const char* name_;
    std::optional<std::string> before_;
};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("known_weights: sorted, complete, and true of the files in the tree") {
        std::string_view before;
        for (const WeightFile& w : known_weights()) {
            CAPTURE(w.file);
            CHECK(before < w.file);
            before = w.file;
            CHECK(w.bytes > 0);
            CHECK_FALSE(w.licence.empty());
            const bool ours = w.file.starts_with("sdd-demonstration/");
            CHECK((ours ? w.address.empty() : w.address.starts_with("https://")));
            if (ours) CHECK(fs::exists(test::source_folder() / "data" / "weights" / w.file));
            CHECK_FALSE(w.used_by.empty());
            const fs::path path = test::source_folder() / "data" / "weights" / w.file;
            if (w.sha256.size() < 64 || !fs::exists(path)) continue;
            CHECK(fs::file_size(path) == w.bytes);
            CHECK(sha256_of_file(path) == w.sha256);
        }
        CHECK(fs::exists(test::source_folder() / "data" / "weights" / anime));
        CHECK_THROWS_AS(known_weight("nothing.safetensors"), Error);
    }

    TEST_CASE("default_weights_folder: $ULTRASR_WEIGHTS wins, else the installation's folder") {
        {
            const Setting setting("ULTRASR_WEIGHTS", "/some/where");
            CHECK(default_weights_folder() == "/some/where");
        }
        const Setting empty("ULTRASR_WEIGHTS", "");
        CHECK(fs::exists(default_weights_folder() / anime));
        CHECK(have_weights(anime));
    }

    TEST_CASE("find_weights: a good file is verified") {
        const FoundWeights found =
            find_weights(anime, {test::source_folder() / "data" / "weights"});
        CHECK(found.verified);
        CHECK(found.sha256 == known_weight(anime).sha256);
    }

    TEST_CASE(
        "find_weights: a missing file is a sentence with name, size, licence, address, place") {
        const test::TemporaryFolder folder;
        const std::string_view vgg = "vgg16-397923af.pth";
        CHECK_FALSE(have_weights(vgg, folder.path()));
        try {
            find_weights(vgg, {folder.path(), true});
            FAIL("no error");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::input);
            const std::string& text = error.sentence();
            for (const std::string& part :
                 {std::string(vgg), std::string("about 553.4 MB"), std::string("BSD-3-Clause"),
                  std::string("https://download.pytorch.org/models/"), folder.path().string()}) {
                CHECK_MESSAGE(text.find(part) != std::string::npos, part);
            }
        }
    }

    TEST_CASE("find_weights: what comes with the project is found whatever the folder") {
        const test::TemporaryFolder folder;
        CHECK(have_weights(anime, folder.path()));
        CHECK(find_weights(anime, {folder.path()}).verified);
        CHECK(find_weights("LPIPS_v0.1_vgg-a78928a0.pth", {folder.path()}).verified);
    }

    TEST_CASE("find_weights: the first digits of a hash verify where no more is known") {
        const test::TemporaryFolder folder;
        const auto file = folder.path() / "CLIP-IQA+_learned_prompts-603f3273.pth";
        write_file(file, "other");
        CHECK_THROWS_WITH_AS(find_weights(file.filename().string(), {folder.path()}),
                             doctest::Contains("expected 603f3273"), Error);
    }

    TEST_CASE("find_weights: a folder is there or not, and is named by an option of its own") {
        const test::TemporaryFolder folder;
        const std::string advice = how_to_get_weights("sd2-1-base", folder.path());
        CHECK(advice ==
              "sd2-1-base (a folder, about 5.2 GB, licence CreativeML Open RAIL++-M, Stability AI) "
              "from https://huggingface.co/stabilityai/stable-diffusion-2-1-base (its folders "
              "unet, vae, text_encoder, tokenizer, scheduler) belongs into " +
                  folder.path().string() + "; put it there or name another with --base");
        CHECK_FALSE(have_weights("sd2-1-base", folder.path()));
        write_file(folder.path() / "sd2-1-base", "a file is no folder");
        CHECK_FALSE(have_weights("sd2-1-base", folder.path()));
        fs::create_directories(folder.path() / "osediff");
        CHECK(have_weights("osediff", folder.path()));
        CHECK_FALSE(find_weights("osediff", {folder.path()}).verified);
    }

    TEST_CASE("find_weights: another file under the name is refused, or marked unverified") {
        const test::TemporaryFolder folder;
        write_file(folder.path() / anime, "something else");
        CHECK_THROWS_WITH_AS(find_weights(anime, {folder.path()}),
                             doctest::Contains("--unverified-weights"), Error);
        const FoundWeights found = find_weights(anime, {folder.path(), true});
        CHECK_FALSE(found.verified);
        CHECK(found.sha256 == sha256("something else"));
    }

    TEST_CASE("find_weights: a file without a recorded hash is taken and never verified") {
        const test::TemporaryFolder folder;
        write_file(folder.path() / "BSRGAN.safetensors", "anything");
        CHECK_FALSE(find_weights("BSRGAN.safetensors", {folder.path()}).verified);
    }
}
