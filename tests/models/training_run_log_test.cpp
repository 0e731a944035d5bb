#include "models/training/run_log.h"

#include <cmath>
#include <fstream>
#include <limits>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

using Steps = std::vector<std::int64_t>;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

LogLine line_at(const std::string& stage, std::int64_t step, double loss = 0.5) {
    LogLine line;
    line.stage = stage;
    line.step = step;
    line.steps = 100;
    line.losses = {{"loss", loss}};
    return line;
}

LogLine full_line() {
    LogLine line;
    line.stage = "rsd";
    line.step = 1200;
    line.steps = 30000;
    line.losses = {{"loss", 0.0831}, {"soft", 0.0512}, {"hard", 0.0319}};
    line.gradient_norm = 0.8249;
    line.learning_rate = 5e-5;
    line.more = {{"triplet_accuracy", 0.93}, {"loss_scale", 65536}};
    line.images_per_second = 21.34;
    line.wait_share = 0.001;
    line.memory_mb = 4321;
    return line;
}

/// Steps of one stage, in the order of the file.
Steps steps_of(const std::filesystem::path& path, const std::string& stage) {
    Steps steps;
    for (const LogLine& line : read_log(path)) {
        if (line.stage == stage) steps.push_back(line.step);
    }
    return steps;
}

std::size_t files_in(const std::filesystem::path& folder) {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
    return count;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("json_of: one flat object, the time-dependent numbers last") {
        CHECK(dump_json_line(json_of(full_line())) ==
              R"({"stage":"rsd","step":1200,"steps":30000,)"
              R"("losses":{"loss":0.0831,"soft":0.0512,"hard":0.0319},)"
              R"("gradient_norm":0.8249,"learning_rate":5e-05,"skipped":0,)"
              R"("triplet_accuracy":0.93,"loss_scale":65536.0,)"
              R"("images_per_second":21.34,"wait_share":0.001,"memory_mb":4321})");
        // A validation has no gradient: nothing is invented for it
        LogLine validation = line_at("rsd", 7);
        validation.losses.clear();
        validation.more = {{"val_psnr", inf}};
        CHECK(dump_json_line(json_of(validation)) ==
              R"({"stage":"rsd","step":7,"steps":100,"losses":{},"skipped":0,"val_psnr":"inf"})");
    }

    TEST_CASE("log_line_of gives back what json_of wrote, NaN and infinity too") {
        LogLine line = full_line();
        line.losses[1].second = not_a_number;
        line.gradient_norm = -inf;
        line.skipped = 3;
        const std::string text = dump_json_line(json_of(line));
        const LogLine again = log_line_of(parse_json(text, "a line"), "a line");
        CHECK(again.stage == "rsd");
        CHECK(again.step == 1200);
        CHECK(again.steps == 30000);
        CHECK(again.losses.size() == 3);
        CHECK(std::isnan(again.losses.at(1).second));
        CHECK(again.losses.at(2) == std::pair<std::string, double>("hard", 0.0319));
        CHECK(again.gradient_norm == -inf);
        CHECK(again.learning_rate == 5e-5);
        CHECK(again.more == line.more);
        CHECK(again.skipped == 3);
        CHECK(again.images_per_second == 21.34);
        CHECK(again.wait_share == 0.001);
        CHECK(again.memory_mb == 4321);
        CHECK(dump_json_line(json_of(again)) == text);
        CHECK_FALSE(log_line_of(json_of(line_at("dml", 1)), "x").gradient_norm.has_value());
    }

    TEST_CASE("json_of: a name may stand once only") {
        for (const char* name : {"step", "losses", "gradient_norm", "memory_mb", "wait_share"}) {
            LogLine line = line_at("dml", 1);
            line.more = {{name, 1.0}};
            CAPTURE(name);
            CHECK(test::contains(test::sentence_of(Fault::internal, [&] { (void)json_of(line); }),
                                 name));
        }
        LogLine twice = line_at("dml", 1);
        twice.more = {{"theta", 1.0}, {"theta", 2.0}};
        CHECK_THROWS_AS((void)json_of(twice), Error);
    }

    TEST_CASE("log_line_of: errors say the place and the field") {
        const auto sentence = [](const char* text) {
            return test::sentence_of(Fault::input, [&] {
                (void)log_line_of(parse_json(text, "x"), "log.jsonl, line 3");
            });
        };
        CHECK(sentence(R"({"stage":"a","step":1,"losses":{}})") ==
              R"(log.jsonl, line 3: not a line of a training log, "steps" is missing)");
        CHECK(sentence("[1]") ==
              R"(log.jsonl, line 3: not a line of a training log, "stage" is missing)");
        CHECK(sentence(R"({"stage":"a","step":1.5,"steps":2,"losses":{}})") ==
              R"(log.jsonl, line 3: "step" is no whole number)");
        CHECK(sentence(R"({"stage":"a","step":1,"steps":2,"losses":{"l":"high"}})") ==
              R"(log.jsonl, line 3: "l": expected a number, found "high")");
    }

    TEST_CASE("RunLog: a killed and resumed run has every step once") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "out" / "log.jsonl";
        {
            RunLog teacher(path, "teacher", 0);
            for (std::int64_t step = 1; step <= 3; ++step) teacher.append(line_at("teacher", step));
        }
        {
            RunLog dml(path, "dml", 0);
            for (std::int64_t step = 1; step <= 17; ++step) dml.append(line_at("dml", step, 1.0));
        }
        const std::string before = read_file(path);
        {
            RunLog resumed(path, "dml", 10);  // the checkpoint of step 10
            CHECK(steps_of(path, "dml") == Steps{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
            for (std::int64_t step = 11; step <= 20; ++step) {
                resumed.append(line_at("dml", step, 2.0));
            }
        }
        Steps all;
        for (std::int64_t step = 1; step <= 20; ++step) all.push_back(step);
        CHECK(steps_of(path, "dml") == all);
        CHECK(steps_of(path, "teacher") == Steps{1, 2, 3});
        const std::vector<LogLine> lines = read_log(path);
        CHECK(lines.at(12).losses.at(0).second == 1.0);  // dml's step 10, as it was
        CHECK(lines.at(13).losses.at(0).second == 2.0);  // dml's step 11, repeated
        CHECK(read_file(path).starts_with(
            before.substr(0, before.find("\"step\":11"))
                .substr(0, before.rfind('\n', before.find("\"step\":11")) + 1)));
        CHECK(files_in(path.parent_path()) == 1);  // no temporary file stays
        // From the start: only this stage's lines go
        { const RunLog again(path, "dml", 0); }
        CHECK(steps_of(path, "dml").empty());
        CHECK(steps_of(path, "teacher") == Steps{1, 2, 3});
    }

    TEST_CASE("RunLog: nothing to cut leaves the file's bytes alone") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "log.jsonl";
        // Written by hand, with spaces: lines that stay are not written anew
        const std::string text =
            "{ \"stage\": \"dml\", \"step\": 1, \"steps\": 9, \"losses\": { \"loss\": 1e0 } }\n"
            "{\"stage\":\"rsd\",\"step\":5,\"steps\":9,\"losses\":{}}\n";
        write_file(path, text);
        const auto written = std::filesystem::last_write_time(path);
        { const RunLog log(path, "dml", 1); }
        CHECK(read_file(path) == text);
        CHECK(std::filesystem::last_write_time(path) == written);
        { const RunLog log(path, "rsd", 4); }
        CHECK(read_file(path) == text.substr(0, text.find('\n') + 1));
    }

    TEST_CASE("read_log and RunLog: a torn last line is no line") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "log.jsonl";
        const std::string whole = dump_json_line(json_of(line_at("dml", 1))) + "\n";
        for (const std::string& torn :
             {std::string("{\"stage\":\"dml\",\"st"), dump_json_line(json_of(line_at("dml", 2)))}) {
            write_file(path, whole + torn);
            CHECK(steps_of(path, "dml") == Steps{1});
            {
                RunLog log(path, "dml", 1);
                log.append(line_at("dml", 2));
            }
            CHECK(steps_of(path, "dml") == Steps{1, 2});
        }
        write_file(path, "");
        CHECK(read_log(path).empty());
    }

    TEST_CASE("read_log names a broken line, RunLog drops it and goes on") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "log.jsonl";
        const std::string one = dump_json_line(json_of(line_at("dml", 1))) + "\n";
        const std::string two = dump_json_line(json_of(line_at("dml", 2))) + "\n";
        write_file(path, one + std::string(40, '\0') + "\n" + two);  // as after a power failure
        const std::string sentence = test::sentence_of(Fault::input, [&] { (void)read_log(path); });
        CHECK(test::contains(sentence, "log.jsonl, line 2"));
        { const RunLog log(path, "dml", 2); }
        CHECK(read_file(path) == one + two);
        CHECK(test::contains(
            test::sentence_of(Fault::input, [&] { (void)read_log(folder.path() / "none"); }),
            "none"));
    }

    TEST_CASE("progress_line: stage, losses, rate and the time that is left") {
        LogLine line = full_line();
        CHECK(progress_line(line, 7860) ==
              "rsd 1200/30000  loss 0.0831 (soft 0.0512 hard 0.0319)  grad 0.82  21.3 images/s  "
              "wait 0 %  2 h 11 min left");
        CHECK(progress_note(line) ==
              "loss 0.0831 (soft 0.0512 hard 0.0319)  grad 0.82  21.3 images/s  wait 0 %");
        line.losses = {{"loss", not_a_number}};
        line.gradient_norm = 250.4;
        line.images_per_second = 0.1234;
        line.wait_share = 0.256;
        line.skipped = 1;
        CHECK(progress_line(line, not_a_number) ==
              "rsd 1200/30000  loss nan  grad 250  0.123 images/s  wait 26 %  1 step skipped");
        line.skipped = 12;
        CHECK(test::contains(progress_note(line), "  12 steps skipped"));
        LogLine bare = line_at("vae", 3);
        bare.losses.clear();
        CHECK(progress_line(bare, -1) == "vae 3/100");
    }

    TEST_CASE("progress_line: times from seconds to days") {
        const auto left = [](double seconds) {
            LogLine line = line_at("vae", 3);
            line.losses.clear();
            return progress_line(line, seconds).substr(std::string("vae 3/100").size());
        };
        CHECK(left(0.2) == "  0 s left");
        CHECK(left(99.4) == "  99 s left");
        CHECK(left(100) == "  2 min left");
        CHECK(left(3569) == "  59 min left");
        CHECK(left(3570) == "  1 h 0 min left");
        CHECK(left(47.5 * 3600) == "  47 h 30 min left");
        CHECK(left(75.4 * 3600) == "  3 d 3 h left");
        CHECK(left(inf) == "");
        CHECK(left(1e300) == "");
    }
}
