#include "models/training/curves.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "data/base/error.h"
#include "models/training/axis.h"
#include "models/training/curve_panels.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

using Texts = std::vector<std::string>;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

LogLine line_at(std::int64_t step, double loss, const std::string& stage = "rsd") {
    LogLine line;
    line.stage = stage;
    line.step = step;
    line.steps = 100;
    line.losses = {{"loss", loss}};
    return line;
}

Texts texts_of(const std::vector<Axis::Tick>& ticks) {
    Texts texts;
    for (const Axis::Tick& tick : ticks) texts.push_back(tick.text);
    return texts;
}

std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++count;
    }
    return count;
}

/// Every tag is closed by its own, and no text holds a bare < or &.
bool is_well_formed(const std::string& svg) {
    Texts open;
    for (std::size_t i = 0; i < svg.size(); ++i) {
        if (svg[i] == '&' && svg.compare(i, 4, "&lt;") != 0 && svg.compare(i, 4, "&gt;") != 0 &&
            svg.compare(i, 5, "&amp;") != 0 && svg.compare(i, 6, "&quot;") != 0) {
            return false;
        }
        if (svg[i] != '<') continue;
        const std::size_t end = svg.find('>', i);
        if (end == std::string::npos) return false;
        const std::string tag = svg.substr(i + 1, end - i - 1);
        const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
        if (tag.find('<') != std::string::npos) return false;
        if (name.starts_with("/") || tag.starts_with("/")) {
            if (open.empty() || "/" + open.back() != tag) return false;
            open.pop_back();
        } else if (!tag.ends_with("/")) {
            open.push_back(name);
        }
        i = end;
    }
    return open.empty() && svg.starts_with("<svg ");
}

struct Place {
    double x, y;  // pixels from the plot's top left corner
};

/// The pieces of the first path of a class: joined points between gaps.
std::vector<std::vector<Place>> pieces_of(const std::string& svg, const std::string& classes) {
    std::vector<std::vector<Place>> pieces;
    const std::size_t element = svg.find("<path class=\"" + classes + "\"", svg.find("scale(.1)"));
    if (element == std::string::npos) return pieces;
    const std::size_t begin = svg.find(" d=\"", element) + 4;
    const std::string d = svg.substr(begin, svg.find('"', begin) - begin);
    double x = 0, y = 0;
    for (std::size_t i = 0; i < d.size();) {
        const char command = d[i++];
        std::size_t used = 0;
        const double a = std::stod(d.substr(i), &used);
        i += used;
        if (command == 'h') continue;  // of length 0: a dot
        const double b = std::stod(d.substr(i), &used);
        i += used;
        x = command == 'M' ? a : x + a;
        y = command == 'M' ? b : y + b;
        if (command == 'M') pieces.emplace_back();
        pieces.back().push_back({x / 10, y / 10});
    }
    return pieces;
}

std::size_t points_of(const std::string& svg, const std::string& classes) {
    std::size_t count = 0;
    for (const auto& piece : pieces_of(svg, classes)) count += piece.size();
    return count;
}

constexpr double plot_width = 282, plot_height = 112;

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("linear_axis: round ticks, exact in their text") {
        CHECK(texts_of(linear_axis(0.0, 1.0, 5).ticks) ==
              Texts{"0", "0.2", "0.4", "0.6", "0.8", "1"});
        CHECK(texts_of(linear_axis(-0.13, 0.11, 4).ticks) ==
              Texts{"-0.1", "-0.05", "0", "0.05", "0.1"});
        CHECK(texts_of(linear_axis(0.0, 30000.0, 5).ticks) ==
              Texts{"0", "5000", "10 000", "15 000", "20 000", "25 000", "30 000"});
        CHECK(texts_of(linear_axis(0.0, 5.2e-5, 4).ticks) ==
              Texts{"0", "1e-5", "2e-5", "3e-5", "4e-5", "5e-5"});
        CHECK(texts_of(linear_axis(0.0, 2.0, 5, true).ticks) == Texts{"0", "1", "2"});
        CHECK(texts_of(linear_axis(0.0, 2.0, 5).ticks).size() > 3);
        const Axis axis = linear_axis(10.0, 20.0, 5);
        CHECK(axis.at(10.0) == 0.0);
        CHECK(axis.at(17.5) == 0.75);
        CHECK(axis.ticks.back().at == 1.0);
    }

    TEST_CASE("log_axis: powers of ten, at most six of them with numbers") {
        const Axis axis = log_axis(0.02, 9.0);
        CHECK(texts_of(axis.ticks) == Texts{"0.1", "1", "10"});
        CHECK(axis.at(0.3) - axis.at(0.1) == doctest::Approx(axis.at(3.0) - axis.at(1.0)));
        CHECK(axis.at(0.0) == 0.0);   // at the foot
        CHECK(axis.at(1e-9) == 0.0);  // too
        CHECK(axis.at(9.0) < 1.0);
        CHECK(axis.small_ticks.size() == 8 + 8 + 8);  // 0.02 to 0.09, 0.2 to 0.9, 2 to 9
        const Axis wide = log_axis(1e-12, 1e6);
        CHECK(wide.ticks.size() >= 4);
        CHECK(wide.ticks.size() <= 6);
        for (const double at : wide.small_ticks) CHECK((at >= 0.0 && at <= 1.0));
    }

    TEST_CASE("tick_text: as people write numbers") {
        CHECK(tick_text(0.0) == "0");
        CHECK(tick_text(0.02) == "0.02");
        CHECK(tick_text(0.001) == "0.001");
        CHECK(tick_text(0.0005) == "5e-4");
        CHECK(tick_text(-2.5e-5) == "-2.5e-5");
        CHECK(tick_text(1234.5) == "1234.5");
        CHECK(tick_text(-12345.0) == "-12 345");
        CHECK(tick_text(1234567.0) == "1 234 567");
        CHECK(tick_text(3e12) == "3e12");
    }

    TEST_CASE("curve_stages: panels, their order and what shares one") {
        LogLine line = line_at(1, 0.5, "dml");
        line.losses = {{"loss", 0.5}, {"pull", 0.3}, {"push", 0.2}};
        line.gradient_norm = 1.0;
        line.learning_rate = 1e-4;
        line.images_per_second = 20.0;
        line.wait_share = 0.5;
        line.more = {{"triplet_accuracy", 1.0},   {"distance_positive", 0.1},
                     {"distance_negative", 0.9},  {"val_psnr-y601_x8", 20.0},
                     {"val_psnr-y601_x12", 19.0}, {"val_lpips-alex", 0.4}};
        LogLine later = line;
        later.step = 2;
        const std::vector<LogLine> lines{line, later, line_at(1, 0.1, "rsd")};
        const auto stages = curve_stages(lines);
        REQUIRE(stages.size() == 2);
        CHECK(stages[0].name == "dml");
        Texts titles;
        for (const CurvePanel& panel : stages[0].panels) titles.push_back(panel.title);
        CHECK(titles == Texts{"loss", "validation: psnr-y601", "validation: lpips-alex",
                              "triplet accuracy", "distance", "gradient norm", "speed",
                              "waiting for data"});  // the constant learning rate is none
        CHECK(stages[0].panels[0].series.size() == 3);
        CHECK(stages[0].panels[1].dots);
        CHECK(stages[0].panels[1].unit == "dB");
        CHECK(stages[0].panels[1].series.at(1).name == "x12");
        CHECK(stages[0].panels[4].series.at(0).name == "positive");
        CHECK(stages[0].panels[7].series.at(0).points.at(1).value == 50.0);  // per cent
        CHECK(stages[1].panels.size() == 1);

        // Pairs are another set: a panel of their own for each figure
        LogLine pairs = line_at(1, 0.5);
        pairs.more = {{"val_psnr", 20.0},
                      {"val_psnr_lr", 19.0},
                      {"val_pairs_psnr", 21.0},
                      {"val_pairs_psnr_lr", 20.0},
                      {"val_pairs_mse", 0.1}};
        const std::vector<LogLine> with_pairs{pairs};
        const auto of_pairs = curve_stages(with_pairs)[0].panels;
        REQUIRE(of_pairs.size() == 4);
        CHECK(of_pairs[1].series.at(0).name == "psnr");
        CHECK(of_pairs[1].series.at(1).name == "lr");
        CHECK(of_pairs[2].title == "validation: pairs psnr");
        CHECK(of_pairs[2].unit == "dB");
        CHECK(of_pairs[2].series.at(1).name == "lr");
        CHECK(of_pairs[3].title == "validation: pairs mse");
        CHECK(of_pairs[3].unit.empty());

        // It is one where it changes
        std::vector<LogLine> warm{line, later};
        warm[1].learning_rate = 2e-4;
        CHECK(curve_stages(warm)[0].panels.at(6).title == "learning rate");
    }

    TEST_CASE("curves_svg: every value of a short log is a point in its place") {
        std::vector<LogLine> lines;
        for (std::int64_t step = 1; step <= 10; ++step) {
            lines.push_back(line_at(step, static_cast<double>(step)));
        }
        const std::string svg = curves_svg(lines);
        CHECK(is_well_formed(svg));
        const auto pieces = pieces_of(svg, "line s0");
        REQUIRE(pieces.size() == 1);
        REQUIRE(pieces[0].size() == 10);
        for (std::size_t i = 0; i < 10; ++i) {  // the axes: 0 to 10, and from zero to 10 + 5 %
            const double step = static_cast<double>(i + 1);
            CHECK(std::abs(pieces[0][i].x - plot_width * step / 10) <= 0.051);
            CHECK(std::abs(pieces[0][i].y - plot_height * (1 - step / 10.5)) <= 0.051);
        }
        CHECK(pieces_of(svg, "dot s0").size() == 10);
        CHECK(pieces_of(svg, "raw s0").empty());
        CHECK(test::contains(svg, "step 10 of 100"));
    }

    TEST_CASE("curves_svg: longer ones are faint below their mean") {
        std::vector<LogLine> lines;
        for (std::int64_t step = 1; step <= 400; ++step) {
            lines.push_back(line_at(step, step % 2 == 0 ? 1.0 : 3.0));
        }
        const std::string svg = curves_svg(lines);
        CHECK(points_of(svg, "raw s0") == 400);
        const auto smooth = pieces_of(svg, "line s0");
        REQUIRE(smooth.size() == 1);
        CHECK(smooth[0].size() == 140);
        // Means of 11 values 1, 3, 1, ... lie within 1/11 of 2; of the fewest, 6, too
        const double high = 3.0 * 1.05;
        for (const Place& p : smooth[0]) {
            const double value = high * (1 - p.y / plot_height);
            CHECK(std::abs(value - 2.0) < 0.11);
        }
        CHECK(smooth[0].front().x == doctest::Approx(plot_width / 400).epsilon(0.1));
        CHECK(smooth[0].back().x == plot_width);
    }

    TEST_CASE("curves_svg: values that are not finite leave gaps and red ticks") {
        std::vector<LogLine> lines;
        for (std::int64_t step = 1; step <= 12; ++step)
            lines.push_back(line_at(step, 1.0 / static_cast<double>(step)));
        CHECK(count_of(curves_svg(lines), "class=\"bad\"") == 0);
        lines[3].losses[0].second = not_a_number;
        lines[5].losses[0].second = inf;
        lines[8].losses[0].second = not_a_number;
        const std::string svg = curves_svg(lines);
        const auto pieces = pieces_of(svg, "line s0");
        REQUIRE(pieces.size() == 4);
        CHECK(pieces[0].size() == 3);
        CHECK(pieces[1].size() == 1);  // a value alone is a dot
        CHECK(pieces[3].size() == 3);
        const std::size_t bad = svg.find("class=\"bad\"");
        REQUIRE(bad != std::string::npos);
        CHECK(count_of(svg.substr(bad, svg.find("/>", bad) - bad), "v6") == 3);
        CHECK(is_well_formed(svg));
        for (LogLine& line : lines) line.losses[0].second = not_a_number;
        CHECK(test::contains(curves_svg(lines), "never finite"));
    }

    TEST_CASE("curves_svg: 100 000 lines stay small and keep every extreme") {
        std::vector<LogLine> lines;
        for (std::int64_t step = 1; step <= 100'000; ++step) {
            // Noise without a generator; two stages of 50 000
            const double noise = std::fmod(static_cast<double>(step) * 0.618033988749895, 1.0);
            const std::int64_t of_stage = (step - 1) % 50'000 + 1;
            LogLine line = line_at(of_stage, 1.0 + noise, step <= 50'000 ? "dml" : "rsd");
            line.losses.emplace_back("soft", 0.4 + noise);
            line.losses.emplace_back("hard", 0.6);
            line.gradient_norm = 1.0 + noise;
            line.learning_rate = 1e-5 * noise;
            line.images_per_second = 20.0 + noise;
            line.wait_share = noise;
            line.more = {{"distance_positive", noise}, {"distance_negative", 1.0 - noise}};
            lines.push_back(line);
        }
        lines[12'345].losses[0].second = 9.0;  // of dml
        lines[12'346].losses[0].second = 0.25;
        lines[23'456].losses[0].second = not_a_number;
        const std::string svg = curves_svg(lines);
        CHECK(svg.size() < 300'000);
        CHECK(svg.size() > 20'000);
        CHECK(is_well_formed(svg));
        const std::size_t points = points_of(svg, "raw s0");
        CHECK(points > 400);  // two for each of about 282 spots
        CHECK(points <= 564);
        double top = plot_height, bottom = 0, x_of_top = 0, x_before = -1;
        bool ordered = true;
        for (const auto& piece : pieces_of(svg, "raw s0")) {
            for (const Place& p : piece) {
                if (p.y < top) top = p.y, x_of_top = p.x;
                bottom = std::max(bottom, p.y);
                ordered = ordered && p.x >= x_before;
                x_before = p.x;
            }
        }
        CHECK(ordered);
        const double high = 9.0 * 1.05;
        CHECK(std::abs(high * (1 - top / plot_height) - 9.0) < 0.01);
        CHECK(std::abs(high * (1 - bottom / plot_height) - 0.25) < 0.01);
        CHECK(std::abs(x_of_top - plot_width * 12'346 / 50'000) <= 0.051);
        CHECK(count_of(svg, "class=\"bad\"") == 1);  // one bad value among 50 000 is seen
    }

    TEST_CASE("curves_svg: very many panels stay small too, with fewer points each") {
        std::vector<LogLine> lines;
        for (std::int64_t i = 0; i < 9'000; ++i) {
            LogLine line = line_at(i % 1'000 + 1, 1.0, fmt::format("stage{}", i / 1'000));
            for (int k = 0; k < 9; ++k) {
                const double noise = std::fmod(static_cast<double>(i * (k + 1)) * 0.618034, 1.0);
                line.more.emplace_back(fmt::format("quantity{}", k), noise);
            }
            lines.push_back(line);
        }
        const std::string svg = curves_svg(lines);
        CHECK(svg.size() < 300'000);
        CHECK(is_well_formed(svg));
        const std::size_t points = points_of(svg.substr(svg.find(">quantity0<")), "raw s0");
        CHECK(points < 564);
        CHECK(points > 60);
    }

    TEST_CASE("curves_svg: logarithmic where the values span more than two decades") {
        const auto svg_of = [](double first, double last) {
            std::vector<LogLine> lines{line_at(1, first), line_at(2, 0.5 * (first + last)),
                                       line_at(3, last)};
            return curves_svg(lines);
        };
        CHECK(test::contains(svg_of(0.01, 1.1), "log scale"));
        CHECK_FALSE(test::contains(svg_of(0.011, 1.0), "log scale"));
        CHECK_FALSE(test::contains(svg_of(-0.01, 1.1), "log scale"));
        CHECK(test::contains(svg_of(0.0, 1.1), ">0.2<"));  // a zero alone: linear
        // A share or a rate never is
        std::vector<LogLine> lines{line_at(1, 1.0), line_at(2, 1.0)};
        lines[0].wait_share = lines[0].images_per_second = 0.001;
        lines[1].wait_share = lines[1].images_per_second = 1.0;
        lines[0].more = {{"triplet_accuracy", 0.001}};
        lines[1].more = {{"triplet_accuracy", 1.0}};
        CHECK_FALSE(test::contains(curves_svg(lines), "log scale"));
        lines[0].gradient_norm = 0.001;
        lines[1].gradient_norm = 1.0;
        CHECK(test::contains(curves_svg(lines), "before clipping, log scale"));
    }

    TEST_CASE("curves_svg: a legend too long for one row takes two") {
        const auto rows_of = [](const NamedNumbers& losses) {
            LogLine line = line_at(1, 0.0);
            line.losses = losses;
            const std::string svg = curves_svg(std::vector<LogLine>{line});
            // Page title, stage and panel come first; the panel's top is 46 + 34
            std::array<std::size_t, 3> rows{};
            for (std::size_t i = 0; i < 3; ++i) {
                const std::array<int, 3> below{33, 29, 42};
                rows[i] = count_of(svg, fmt::format("y=\"{}\">", 80 + below[i]));
            }
            return rows;
        };
        CHECK(rows_of({{"loss", 1.0}, {"soft", 2.0}}) == std::array<std::size_t, 3>{2, 0, 0});
        CHECK(
            rows_of({{"loss", 1.0}, {"the first long part", 2.0}, {"the second long part", 2.0}}) ==
            std::array<std::size_t, 3>{0, 2, 1});
        // More than that is left out of the legend alone
        NamedNumbers many;
        for (int i = 0; i < 30; ++i) many.emplace_back(fmt::format("part{}", i), 1.0);
        const auto rows = rows_of(many);
        CHECK(rows[0] == 0);
        CHECK(rows[1] == rows[2]);
        CHECK(rows[1] == 4);
    }

    TEST_CASE("curves_svg: validations are joined dots, however few") {
        std::vector<LogLine> lines;
        for (std::int64_t step = 1; step <= 300; ++step) {
            lines.push_back(line_at(step, 0.5));
            if (step % 10 != 0) continue;
            LogLine validation = line_at(step, 0.0);
            validation.losses.clear();
            validation.more = {{"val_psnr-y601", 20.0 + 0.01 * static_cast<double>(step)}};
            lines.push_back(validation);
        }
        const std::string svg = curves_svg(lines);
        const std::string panel = svg.substr(svg.find("validation: psnr-y601"));
        CHECK(points_of(panel, "line s0") == 30);
        CHECK(pieces_of(panel, "dot s0").size() == 30);
        CHECK(points_of(svg, "raw s0") == 300);  // a validation is no loss of zero
    }

    TEST_CASE("curves_svg: names are escaped, nothing is fetched or run") {
        LogLine line = line_at(1, 0.5, "<script>&\"\x01");
        line.losses.emplace_back("a<b", 1.0);
        line.more = {{"val_x&y", 1.0}};
        const std::string svg = curves_svg(std::vector<LogLine>{line});
        CHECK(is_well_formed(svg));
        CHECK(test::contains(svg, "&lt;script&gt;&amp;&quot; "));
        CHECK(test::contains(svg, "a&lt;b"));
        CHECK(test::contains(svg, "x&amp;y"));
        CHECK_FALSE(test::contains(svg, "<script"));
        CHECK_FALSE(test::contains(svg, "href"));
        CHECK_FALSE(test::contains(svg, "url("));
        CHECK(count_of(svg, "http") == 1);  // the namespace
        CHECK(test::contains(svg, "prefers-color-scheme:dark"));
    }

    TEST_CASE("curves_svg: one line, no line, odd values") {
        CHECK(test::contains(curves_svg({}), "no step is logged yet"));
        CHECK(is_well_formed(curves_svg({})));
        const std::string one = curves_svg(std::vector<LogLine>{line_at(1, 0.5)});
        const auto pieces = pieces_of(one, "dot s0");
        REQUIRE(pieces.size() == 1);
        CHECK(pieces[0].size() == 1);
        CHECK(pieces[0][0].x == plot_width);
        CHECK(pieces[0][0].y == plot_height / 2);
        const double least = std::numeric_limits<double>::denorm_min();
        for (const double value : {0.0, 1e300, -1e300, least, 1e-310}) {
            for (const double other : {value, 0.0, 1.0, -1e308, 1e9 + 1e-7}) {
                CAPTURE(value);
                CAPTURE(other);
                const std::vector<LogLine> lines{line_at(-3, value), line_at(0, other)};
                const std::string svg = curves_svg(lines);
                CHECK(is_well_formed(svg));
                CHECK(points_of(svg, "line s0") == 2);
                CHECK_FALSE(test::contains(svg, "nan"));
                CHECK_FALSE(test::contains(svg, "inf"));
                CHECK(svg.size() < 10'000);
            }
        }
    }

    TEST_CASE("write_curves: from log.jsonl to a file, the order of lines does not matter") {
        const test::TemporaryFolder folder;
        const auto log = folder.path() / "log.jsonl", svg = folder.path() / "curves.svg";
        std::vector<LogLine> lines;
        {
            RunLog run(log, "rsd", 0);
            for (std::int64_t step = 1; step <= 5; ++step) {
                lines.push_back(line_at(step, static_cast<double>(step)));
                run.append(lines.back());
            }
        }
        write_curves(log, svg);
        CHECK(read_file(svg) == curves_svg(lines));
        std::reverse(lines.begin(), lines.end());
        CHECK(read_file(svg) == curves_svg(lines));
        CHECK_THROWS_AS(write_curves(folder.path() / "none.jsonl", svg), Error);
    }
}
