#include "leaderboard/scores.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

Run example_run() {
    Run run;
    run.set = "RealSR";
    run.scale = 4;
    run.set_sha256 = "5e7";
    run.pictures = 3;
    run.label = "a \"quoted\", label";
    run.method = "realesrgan-x4plus";
    run.provenance.kind = "gan";
    run.provenance.weights = {{"x4.safetensors", "abc", true}, {"own.safetensors", "def", false}};
    run.provenance.scale_policy = "post";
    run.provenance.device = "cpu";
    run.provenance.dtype = "float32";
    run.provenance.rounding = "half-even";
    run.provenance.settings = {{"tile", "0"}, {"denoise", "0.5"}};
    MetricSummary psnr{"psnr-y601", 25.125, 0.1, 25, 25.25, 3, 0, {{"luma", "studio"}}};
    MetricSummary niqe{"niqe", not_a_number, not_a_number, not_a_number, not_a_number, 3, 3, {}};
    MetricSummary ssim{"ssim-y601", inf, not_a_number, -inf, inf, 3, 1, {}};
    run.metrics = {psnr, niqe, ssim};
    return run;
}

/// The message of the error that `action` throws; it must be one of input.
template <class Action>
std::string input_error(Action&& action) {
    try {
        action();
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        return error.sentence();
    }
    return "no error";
}

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("summarise: mean and sample deviation by hand, NaN counted and left out") {
        // (2 + 4 + 9) / 3 = 5; deviations -3, -1, 4: (9 + 1 + 16) / 2 = 13
        const MetricSummary s = summarise("niqe", {2, not_a_number, 4, 9, not_a_number}, 0);
        CHECK(s.metric == "niqe");
        CHECK(s.mean == 5);
        CHECK(s.std == doctest::Approx(std::sqrt(13.0)).epsilon(1e-15));  // one rounding
        CHECK(s.count == 5);
        CHECK(s.nan == 2);
        CHECK(s.ci_low >= 2);
        CHECK(s.ci_high <= 9);
        CHECK(s.ci_low < s.mean);
        CHECK(s.ci_high > s.mean);
    }

    TEST_CASE("summarise: one score, no score, only undefined ones, infinite ones") {
        const MetricSummary one = summarise("psnr", {7.5}, 1);
        CHECK(one.mean == 7.5);
        CHECK(one.std == 0);
        CHECK(one.ci_low == 7.5);
        CHECK(one.ci_high == 7.5);

        CHECK(std::isnan(summarise("psnr", {}, 1).mean));
        const MetricSummary undefined = summarise("niqe", {not_a_number, not_a_number}, 1);
        CHECK(std::isnan(undefined.mean));
        CHECK(std::isnan(undefined.std));
        CHECK(std::isnan(undefined.ci_low));
        CHECK(undefined.nan == 2);

        const MetricSummary infinite = summarise("psnr", {30, inf, inf, inf, inf, inf, inf}, 1);
        CHECK(infinite.mean == inf);
        CHECK_FALSE(std::isnan(infinite.ci_low));
        CHECK(infinite.ci_high == inf);
    }

    TEST_CASE("summarise: the interval is that of the normal law for many scores") {
        // Scores 0 and 1 in equal number: the mean's deviation is 0.5 / sqrt(n), 1.96 of them a
        // side
        std::vector<double> values;
        for (int i = 0; i < 400; ++i) values.push_back(i % 2);
        const MetricSummary s = summarise("m", values, 3);
        const double half = 1.96 * 0.5 / 20;
        // A percentile of 2000 resamples errs by 0.0015 (one sigma) here and falls on a grid of
        // 1/400; taking 5 and 95 % instead would move it by 0.008
        CHECK(std::abs(s.ci_low - (0.5 - half)) < 0.006);
        CHECK(std::abs(s.ci_high - (0.5 + half)) < 0.006);
    }

    TEST_CASE("results: what is written reads back the same") {
        Run published;
        published.set = "realsr";
        published.scale = 2.5;
        published.published = true;
        published.source = "a paper";
        const Results results{"ultrasr-bench --data x", {example_run(), published}};
        const std::string text = dump_json(to_json(results));
        const Results back = results_from_json(parse_json(text, "t"), "t");
        CHECK(dump_json(to_json(back)) == text);
        REQUIRE(back.runs.size() == 2);
        CHECK(back.command == results.command);
        const Run& run = back.runs[0];
        CHECK(run.label == "a \"quoted\", label");
        CHECK(run.pictures == 3);
        CHECK(run.provenance.weights[0].verified);
        CHECK_FALSE(run.provenance.weights[1].verified);
        CHECK(run.provenance.settings == results.runs[0].provenance.settings);
        CHECK(run.metrics[0].settings.at("luma") == "studio");
        CHECK(run.metrics[0].mean == 25.125);
        CHECK(std::isnan(run.metrics[1].mean));
        CHECK(run.metrics[2].ci_low == -inf);
        CHECK(run.metrics[2].nan == 1);
        CHECK_FALSE(run.published);
        CHECK(back.runs[1].published);
        CHECK(back.runs[1].source == "a paper");
        CHECK(back.runs[1].scale == 2.5);
    }

    TEST_CASE("results: the layout others read") {
        const Json json = to_json({"cmd", {example_run()}});
        CHECK(json["format"] == "ultrasr-results");
        CHECK(json["version"] == 1);
        CHECK(json["tool"]["name"] == "ultrasr-bench");
        CHECK(json["runs"][0]["set"]["pictures"] == 3);
        CHECK(json["runs"][0]["method"]["weights"][1]["verified"] == false);
        CHECK(json["runs"][0]["metrics"][0]["ci95"] == Json::array({25.0, 25.25}));
        CHECK(json["runs"][0]["metrics"][1]["mean"] == "nan");
        CHECK(json["runs"][0]["metrics"][1]["nan"] == 3);
        CHECK_FALSE(json["runs"][0].contains("published"));
    }

    TEST_CASE("results: another format, another version, a missing or wrong key name the place") {
        const Json good = to_json({"cmd", {example_run()}});
        const auto message = [](const Json& json) {
            return input_error([&] { results_from_json(json, "DIR/results.json"); });
        };
        Json bad = good;
        bad["format"] = "other";
        CHECK(message(bad) ==
              "DIR/results.json is of the format \"other\", not \"ultrasr-results\"");
        bad = good;
        bad["version"] = 2;
        CHECK(holds(message(bad), "DIR/results.json is of version 2"));
        bad = good;
        bad.erase("runs");
        CHECK(message(bad) == "DIR/results.json: lacks \"runs\"");
        bad = good;
        bad["runs"][0]["set"].erase("scale");
        CHECK(message(bad) == "DIR/results.json: runs[0].set lacks \"scale\"");
        bad = good;
        bad["runs"][0]["metrics"][1]["mean"] = "high";
        CHECK(holds(message(bad), "DIR/results.json: runs[0].metrics[1].mean: "));
        bad = good;
        bad["runs"][0]["method"]["weights"][0]["verified"] = "yes";
        CHECK(holds(message(bad), "runs[0].method.weights[0].verified is neither true nor false"));
        bad = good;
        bad["runs"][0]["set"]["pictures"] = -1;
        CHECK(holds(message(bad), "runs[0].set.pictures is not a count"));
        CHECK(holds(message(Json::array()), "DIR/results.json: is not an object"));
    }

    TEST_CASE("read_results: reads the folder's file, names a missing one") {
        const test::TemporaryFolder folder;
        write_file(folder.path() / "results.json", dump_json(to_json({"cmd", {example_run()}})));
        CHECK(read_results(folder.path()).runs.size() == 1);
        CHECK(holds(input_error([&] { read_results(folder.path() / "none"); }), "results.json"));
    }

    TEST_CASE("scores.csv: names with commas and quotes, NaN and every bit of a number survive") {
        const test::TemporaryFolder folder;
        const ScoreTable table{{"psnr-y601", "niqe"},
                               {"a.png", "b, \"c\".png", "two\nlines.png"},
                               {{0.1 + 0.2, not_a_number}, {inf, -1e-300}, {25, -not_a_number}}};
        const std::string text = to_csv(table);
        CHECK(text ==
              "image,psnr-y601,niqe\na.png,0.30000000000000004,nan\n"
              "\"b, \"\"c\"\".png\",inf,-1e-300\n\"two\nlines.png\",25,nan\n");
        const auto file = folder.path() / "scores.csv";
        write_file(file, text);
        const ScoreTable back = read_score_table(file);
        CHECK(back.metrics == table.metrics);
        CHECK(back.images == table.images);
        CHECK(back.values[0][0] == 0.1 + 0.2);
        CHECK(std::isnan(back.values[0][1]));
        CHECK(back.values[1] == table.values[1]);
        CHECK(to_csv(back) == text);
    }

    TEST_CASE("scores.csv: line ends of other systems; broken files name the line") {
        const test::TemporaryFolder folder;
        const auto file = folder.path() / "scores.csv";
        write_file(file, "image,m\r\n\"a\",1\r\nb,2");
        CHECK(read_score_table(file).images == std::vector<std::string>{"a", "b"});
        CHECK(read_score_table(file).values[1][0] == 2);

        const auto message = [&](const std::string& text) {
            write_file(file, text);
            return input_error([&] { read_score_table(file); });
        };
        CHECK(holds(message(""), "first column must be \"image\""));
        CHECK(holds(message("name,m\na,1\n"), "first column must be \"image\""));
        CHECK(holds(message("image,m\na,1\nb\n"), "line 3: 1 columns where the head has 2"));
        CHECK(holds(message("image,m\na,1x\n"), "line 2, column m: \"1x\" is not a number"));
        CHECK(holds(message("image,m\n\"a,1\n"), "line 2: a quote is not closed"));
        CHECK(holds(message("image,m\n\"a\"b,1\n"), "line 2: text follows a closing quote"));
    }

    TEST_CASE("read_published: the paper's table comes with the program") {
        const std::vector<Run> runs = read_published("paper");
        CHECK(runs.size() == 54);  // 9 methods: 3 scales of Table 1, 3 sets of Table 2
        bool found = false;
        for (const Run& run : runs) {
            CHECK(run.published);
            CHECK(run.metrics.size() == 7);
            CHECK(holds(run.source, "Selective Diffusion Distillation"));
            if (dataset_name(run) != "realsr-x4" || run.label != "Real-ESRGAN") continue;
            found = true;
            CHECK(holds(run.source, "Table 2"));
            CHECK(run.metrics[0].metric == "psnr-y601");
            CHECK(run.metrics[0].mean == 25.69);
            CHECK(run.metrics[1].metric == "ssim-y601");
            CHECK(run.metrics[1].mean == 0.7616);
            CHECK(run.metrics[4].metric == "niqe");
            CHECK(run.metrics[4].mean == 5.83);
        }
        CHECK(found);
        CHECK(dataset_name(runs[0]) == "real-ultrasr-x8");
    }

    TEST_CASE("read_published: a file without titles, with gaps; faults name line and column") {
        const test::TemporaryFolder folder;
        const std::string file = (folder.path() / "p.csv").string();
        write_file(file,
                   "# source: A and B 2025\n# more\nmethod,dataset,ssim-y601,lpips\n"
                   "stablesr,DRealSR-x4,,0.30\nmine,set-xy-x2.5,0.5,\n");
        const std::vector<Run> runs = read_published(file);
        REQUIRE(runs.size() == 2);
        CHECK(runs[0].label == "StableSR");
        CHECK(runs[0].source == "A and B 2025");
        REQUIRE(runs[0].metrics.size() == 1);
        CHECK(runs[0].metrics[0].metric == "lpips-alex");
        CHECK(dataset_name(runs[0]) == "drealsr-x4");
        CHECK(runs[1].label == "mine");
        CHECK(runs[1].set == "set-xy");
        CHECK(runs[1].scale == 2.5);

        const auto message = [&](const std::string& text) {
            write_file(file, text);
            return input_error([&] { read_published(file); });
        };
        CHECK(holds(message("dataset,method,psmr\n"), "line 1: unknown column \"psmr\"; known"));
        CHECK(holds(message("dataset,psnr\n"), "line 1: column \"method\" is missing"));
        CHECK(holds(message("method,psnr\n"), "line 1: column \"dataset\" is missing"));
        CHECK(holds(message("# x\ndataset,method,psnr\nrealsr-x4,a,2O\n"),
                    "line 3, column psnr: \"2O\" is not a number"));
        CHECK(holds(message("dataset,method,psnr\nrealsr,a,20\n"), "\"realsr\" is not SET-xSCALE"));
        CHECK(holds(message("dataset,method,psnr\nrealsr-x0,a,20\n"), "line 2, column dataset"));
        CHECK(holds(message("dataset,method,psnr\nrealsr-x4,a\n"), "line 2: 2 columns"));
        CHECK(holds(message("# only\n"), "holds no rows"));
        CHECK(holds(input_error([] { read_published("/no/such/file.csv"); }), "file.csv"));
    }

    TEST_CASE("dataset_name: lower case, the scale without zeros behind") {
        Run run;
        run.set = "Real-UltraSR";
        run.scale = 8.0;
        CHECK(dataset_name(run) == "real-ultrasr-x8");
        run.scale = 2.5;
        CHECK(dataset_name(run) == "real-ultrasr-x2.5");
    }
}

TEST_SUITE("property") {
    TEST_CASE("summarise: the same seed gives the same bits, another seed other ones") {
        std::vector<double> values;
        for (int i = 0; i < 50; ++i) values.push_back(std::sin(i) * 10);
        const MetricSummary a = summarise("m", values, 5), b = summarise("m", values, 5);
        CHECK(a.ci_low == b.ci_low);
        CHECK(a.ci_high == b.ci_high);
        const MetricSummary c = summarise("m", values, 6);
        CHECK((a.ci_low != c.ci_low || a.ci_high != c.ci_high));
        CHECK(a.mean == c.mean);
    }

    TEST_CASE("summarise: the interval holds the mean and shrinks as scores are added") {
        double earlier = inf;
        for (const int n : {10, 40, 160, 640}) {
            std::vector<double> values;
            for (int i = 0; i < n; ++i) values.push_back((i * 37) % 10);
            const MetricSummary s = summarise("m", values, 2);
            CHECK(s.ci_low < s.mean);
            CHECK(s.mean < s.ci_high);
            CHECK(s.ci_high - s.ci_low < 0.7 * earlier);  // sqrt(4) = 2 times narrower, loosely
            earlier = s.ci_high - s.ci_low;
        }
    }

    TEST_CASE("summarise: undefined scores change nothing but the counts") {
        const MetricSummary a = summarise("m", {1, 2, 3, 5}, 9);
        const MetricSummary b = summarise("m", {not_a_number, 1, 2, not_a_number, 3, 5}, 9);
        CHECK(a.mean == b.mean);
        CHECK(a.std == b.std);
        CHECK(a.ci_low == b.ci_low);
        CHECK(a.ci_high == b.ci_high);
        CHECK(b.count == a.count + 2);
    }
}
