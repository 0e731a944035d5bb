#include "models/training/checkpoint.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <cstring>
#include <thread>

#include <nlohmann/json.hpp>

#include "data/file.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;
namespace fs = std::filesystem;

namespace {

constexpr char child_case[] = "write_checkpoint: the child that is killed";

/// A checkpoint whose contents tell its step.
TrainingCheckpoint checkpoint_of(std::int64_t step, const std::string& stage = "dml") {
    const auto value = static_cast<double>(step);
    return {.stage = stage,
            .step = step,
            .tensors = {{"w", at::full({64, 64}, value)}, {"b", at::full({3}, -value)}},
            .state = {{"twice", 2 * step}}};
}

bool is_whole(const TrainingCheckpoint& checkpoint) {
    const auto value = static_cast<double>(checkpoint.step);
    return checkpoint.tensors.size() == 2 &&
           checkpoint.tensors.at("w").equal(at::full({64, 64}, value)) &&
           checkpoint.tensors.at("b").equal(at::full({3}, -value)) &&
           checkpoint.state.at("twice") == 2 * checkpoint.step;
}

std::vector<std::string> files_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) {
        names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

std::int64_t newest_step(const fs::path& folder, std::string_view stage = "dml") {
    const auto found = newest_checkpoint(folder, stage);
    return found ? found->step : -1;
}

/// The highest step of which there is a JSON, or -1.
std::int64_t highest_json(const fs::path& folder) {
    std::int64_t step = -1;
    for (const std::string& name : files_in(folder)) {
        if (name.starts_with("step_dml_") && name.ends_with(".json")) {
            step = std::max(step, std::int64_t{std::stoll(name.substr(9))});
        }
    }
    return step;
}

/// While one lives, no file of this process grows beyond `bytes`.
class FileSizeLimit {
  public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const struct rlimit limit { bytes, before_.rlim_max };
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    }
    ~FileSizeLimit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        ::signal(SIGXFSZ, handler_);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  private:
    struct rlimit before_ {};
    sighandler_t handler_;
};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("checkpoints: every type, shape and number comes back bit for bit") {
        const test::TemporaryFolder folder;
        at::Tensor odd = at::randn({2, 3, 5});
        odd.data_ptr<float>()[0] = -0.0f;
        odd.data_ptr<float>()[1] = std::numeric_limits<float>::quiet_NaN();
        odd.data_ptr<float>()[2] = std::numeric_limits<float>::denorm_min();
        TrainingCheckpoint written{
            .stage = "rsd",
            .step = 1234567,
            .tensors = {{"f32", odd},
                        {"bf16", at::randn({7}).to(at::kBFloat16)},
                        {"i64", at::arange(5, at::TensorOptions(at::kLong)) - (1LL << 40)},
                        {"one", at::full({}, 0.1)},
                        {"none", at::zeros({0, 4})},
                        {"turned", at::randn({4, 6}).t()}},
            .state = {{"scale", 65536.0}, {"third", 1.0 / 3.0}, {"far", 9007199254740993}}};
        write_checkpoint(folder.path() / "a" / "b", written, 2);
        const auto read = newest_checkpoint(folder.path() / "a" / "b", "rsd");
        REQUIRE(read);
        CHECK(read->stage == "rsd");
        CHECK(read->step == 1234567);
        CHECK(read->state == written.state);
        CHECK(read->state.dump() == written.state.dump());
        REQUIRE(read->tensors.size() == written.tensors.size());
        for (const auto& [name, tensor] : written.tensors) {
            const at::Tensor& other = read->tensors.at(name);
            REQUIRE((other.scalar_type() == tensor.scalar_type()));
            REQUIRE(other.sizes() == tensor.sizes());
            const at::Tensor dense = tensor.contiguous();
            CHECK(
                (tensor.numel() == 0 ||
                 std::memcmp(other.const_data_ptr(), dense.const_data_ptr(), dense.nbytes()) == 0));
            other.zero_();  // not a view of the file
        }
        CHECK(files_in(folder.path() / "a" / "b") ==
              std::vector<std::string>{"step_rsd_01234567.json", "step_rsd_01234567.safetensors"});
        CHECK(newest_checkpoint(folder.path() / "a" / "b", "rsd")
                  ->tensors.at("turned")
                  .equal(written.tensors.at("turned")));
    }

    TEST_CASE("checkpoints: the newest few of each stage stay") {
        const test::TemporaryFolder folder;
        CHECK(newest_step(folder.path() / "nowhere") == -1);
        for (const std::int64_t step : {0, 90, 100}) {
            write_checkpoint(folder.path(), checkpoint_of(step), 2);
            write_checkpoint(folder.path(), checkpoint_of(step, "dml_2"), 1);
        }
        CHECK(files_in(folder.path()) ==
              std::vector<std::string>{"step_dml_00000090.json", "step_dml_00000090.safetensors",
                                       "step_dml_00000100.json", "step_dml_00000100.safetensors",
                                       "step_dml_2_00000100.json",
                                       "step_dml_2_00000100.safetensors"});
        CHECK(newest_step(folder.path()) == 100);
        CHECK(newest_step(folder.path(), "rsd") == -1);
        write_checkpoint(folder.path(), checkpoint_of(123456789), 1);  // nine digits
        CHECK(newest_step(folder.path()) == 123456789);
    }

    TEST_CASE("checkpoints: half and damaged ones give way to the one before") {
        const test::TemporaryFolder folder;
        const fs::path json = folder.path() / "step_dml_00000200.json",
                       tensors = folder.path() / "step_dml_00000200.safetensors";
        const auto write = [&] {
            for (const std::int64_t step : {100, 200}) {
                write_checkpoint(folder.path(), checkpoint_of(step), 3);
            }
            REQUIRE(newest_step(folder.path()) == 200);
        };
        const auto change_byte = [](const fs::path& file, std::size_t at) {
            std::string bytes = read_file(file);
            bytes.at(at) = static_cast<char>(bytes.at(at) ^ 1);
            write_file(file, bytes);
        };
        write();
        fs::remove(json);
        CHECK(newest_step(folder.path()) == 100);
        write();
        fs::remove(tensors);
        CHECK(newest_step(folder.path()) == 100);
        write();
        change_byte(tensors, fs::file_size(tensors) - 9);  // one value
        CHECK(newest_step(folder.path()) == 100);
        write();
        fs::resize_file(tensors, fs::file_size(tensors) / 2);
        CHECK(newest_step(folder.path()) == 100);
        write();
        fs::resize_file(json, fs::file_size(json) / 2);
        CHECK(newest_step(folder.path()) == 100);
        write();
        write_file(json, "{\"format\": 3}");
        CHECK(newest_step(folder.path()) == 100);
        write();
        for (const char* kind : {".json", ".safetensors"}) {  // of another step
            fs::copy_file(folder.path() / (std::string("step_dml_00000100") + kind),
                          folder.path() / (std::string("step_dml_00000300") + kind));
        }
        CHECK(newest_step(folder.path()) == 200);

        // A run that goes on from 100, keeping one, must not count what lies above
        change_byte(tensors, fs::file_size(tensors) - 9);
        CHECK(newest_step(folder.path()) == 100);
        write_checkpoint(folder.path(), checkpoint_of(150), 1);
        CHECK(newest_step(folder.path()) == 150);
        write_checkpoint(folder.path(), checkpoint_of(200), 1);
        CHECK(newest_step(folder.path()) == 200);
    }

    TEST_CASE("write_checkpoint: a full disk costs nothing that was there") {
        const test::TemporaryFolder folder;
        write_checkpoint(folder.path(), checkpoint_of(1), 1);
        const auto before = files_in(folder.path());
        for (const rlim_t room : {rlim_t(4096), rlim_t(100)}) {
            const FileSizeLimit limit(room);
            CHECK(
                contains(sentence_of(Fault::storage,
                                     [&] { write_checkpoint(folder.path(), checkpoint_of(2), 1); }),
                         "step_dml_00000002.safetensors: "));
            CHECK(files_in(folder.path()) == before);
        }
        {  // room for the tensors, not for a long state
            TrainingCheckpoint long_state = checkpoint_of(2);
            long_state.state["text"] = std::string(60000, 'x');
            const FileSizeLimit limit(40000);
            CHECK(contains(sentence_of(Fault::storage,
                                       [&] { write_checkpoint(folder.path(), long_state, 1); }),
                           "step_dml_00000002.json: "));
        }
        CHECK(is_whole(*newest_checkpoint(folder.path(), "dml")));
        CHECK(newest_step(folder.path()) == 1);
        write_checkpoint(folder.path(), checkpoint_of(2), 1);
        CHECK(newest_step(folder.path()) == 2);
    }

    TEST_CASE("write_checkpoint: what cannot be is our fault") {
        const test::TemporaryFolder folder;
        const auto text = [&](const TrainingCheckpoint& checkpoint, int keep) {
            return sentence_of(Fault::internal,
                               [&] { write_checkpoint(folder.path(), checkpoint, keep); });
        };
        CHECK(contains(text(checkpoint_of(1, "a/b"), 1), "no name of a stage"));
        CHECK(contains(text(checkpoint_of(1, ""), 1), "no name of a stage"));
        CHECK(contains(text(checkpoint_of(-1), 1), "step -1"));
        CHECK(contains(text(checkpoint_of(1), 0), "keeping 0"));
        CHECK(files_in(folder.path()).empty());
    }

    TEST_CASE(child_case * doctest::skip()) {
        const char* folder = std::getenv("ULTRASR_TEST_CHECKPOINTS");
        if (!folder) return;
        for (std::int64_t step = newest_step(folder) + 1;; ++step) {
            write_checkpoint(folder, checkpoint_of(step), 1);
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("checkpoints: killed at any moment, a whole one stays and none is lost") {
        const test::TemporaryFolder folder;
        std::int64_t last = -1;
        for (int round = 0; round < 4; ++round) {
            const pid_t child = ::fork();
            if (child == 0) {
                ::setenv("ULTRASR_TEST_CHECKPOINTS", folder.path().c_str(), 1);
                ::execl("/proc/self/exe", "test", "--no-skip",
                        (std::string("--test-case=") + child_case).c_str(), nullptr);
                ::_exit(127);
            }
            // Once it is at work, at a moment of its own
            for (int i = 0; i < 30000 && highest_json(folder.path()) < last + 3; ++i) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            std::this_thread::sleep_for(std::chrono::microseconds(700 * round));
            ::kill(child, SIGKILL);
            int status = 0;
            ::waitpid(child, &status, 0);
            CHECK(WIFSIGNALED(status));
            const auto found = newest_checkpoint(folder.path(), "dml");
            REQUIRE(found);
            CHECK(is_whole(*found));
            CHECK(found->step >= last + 3);
            last = found->step;
        }
        // Halves and temporaries of the killed go with the next
        write_checkpoint(folder.path(), checkpoint_of(last + 10), 1);
        CHECK(files_in(folder.path()).size() == 2);
    }
}
