// sdd-train: what is missing, wrong, too small, or somebody else's.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "tests/cli/degrade_pictures.h"
#include "tests/cli/disk.h"
#include "tests/cli/training_run.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

TEST_SUITE("cli") {
    TEST_CASE("sdd-train: what is missing or wrong is said before the first step") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "refused";
        const auto refused = [&](const Json& settings, int exit, const Words& words) {
            check_refused(train(w.words(out, settings)), exit, words);
            CHECK_FALSE(fs::exists(out));
        };
        // What is needed
        check_refused(train({}), 2, {"nothing to train", "--config run.json", "init"});
        refused({{"data", Json::array()}}, 2, {"no HR pictures to train from", "set data"});
        refused({{"data", "nowhere"}}, 3, {"data: nowhere is missing", "name a folder"});
        refused({{"base", ""}}, 2, {"no model family", "set base", "sdd-train init"});
        refused({{"base", "nowhere"}}, 3, {"the folder nowhere is missing", "diffusers"});
        check_refused(train(w.words("", {{"stage", "vae"}})), 2,
                      {"no folder to write to", "set out"});
        refused({{"stage", "rsd"}}, 3,
                {"stage rsd learns from a teacher", "run stage teacher first", "osediff.pkl"});
        refused({{"stage", "dml"}, {"teacher", "nowhere"}}, 3,
                {"the teacher nowhere is missing", "osediff.pkl"});
        refused({{"stage", "rsd"}, {"teacher", (w.whole / "teacher").string()}}, 3,
                {"the encoder of stage dml", "run stage dml first", "dml.enabled=false"});
        refused({{"stage", "dml"}, {"dml", {{"enabled", false}}}}, 2, {"nothing to train", "dml"});
        refused(w.after_whole("teacher,dml"), 2,
                {"nothing to train: stage is teacher, dml", "teacher or encoder is given"});
        refused({{"prompt", {{"file", "nowhere"}}}}, 3, {"prompt.file: nowhere is missing"});
        refused({{"prompt", {{"folder", "nowhere"}}}}, 3, {"prompt.folder: nowhere is missing"});
        refused({{"validation", "nowhere"}}, 3, {"validation: no such set: nowhere"});

        // What is not known, or of another kind
        refused({{"rsd", {{"nii", false}}}}, 2, {"no setting rsd.nii", "rsd.ue, rsd.ni"});
        refused({{"colour", 1}}, 2, {"no setting colour", "stage, base", "seed, steps, threads"});
        refused({{"rsd", {{"ni", 1}}}}, 2, {"rsd.ni takes true|false, not 1"});
        refused({{"rsd", {{"rank", 0}}}}, 2, {"rsd.rank takes a whole number from 1, not 0"});
        refused({{"stage", "student"}}, 2, {"vae|base|teacher|dml|rsd", "not \"student\""});
        refused({{"steps", -1}}, 2, {"steps takes a whole number from 0, not -1"});
        refused({{"seed", "x"}}, 2, {"seed takes a whole number from 0, not \"x\""});
        refused({{"threads", -1}}, 2, {"threads takes a whole number from 0 to 4096, not -1"});
        refused({{"threads", "x"}}, 2, {"threads takes what --threads takes, not \"x\""});
        refused({{"device", "gpu"}}, 2, {"unknown device gpu", "cpu, cuda, cuda:N"});
        refused({{"resize_back", "cubic"}}, 2, {"resize_back takes", "bicubic", "not \"cubic\""});
        refused({{"couple", "all"}}, 2, {"couple takes", "comonotone"});
        refused({{"small", "drop"}}, 2, {"small takes", "upscale"});
        check_refused(train(w.words(out, Json::object(), {"--set", "rsd.ni"})), 2,
                      {"NAME=VALUE", "not rsd.ni"});
        check_refused(train({"--config", (w.folder.path() / "none.json").string()}), 3,
                      {"none.json"});
        write_file(w.folder.path() / "list.json", "[1]");
        check_refused(train({"--config", (w.folder.path() / "list.json").string()}), 3,
                      {"list.json", "JSON object of settings"});

        // What does not fit together
        refused({{"patch", 33}}, 2, {"a patch of 33 pixels (stage vae)", "multiple of 2", "32"});
        refused({{"scales", {{"student", Json::array()}}}}, 3, {"scales.student", "at least one"});
        refused({{"scales", {{"student", {8, 70}}}}}, 2, {"scales.student", "from 1 to 63"});
        refused({{"scales", {{"student", {40}}}}}, 3, {"scales.severe is twice", "none above 31"});
        refused({{"scales", {{"teacher", 10}}}}, 3, {"scales.teacher is the mild level"});
        refused({{"scales", {{"teacher", 8}}}}, 3, {"scales.x4_probability", "set it to 0"});
        refused({{"scales", {{"severe", "list"}}}}, 3, {"scales.severe_list"});
        refused({{"prompt", {{"text", "a"}, {"file", "b"}}}}, 3, {"prompt", "exclude each other"});
    }

    TEST_CASE("sdd-train: LPIPS without its weights names the file and the way around it") {
        const Workplace& w = workplace();
        const TemporaryFolder empty;
        const fs::path out = w.folder.path() / "no_lpips";
        const Words weights{"--weights", empty.path().string()};
        const auto refused = [&](const Json& settings, const Words& words) {
            check_refused(train(w.words(out, settings, weights)), 3, words);
            CHECK_FALSE(fs::exists(out));
        };
        // Before the stages that would run first
        refused({{"teacher_stage", {{"lambda_lpips", 2}}}},
                {"stage teacher", "vgg16-397923af.pth", empty.path().string(),
                 "teacher_stage.lambda_lpips=0 trains without it"});
        refused({{"vae_stage", {{"lambda_lpips", 1}}}}, {"vae_stage.lambda_lpips=0"});
        refused({{"loss", {{"lpips", 1}}}}, {"stage rsd", "loss.lpips=0"});
    }

    TEST_CASE("sdd-train: pictures that are too small, for training and for validation") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "small";
        const Ended none = train(w.words(out, {{"stage", "vae"}, {"patch", 64}}));
        check_refused(none, 3,
                      {"none of the 4 pictures can be trained on",
                       "48 x 48 is smaller than the "
                       "patch of 64",
                       "choose a smaller patch", "small=pad"});
        CHECK(count(none.err, "warning: ") == 4);
        // Nothing was trained, so other settings are welcome
        CHECK(train(w.words(out,
                            {{"stage", "vae"}, {"patch", 64}, {"small", "upscale"}, {"steps", 1}}))
                  .exit == 0);

        const fs::path pairs = w.folder.path() / "pairs";
        for (const char* side : {"HR", "LR"}) {
            const int size = side[0] == 'H' ? 24 : 12;
            make_photographs(pairs / side, 2, size);
        }
        check_refused(
            train(w.words(out, {{"stage", "vae,base,teacher"}, {"validation", pairs.string()}},
                          {"--restart"})),
            3, {"validation: no pair of " + pairs.string(), "patch of 32 pixels", "smaller patch"});
    }

    TEST_CASE("sdd-train: OUT of another run, of something else, of a run at work") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "taken";
        const Json settings{{"stage", "vae"}, {"steps", 1}};
        Json others = settings;
        others.update({{"learning_rate", 1e-4}, {"rsd", {{"ni", false}}}, {"log_every", 1}});
        REQUIRE(train(w.words(out, settings)).exit == 0);
        const std::string before = tree_of(out);
        check_refused(train(w.words(out, others)), 2,
                      {out.string() + " holds a run with other settings (learning_rate, rsd.ni)",
                       "name another folder", "--restart"});
        CHECK(tree_of(out) == before);
        {
            const FolderLock lock(out);
            check_refused(train(w.words(out, settings)), 5, {"another run", out.string()});
        }
        CHECK(train(w.words(out, others, {"--restart"})).exit == 0);
        CHECK(log_of(out).size() == 1);
        CHECK(log_of(out)[0].at("learning_rate") == 1e-4);
        CHECK(weights_in(out).size() > 0);
        CHECK(tree_of(out) != before);

        // A folder that is not ours is not touched, whatever is asked
        const std::string photographs = tree_of(w.photographs);
        for (const Words& more : {Words{}, Words{"--restart"}}) {
            check_refused(train(w.words(w.photographs, settings, more)), 2,
                          {"did not write (p", "name a new folder"});
        }
        CHECK(tree_of(w.photographs) == photographs);
        write_file(w.folder.path() / "file", "x");
        check_refused(train(w.words(w.folder.path() / "file", settings)), 5, {"file"});
    }
}
