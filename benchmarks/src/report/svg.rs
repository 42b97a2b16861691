//! Charts as SVG: as few elements as show the numbers. A white ground, because a page may be dark.

use std::fmt::Write;

pub(super) struct Bar {
    pub(super) label: String,
    /// One part, or several on top of each other, each with a colour.
    pub(super) parts: Vec<(f64, &'static str)>,
    /// The least and the greatest of the whole.
    pub(super) spread: Option<(f64, f64)>,
    pub(super) text: String,
}

pub(super) struct Line {
    pub(super) label: String,
    pub(super) colour: &'static str,
    pub(super) dashed: bool,
    /// In the order of x.
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const STYLE: &str = "<style>text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}\
                     .title{font-size:16px;font-weight:600}.small{font-size:11.5px;fill:#57606a}</style>";

fn open(height: f64, title: &str, subtitle: &str) -> String {
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n{STYLE}\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"24\" y=\"32\" class=\"title\">{}</text>\n<text x=\"24\" y=\"52\" class=\"small\">{}</text>\n",
        escaped(title),
        escaped(subtitle),
        title = escaped(title),
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Horizontal bars, with their names to the left and their values at their ends.
pub(super) fn bars(title: &str, subtitle: &str, legend: &[(&str, &str)], bars: &[Bar]) -> String {
    const LEFT: f64 = 280.0;
    const ROW: f64 = 28.0;
    const TOP: f64 = 74.0;
    let top = if legend.is_empty() { TOP } else { TOP + 22.0 };
    let most =
        bars.iter().map(|bar| bar.spread.map_or(total(bar), |spread| spread.1.max(total(bar)))).fold(0.0, f64::max);
    let scale = (WIDTH - LEFT - 110.0) / most.max(f64::MIN_POSITIVE);
    let mut svg = open(top + ROW * bars.len() as f64 + 16.0, title, subtitle);
    for (at, (name, colour)) in legend.iter().enumerate() {
        let x = LEFT + 130.0 * at as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"66\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"76.5\" class=\"small\">{name}</text>",
            x + 18.0
        );
    }
    for (at, bar) in bars.iter().enumerate() {
        let y = top + ROW * at as f64;
        let middle = y + 10.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 12.0,
            y + 14.5,
            escaped(&bar.label)
        );
        let mut x = LEFT;
        for (value, colour) in &bar.parts {
            let width = (value * scale).max(1.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" rx=\"2\" fill=\"{colour}\"/>"
            );
            x += width;
        }
        let mut end = x;
        if let Some((least, greatest)) = bar.spread {
            let (from, to) = (LEFT + least * scale, LEFT + greatest * scale);
            end = end.max(to);
            let _ = writeln!(
                svg,
                "<path d=\"M{from:.1} {middle}H{to:.1}M{from:.1} {0}v8M{to:.1} {0}v8\" stroke=\"#24292f\" \
                 stroke-opacity=\".55\" fill=\"none\"/>",
                middle - 4.0
            );
        }
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", end + 8.0, y + 14.5, escaped(&bar.text));
    }
    svg + "</svg>\n"
}

fn total(bar: &Bar) -> f64 {
    bar.parts.iter().map(|part| part.0).sum()
}

/// Lines over logarithmic axes, each with its name at its end.
pub(super) fn lines(title: &str, subtitle: &str, across: &str, lines: &[Line]) -> String {
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = 286.0;
    const TOP: f64 = 76.0;
    const BOTTOM: f64 = 56.0;
    let height = 500.0;
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let (x_least, x_most) = ends(points().map(|point| point.0));
    let (y_least, y_most) = ends(points().map(|point| point.1));
    let (y_least, y_most) = (10_f64.powf(y_least.log10().floor()), y_most * 1.25);
    let place = |value: f64, least: f64, most: f64| (value.ln() - least.ln()) / (most.ln() - least.ln()).max(1e-9);
    let x = |value: f64| LEFT + place(value, x_least, x_most) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| height - BOTTOM - place(value, y_least, y_most) * (height - TOP - BOTTOM);
    let mut svg = open(height, title, subtitle);

    let mut ticks: Vec<f64> = points().map(|point| point.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    for tick in ticks {
        let (x, bottom) = (x(tick), height - BOTTOM);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#eaeef2\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" \
             class=\"small\">{tick}</text>",
            bottom + 18.0
        );
    }
    let mut decade = y_least;
    while decade <= y_most {
        for (step, colour) in [(1.0, "#d0d7de"), (2.0, "#eaeef2"), (5.0, "#eaeef2")] {
            let value = decade * step;
            if value <= y_most {
                let _ = writeln!(
                    svg,
                    "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"{colour}\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\" \
                     class=\"small\">{4}</text>",
                    y(value),
                    WIDTH - RIGHT,
                    LEFT - 8.0,
                    y(value) + 4.0,
                    super::short(value)
                );
            }
        }
        decade *= 10.0;
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" class=\"small\">{across}</text>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        height - 14.0
    );

    // The names keep their distance, and a thin line leads to each whose place was taken.
    let mut names: Vec<(&Line, f64, f64)> = lines
        .iter()
        .filter_map(|line| line.points.last().map(|(last_x, last_y)| (line, x(*last_x), y(*last_y))))
        .collect();
    names.sort_by(|one, two| one.2.total_cmp(&two.2));
    let mut places: Vec<f64> = Vec::new();
    for (_, _, wanted) in &names {
        places.push(places.last().map_or(*wanted, |above| wanted.max(above + 17.0)));
    }
    let over = places.last().map_or(0.0, |last| (last - (height - BOTTOM)).max(0.0));
    for at in (0..places.len()).rev() {
        let below = places.get(at + 1).map_or(f64::MAX, |below| below - 17.0);
        places[at] = (places[at] - if at + 1 == places.len() { over } else { 0.0 }).min(below);
    }
    for ((line, end, wanted), place) in names.iter().zip(&places) {
        let path: Vec<_> = line.points.iter().map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
        let (colour, dash) = (line.colour, if line.dashed { " stroke-dasharray=\"5 4\"" } else { "" });
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" stroke=\"{colour}\" stroke-width=\"2.2\" fill=\"none\"{dash}/>",
            path.join("L")
        );
        for point in &line.points {
            let _ =
                writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(point.0), y(point.1));
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {wanted:.1}L{:.1} {place:.1}\" stroke=\"{colour}\" stroke-opacity=\".5\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:{colour}\">{}</text>",
            end + 5.0,
            WIDTH - RIGHT + 16.0,
            WIDTH - RIGHT + 20.0,
            place + 4.5,
            escaped(&line.label)
        );
    }
    svg + "</svg>\n"
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), value| (least.min(value), most.max(value)))
}
