//! A bar chart as SVG, readable on light and dark pages.

use std::fmt::Write as _;

use super::{Spread, short};

/// Width of the whole in pixels.
const WIDTH: f64 = 860.0;
/// Where bars begin; left of it stand their names.
const LEFT: f64 = 300.0;
/// Room right of the longest bar for its figure.
const RIGHT: f64 = 110.0;
/// Height of a bar with its gap.
const STEP: f64 = 26.0;
/// Height of the title.
const TOP: f64 = 44.0;

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    /// Its name.
    pub(crate) name: String,
    /// Its length, and how far it varied.
    pub(crate) value: Spread,
    /// Whether it stands out.
    pub(crate) is_ours: bool,
}

/// Draws bars below each other, with a thin line from the least to the greatest value of each.
pub(crate) fn bar_chart(title: &str, bars: &[Bar]) -> String {
    let greatest = bars.iter().map(|bar| bar.value.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / greatest;
    #[expect(clippy::cast_precision_loss, reason = "a few bars")]
    let height = TOP + STEP * bars.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\">\n<title>{0}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"15\" font-weight=\"bold\" fill=\"#1b1f24\">{0}</text>\n",
        escaped(title)
    );
    let mut top = TOP;
    for Bar { name, value, is_ours } in bars {
        let (length, middle) = (value.median * scale, top + STEP / 2.0);
        let (low, high) = (LEFT + value.min * scale, LEFT + value.max * scale);
        let colour = if *is_ours { "#0b6e4f" } else { "#9aa5b1" };
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1b1f24\">{}</text>\n\
             <rect x=\"{LEFT:.1}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n\
             <line x1=\"{low:.1}\" y1=\"{middle:.1}\" x2=\"{high:.1}\" y2=\"{middle:.1}\" stroke=\"#1b1f24\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1b1f24\">{}</text>\n",
            LEFT - 8.0,
            middle + 4.5,
            escaped(name),
            top + 4.0,
            STEP - 8.0,
            high.max(LEFT + length) + 8.0,
            middle + 4.5,
            short(value.median),
        );
        top += STEP;
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values_and_text_is_escaped() {
        let bar = |name: &str, median: f64, is_ours| Bar {
            name: name.to_owned(),
            value: Spread { median, min: median, max: median },
            is_ours,
        };
        let svg = bar_chart("a < b & \"c\"", &[bar("one", 100.0, true), bar("half", 50.0, false)]);
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.ends_with("</svg>\n"));
        let full = WIDTH - LEFT - RIGHT;
        assert!(svg.contains(&format!("width=\"{full:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("width=\"{:.1}\"", full / 2.0)), "{svg}");
        assert_eq!(svg.matches("#0b6e4f").count(), 1);
        // As many of each as there are bars, and every element is closed.
        assert_eq!(svg.matches("<line ").count(), 2);
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn a_chart_of_nothing_is_still_a_chart() {
        assert!(bar_chart("nothing", &[]).starts_with("<svg "));
    }
}
