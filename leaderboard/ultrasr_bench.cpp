// ultrasr-bench: restores, scores and tabulates. Only the command line; the work is in evaluate.h,
// folder_jobs.h, profile.h, render.h, compare.h and figure.h.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/weights/weight_store.h"
#include "leaderboard/bench_arguments.h"
#include "leaderboard/compare.h"
#include "leaderboard/evaluate.h"
#include "leaderboard/figure.h"
#include "leaderboard/folder_jobs.h"
#include "leaderboard/job.h"
#include "leaderboard/profile.h"
#include "leaderboard/render.h"

namespace {

using namespace ultrasr;
namespace fs = std::filesystem;

const std::map<std::string, TableFormat> formats{{"md", TableFormat::markdown},
                                                 {"tex", TableFormat::latex},
                                                 {"csv", TableFormat::csv},
                                                 {"html", TableFormat::html}};

// ---- lists ----

/// The files of `needed` that are not there.
std::vector<std::string> missing_weights(const std::vector<std::string>& needed,
                                         const fs::path& weights) {
    std::vector<std::string> missing;
    for (const std::string& file : needed) {
        if (!have_weights(file, weights)) missing.push_back(file);
    }
    return missing;
}

std::string_view reference_word(Reference reference) {
    return reference == Reference::full ? "HR" : reference == Reference::set ? "HR set" : "none";
}

Answer list_metrics(const fs::path& weights) {
    std::string text = fmt::format("{:<14} {:<8} {:<7} {:<5} {:<9} {:>5}  {}\n", "name", "",
                                   "better", "unit", "reference", "min", "definition");
    Json list = Json::array();
    for (const MetricInfo* m : all_metrics()) {
        const auto missing = missing_weights(m->weight_files, weights);
        const std::string_view better = m->better == Better::higher ? "higher" : "lower";
        text += fmt::format("{:<14} {:<8} {:<7} {:<5} {:<9} {:>5}  {}\n", m->name,
                            missing.empty() ? "ready" : "missing", better,
                            m->unit.empty() ? "-" : m->unit, reference_word(m->reference),
                            m->min_side, m->source);
        for (const std::string& file : missing) {
            text += fmt::format("{:<14} needs {}\n", "", file);
        }
        list.push_back({{"name", m->name},
                        {"title", m->title},
                        {"better", better},
                        {"unit", m->unit},
                        {"reference", reference_word(m->reference)},
                        {"needs_hr", m->reference != Reference::none},
                        {"min_side", m->min_side},
                        {"source", m->source},
                        {"weights", m->weight_files},
                        {"missing", missing},
                        {"settings", m->settings}});
    }
    text += "where missing files come from and belong: ultrasr-weights check\n";
    return {text, [list] { return list; }};
}

Answer list_methods(const MethodOptions& options) {
    Json list = Json::array();
    std::string text;
    for (const MethodInfo* m : all_methods()) {
        const auto missing = missing_weights(m->weight_files, options.weights);
        const std::string name = m->prefix ? m->name + ":..." : m->name;
        text += fmt::format("{:<22} {:<8} {}\n", name, missing.empty() ? "ready" : "missing",
                            m->source);
        for (const std::string& file : missing) {
            text += fmt::format("{:<22} {}\n", "", how_to_get_weights(file, options.weights));
        }
        list.push_back({{"name", name},
                        {"title", m->title},
                        {"source", m->source},
                        {"weights", m->weight_files},
                        {"missing", missing},
                        {"options", m->options}});
    }
    return {text, [list] { return list; }};
}

// ---- jobs ----

Answer bench(const BenchOptions& options, Progress& progress) {
    if (options.data.empty()) fail(Fault::usage, "give --data SET; --help shows an example");
    if (options.methods.empty())
        fail(Fault::usage, "give --method NAME; --list-methods shows them");
    if (options.metrics.empty())
        fail(Fault::usage, "give --metrics NAME; --list-metrics shows them");
    if (options.out.empty()) fail(Fault::usage, "give --out DIR for the results");
    const BenchOutcome outcome = run_benchmark(options, progress);
    if (outcome.missing > 0) {
        const std::string text = fmt::format(
            "shard {} of {} is done; {} scores are still missing, the last shard joins the "
            "results\n",
            options.shard.index, options.shard.count, outcome.missing);
        return {text, [missing = outcome.missing] { return Json{{"missing", missing}}; }};
    }
    const fs::path table = options.out / "tables" / "results.md";
    return {fmt::format("{}\nresults: {}\npage:    {}\n", read_file(table),
                        (options.out / "results.json").string(),
                        (options.out / "report.html").string()),
            [results = outcome.results] { return to_json(results); }};
}

Answer score(const ScoreOptions& options, const fs::path& csv, Progress& progress) {
    const ScoreOutcome outcome = score_folders(options, progress);
    if (!csv.empty()) write_file(csv, to_csv(outcome.table));
    std::string text = csv.empty() ? to_csv(outcome.table) + "\n" : std::string();
    text += fmt::format("{:<13} {:>10} {:>10} {:>23} {:>6} {:>9}\n", "metric", "mean", "std",
                        "95 % interval", "n", "undefined");
    for (const MetricSummary& s : outcome.summaries) {
        const bool set =
            find_metric(s.metric).reference == Reference::set;  // one number, no spread
        text += fmt::format("{:<13} {:>10.4f} {:>10} {:>23} {:>6} {:>9}\n", s.metric, s.mean,
                            set ? "-" : fmt::format("{:.4f}", s.std),
                            set ? "-" : fmt::format("[{:.4f}, {:.4f}]", s.ci_low, s.ci_high),
                            s.count, s.nan);
    }
    return {text, [outcome] {
                Json metrics = Json::array();
                for (const MetricSummary& s : outcome.summaries) {
                    metrics.push_back({{"name", s.metric},
                                       {"mean", json_number(s.mean)},
                                       {"std", json_number(s.std)},
                                       {"ci95", {json_number(s.ci_low), json_number(s.ci_high)}},
                                       {"n", s.count},
                                       {"nan", s.nan},
                                       {"settings", s.settings}});
                }
                return Json{{"metrics", metrics}};
            }};
}

struct TableJob {
    std::vector<fs::path> folders;
    TableFormat format = TableFormat::markdown;
    std::string published;
    TableOptions options;
};

std::vector<Run> gather_runs(const std::vector<fs::path>& folders, const std::string& published) {
    std::vector<Run> runs;
    for (const fs::path& folder : folders) {
        for (Run& run : read_results(folder).runs) runs.push_back(std::move(run));
    }
    if (!published.empty()) {
        for (Run& run : read_published(published)) runs.push_back(std::move(run));
    }
    return runs;
}

Answer table(const TableJob& job) {
    const auto runs = gather_runs(job.folders, job.published);
    return {render_table(runs, job.format, job.options), [runs] {
                Results results;
                results.runs = runs;
                return to_json(results);
            }};
}

struct ReportJob {
    fs::path folder;
    std::vector<std::string> data;
    std::string published;
    TableOptions options;
};

Answer report(const ReportJob& job) {
    const Results results = read_results(job.folder);
    std::vector<PageRun> runs;
    for (const Run& run : results.runs) {
        const fs::path folder = job.folder / run.set / fmt::format("x{}", run.scale) / run.label;
        runs.push_back({run, read_score_table(folder / "scores.csv"), folder / "images"});
    }
    std::vector<PagePicture> pictures;
    for (const std::string& spec : job.data) {
        for (const PairSet& set : find_pair_sets(spec)) {
            for (const ImagePair& pair : set.pairs) {
                pictures.push_back({set.name, set.scale.ratio, pair.stem, pair.lr, pair.hr});
            }
        }
    }
    const fs::path page = job.folder / "report.html";
    write_file(page, render_page(
                         "Super-resolution benchmark", results.command, runs,
                         job.published.empty() ? std::vector<Run>{} : read_published(job.published),
                         pictures, job.options));
    return {page.string() + "\n", [page] { return Json{{"page", page.string()}}; }};
}

/// "a,b" names two methods; a command may hold commas and stands alone.
std::vector<std::string> split_methods(const std::vector<std::string>& texts) {
    std::vector<std::string> methods;
    for (const std::string& text : texts) {
        if (text.starts_with("command:")) {
            methods.push_back(text);
        } else {
            for (const std::string& part : CLI::detail::split(text, ',')) methods.push_back(part);
        }
    }
    return methods;
}

PixelRect parse_box(const std::string& text) {
    PixelRect box;
    char rest = 0;
    if (std::sscanf(text.c_str(), "%d,%d,%d,%d%c", &box.x, &box.y, &box.width, &box.height,
                    &rest) != 4) {
        fail(Fault::usage, "--box takes x,y,width,height in HR pixels, not {}", text);
    }
    return box;
}

void add_published(CLI::App& app, std::string& published, TableOptions& options) {
    app.add_option("--published", published,
                   "add rows from a CSV file, or 'paper' for the tables of the SDD paper");
    app.add_flag("--rank-published", options.rank_published,
                 "let published rows compete for best and second best");
}

int run(int argc, char** argv) {
    CLI::App app{"Restores pictures by super-resolution methods, scores them, writes tables.",
                 "ultrasr-bench"};
    app.footer(
        "Examples:\n"
        "  ultrasr-bench --data data/demo --method bicubic,realesr-general-x4v3 \\\n"
        "                --metrics psnr-y601,ssim-y601,niqe --out out/demo\n"
        "  ultrasr-bench score --sr results/ --hr HR/ --metrics psnr-y601,niqe --csv scores.csv\n"
        "  ultrasr-bench table out/demo --format tex --published paper");
    CommonOptions common;

    // The main job
    BenchOptions main_job;
    app.add_option("--data", main_job.data,
                   "set: folder with LR/ and HR/, or x8/LR x8/HR ..., or a pair store (.h5), or "
                   "set.json; PATH@NAME names it")
        ->delimiter(',')
        ->type_name("SET,...");
    std::vector<std::string> methods;
    app.add_option("--method", methods,
                   "names, comma-separated; see --list-methods; NAME@LABEL names the row; once for "
                   "each command:...")
        ->type_name("NAME,...");
    add_metric_options(app, main_job.metrics, main_job.metric);
    app.add_option("--out", main_job.out, "folder of the results")->type_name("DIR");
    MethodArguments main_arguments{main_job.method, {}, {}};
    add_method_options(app, main_arguments);
    main_arguments.of_methods.push_back(add_dump(
        app, main_job.dump, ", with several methods or sets in folders as --out has them"));
    add_published(app, main_job.published, main_job.table);
    app.add_flag("--restart", main_job.restart, "throw earlier results of these runs away");
    std::string shard = "1/1";
    app.add_option("--shard", shard, "work on every n-th picture only: i/n")->capture_default_str();
    app.add_flag("--merge", main_job.merge, "join the results of finished shards");
    bool want_metrics = false, want_methods = false;
    app.add_flag("--list-metrics", want_metrics, "show all metrics");
    app.add_flag("--list-methods", want_methods,
                 "show all methods and what is missing to run them");

    // score
    ScoreOptions score_job;
    fs::path csv;
    CLI::App* sub_score = app.add_subcommand("score", "Score finished pictures of any folder.");
    sub_score->add_option("--sr", score_job.sr, "folder of restored pictures")->required();
    sub_score->add_option("--hr", score_job.hr, "folder of HR pictures with the same names");
    add_metric_options(*sub_score, score_job.metrics, score_job.metric);
    add_weight_options(*sub_score, score_job.metric.weights);
    sub_score->add_option("--csv", csv, "write one row a picture here instead of to stdout");
    sub_score->footer(
        "Example:\n  ultrasr-bench score --sr results/ --hr HR/ --metrics psnr-y601,niqe");

    // fid-stats
    FidStatsOptions stats_job;
    CLI::App* sub_stats = app.add_subcommand(
        "fid-stats", "Look at an HR set once: its FID statistics, for --fid-stats.");
    sub_stats->add_option("pictures", stats_job.pictures, "folder, with those below it")
        ->required();
    sub_stats->add_option("--out", stats_job.out, "file to write (safetensors)")->required();
    add_weight_options(*sub_stats, stats_job.metric.weights);
    add_metric_precision(*sub_stats, stats_job.metric);
    sub_stats->footer(
        "Example:\n  ultrasr-bench fid-stats DIV2K/HR --out div2k_hr.safetensors\n"
        "  ultrasr-bench score --sr results/ --metrics fid --fid-stats div2k_hr.safetensors");

    // restore
    RestoreOptions restore_job;
    CLI::App* sub_restore = app.add_subcommand("restore", "Restore pictures; no HR needed.");
    sub_restore->add_option("--method", restore_job.method, "one method")->required();
    sub_restore->add_option("--scale", restore_job.scale, "HR pixels per LR pixel")
        ->check(CLI::Range(1.0, 64.0))
        ->capture_default_str();
    sub_restore->add_option("--in", restore_job.in, "a picture or a folder")->required();
    sub_restore->add_option("--out", restore_job.out, "folder of the results")->required();
    sub_restore->add_flag("--restart", restore_job.restart, "restore pictures that are done again");
    MethodArguments restore_arguments{restore_job.options, {}, {}};
    add_method_options(*sub_restore, restore_arguments);
    restore_arguments.of_methods.push_back(add_dump(*sub_restore, restore_job.dump, ""));
    sub_restore->footer(
        "Example:\n  ultrasr-bench restore --method realesrgan-x4plus --scale 8 --in photo.png "
        "--out out\n"
        "  ultrasr-bench restore --method sdd --model student/ --scale 10 --in LR/ --out out");

    // profile
    ProfileOptions profile_job;
    std::vector<std::string> profile_methods_given;
    CLI::App* sub_profile = app.add_subcommand(
        "profile", "Measure methods: parameters, multiply-adds, seconds by part, memory.");
    sub_profile->add_option("--method", profile_methods_given, "names, comma-separated")
        ->required()
        ->type_name("NAME,...");
    sub_profile->add_option("--size", profile_job.size, "side of the restored picture, pixels")
        ->check(CLI::Range(1, 1 << 15))
        ->capture_default_str();
    sub_profile->add_option("--scale", profile_job.scale, "HR pixels per LR pixel")
        ->check(CLI::Range(1.0, 64.0))
        ->capture_default_str();
    sub_profile->add_option("--runs", profile_job.runs, "timed runs; the median counts")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    sub_profile->add_flag("--published", profile_job.published,
                          "with the rows of the SDD paper's Table 4");
    MethodArguments profile_arguments{profile_job.options, {}, {}};
    add_method_options(*sub_profile, profile_arguments);
    sub_profile->footer(
        "Example:\n  ultrasr-bench profile --method sdd --model student/ --size 512 --published");

    // table, report, compare
    TableJob table_job;
    CLI::App* sub_table = app.add_subcommand("table", "Print tables of stored results.");
    sub_table->add_option("folders", table_job.folders, "folders with a results.json")->required();
    add_choice(*sub_table, "--format", table_job.format, formats, "of the table");
    add_published(*sub_table, table_job.published, table_job.options);
    sub_table->footer("Example:\n  ultrasr-bench table out/a out/b --format tex --published paper");

    ReportJob report_job;
    CLI::App* sub_report = app.add_subcommand("report", "Write DIR/report.html again.");
    sub_report->add_option("folder", report_job.folder, "folder with a results.json")->required();
    sub_report->add_option("--data", report_job.data, "the sets, to show LR and HR pictures")
        ->delimiter(',');
    add_published(*sub_report, report_job.published, report_job.options);
    sub_report->footer("Example:\n  ultrasr-bench report out/demo --data data/demo");

    fs::path compare_a, compare_b;
    std::string compare_metric;
    CLI::App* sub_compare =
        app.add_subcommand("compare", "Compare two methods picture by picture.");
    sub_compare->add_option("a", compare_a, "folder of a run (with scores.csv), or a CSV")
        ->required();
    sub_compare->add_option("b", compare_b, "the other")->required();
    sub_compare->add_option("--metric", compare_metric, "one metric; default: all");
    sub_compare->footer(
        "Example:\n  ultrasr-bench compare out/demo/demo/x4/bicubic out/demo/demo/x4/lanczos");

    FigureOptions figure_job;
    fs::path figure_file = "figure.png";
    std::string box;
    bool choose_box = false;
    CLI::App* sub_figure =
        app.add_subcommand("figure", "Draw crops of one picture by all methods, side by side.");
    sub_figure->add_option("folder", figure_job.results, "folder with a results.json")->required();
    sub_figure->add_option("--image", figure_job.image, "the picture's name")->required();
    sub_figure->add_option("--set", figure_job.set, "the set, where several have that picture");
    CLI::Option* box_option = sub_figure->add_option("--box", box, "part to show, HR pixels")
                                  ->type_name("x,y,width,height");
    sub_figure->add_flag("--auto", choose_box, "show the most textured part (the default)")
        ->excludes(box_option);
    sub_figure->add_option("--data", figure_job.data, "the sets, to show LR and HR")
        ->delimiter(',');
    sub_figure->add_option("--png", figure_file, "file to write")->capture_default_str();
    sub_figure->footer(
        "Example:\n  ultrasr-bench figure out/demo --image coffee --auto --data data/demo "
        "--png coffee.png");

    app.require_subcommand(0, 1);
    return run_tool(app, argc, argv, common, [&](Progress& progress) -> Answer {
        const auto prepare_metrics = [&](MetricOptions& options) {
            options.compute.device = common.device;
            options.compute.threads = common.threads;
        };
        if (*sub_stats) {
            prepare_metrics(stats_job.metric);
            stats_job.threads = common.threads;
            const std::size_t n = write_fid_stats_of(stats_job, progress);
            return {fmt::format("{}: statistics of {} pictures\n", stats_job.out.string(), n),
                    [n, file = stats_job.out.string()] {
                        return Json{{"file", file}, {"pictures", n}};
                    }};
        }
        if (*sub_score) {
            prepare_metrics(score_job.metric);
            score_job.threads = common.threads;
            score_job.seed = common.seed;
            return score(score_job, csv, progress);
        }
        if (*sub_restore) {
            std::vector<std::string> one{restore_job.method};
            finish_method_options(restore_arguments, common, one);
            restore_job.method = one.front();
            check_dump(restore_job.options, restore_job.dump);
            restore_job.threads = common.threads;
            const std::size_t n = restore_pictures(restore_job, progress);
            return {fmt::format("{} pictures in {}\n", n, restore_job.out.string()), [n] {
                        return Json{{"pictures", n}};
                    }};
        }
        if (*sub_profile) {
            profile_job.methods = split_methods(profile_methods_given);
            finish_method_options(profile_arguments, common, profile_job.methods);
            const auto measured = profile_methods(profile_job, progress);
            return {profile_text(profile_job, measured),
                    [profile_job, measured] { return profile_json(profile_job, measured); }};
        }
        if (*sub_table) return table(table_job);
        if (*sub_report) return report(report_job);
        if (*sub_figure) {
            if (!box.empty()) figure_job.box = parse_box(box);
            write_png(figure_file, draw_figure(figure_job));
            return {figure_file.string() + "\n", [figure_file] {
                        return Json{{"figure", figure_file.string()}};
                    }};
        }
        if (*sub_compare) {
            const auto result = compare_scores(read_scores_of(compare_a), read_scores_of(compare_b),
                                               compare_metric, common.seed);
            return {to_text(result, compare_a.string(), compare_b.string()),
                    [result] { return to_json(result); }};
        }
        if (want_metrics) return list_metrics(main_job.method.weights);
        if (want_methods) return list_methods(main_job.method);
        main_job.methods = split_methods(methods);
        finish_method_options(main_arguments, common, main_job.methods);
        check_dump(main_job.method, main_job.dump);
        prepare_metrics(main_job.metric);
        main_job.metric.weights = main_job.method;
        main_job.threads = common.threads;
        main_job.seed = common.seed;
        main_job.shard = parse_shard(shard);
        main_job.command =
            portable_command_line(argc, argv,
                                  {"--shard", "--merge", "--restart", "--out", "--threads",
                                   "--json", "--quiet", "--dump", "--dump-taps", "--memory"});
        const Answer answer = bench(main_job, progress);
        write_file(main_job.out / "options.json", dump_json(resolved_options(app)));
        return answer;
    });
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv); }
